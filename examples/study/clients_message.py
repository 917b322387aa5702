"""The way of a client's message. The channel crashes at order 4 of 10. Which orders are in the book?"""

from __future__ import annotations

from typing import Any

import trio
from attrs import frozen

from channels import Channel, Endpoint, PushReply, Socket, handle_in
from channels.testing import Expected, open_channel_test
from examples.study.lab import show, virtual
from examples.study.picture import squares

CLIENTS = {"no retry": (False, False), "retry": (True, False), "retry with a key": (True, True)}
"""The clients. The first flag is True if the client retries, the second if the shop checks the number of the order."""

book: list[int] = []
"""The book of orders. It outlives the channel."""


class Shop(Channel):
    @handle_in("order")
    async def order(self, payload: dict[str, Any]) -> PushReply:
        await trio.sleep(0.1)
        number = payload["number"]
        if not (payload["keyed"] and number in book):
            book.append(number)
        if book == [1, 2, 3, 4]:
            raise RuntimeError("the printer is on fire")  # after the order is in the book
        return PushReply()


class ShopSocket(Socket):
    channels = {"shop": Shop}


@frozen
class Run:
    answered: list[int]
    book: list[int]

    def __str__(self) -> str:
        answered, book = (" ".join(map(str, each)) for each in (self.answered, self.book))
        return f"answered: {answered:20}  in the book: {book}"


async def run(retries: bool, keyed: bool) -> Run:
    book.clear()
    answered: list[int] = []
    away = trio.Lock()  # the push buffer of the client: pushes wait while it is away
    async with open_channel_test(Endpoint(sockets={"/socket": ShopSocket})) as case:
        client = await case.connect()
        joined = [(await client.join("shop"))[1]]

        async def rejoin() -> None:
            await joined[0].assert_push("phx_error", timeout=10)
            async with away:
                await trio.sleep(1)  # as phoenix.js does
                joined[0] = (await client.join("shop"))[1]

        async def order(number: int) -> None:
            async with away:
                ref = joined[0].push("order", {"number": number, "keyed": keyed})
            try:
                await joined[0].assert_reply(ref, timeout=5)
                answered.append(number)
            except Expected:
                if retries:
                    await order(number)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(rejoin)
            for number in range(1, 11):
                nursery.start_soon(order, number)
                await trio.sleep(0.06)
    return Run(sorted(answered), sorted(book))


def experiment() -> dict[str, Run]:
    return {name: virtual(run, *flags) for name, flags in CLIENTS.items()}


def picture(runs: dict[str, Run]) -> str:
    styles = ("crashed", "untouched", "killed")
    rows = {
        name: [(str(n), styles[run.book.count(n)]) for n in range(1, 11)]
        for name, run in runs.items()
    }
    return squares("Orders in the book", rows, "green: once; red: not at all; violet: twice")


if __name__ == "__main__":
    show(experiment, picture)

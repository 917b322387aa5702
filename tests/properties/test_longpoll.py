"""A polling client gets each broadcast once and in order, for all its requests, and no request breaks the server."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from actors import open_runtime
from channels import Endpoint, Mount
from tests.channels.polling import NDJSON, Asked, Poller, line
from tests.channels.rooms import UserSocket
from tests.channels.support import Server, run_on_virtual_clock, settle

# Each example starts and stops a server.
FEWER = settings(max_examples=max(1, settings().max_examples // 5))

ACTIONS = st.lists(st.sampled_from(["tell", "poll", "leave", "wait", "push"]), max_size=25)


def with_a_poller(body: Callable[[Poller], Awaitable[None]]) -> None:
    """Run `body` with a client that has joined a room."""

    async def main() -> None:
        async with open_runtime(log=False) as runtime:
            endpoint = Endpoint(sockets={"/socket": Mount(UserSocket, longpoll=True)})
            server = Server(endpoint, runtime, await endpoint.start_link(port=None))
            poller = await Poller(server).open()
            await poller.join()
            await body(poller)
            await server.stop()

    run_on_virtual_clock(main)


@FEWER
@given(ACTIONS)
def test_every_message_arrives_once_and_in_order(actions: list[str]) -> None:
    async def body(poller: Poller) -> None:
        told, heard = 0, list[int]()
        held: list[Asked] = []

        def hear() -> None:
            for poll in list(held):
                said = poll.said()
                if said is not None:
                    held.remove(poll)
                    heard.extend(json.loads(message)[4]["n"] for message in said["messages"])

        for action in [*actions, "poll", "wait"]:
            if action == "tell":
                poller.server.endpoint.broadcast("room:a", "told", {"n": told})
                told += 1
            elif action == "push":
                assert await poller.send(("1", None, "room:a", "shout", {"n": told})) == 200
                told += 1
            elif action == "poll":
                held.append(await poller.begin("GET"))
            elif action == "leave" and held:
                hear()
                for poll in held:
                    poll.go()
                held.clear()
            elif action == "wait":
                await trio.sleep(0.5)
            await settle()
            hear()
        assert heard == list(range(told))

    with_a_poller(body)


BODIES = st.one_of(
    st.binary(max_size=100),
    st.lists(st.sampled_from([line(("1", "2", "room:a", "echo")), b"[]", b"AAEC", b"", b"!"])).map(
        b"\n".join
    ),
)


@FEWER
@given(st.lists(st.tuples(BODIES, st.sampled_from([NDJSON, "application/json"])), max_size=5))
def test_any_post_gets_a_valid_answer(posts: list[tuple[bytes, str]]) -> None:
    async def body(poller: Poller) -> None:
        crashes = poller.server.crashes()
        friend = await Poller(poller.server).open()
        await friend.join(ref="7")
        for data, kind in posts:
            answer: Any = await poller.ask("POST", data, ("content-type", kind))
            assert answer.status in {200, 500}
            if answer.status == 200:
                assert json.loads(answer.body)["status"] in {200, 408, 410}
        assert crashes == []
        assert await friend.send(("7", "8", "room:a", "count")) == 200
        assert len(await friend.messages()) == 1

    with_a_poller(body)

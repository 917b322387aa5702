"""Bodies of requests: whole, and within their bounds of size, time and memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from channels.longpoll.requests import Bodies, Body

GONE = {"type": "http.disconnect"}


def piece(body: bytes, *, more: bool = True) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


class Sender:
    """A client that sends its pieces at once, or one after each pause."""

    def __init__(self, pieces: Sequence[dict[str, Any]], *, pause: float = 0.0) -> None:
        self.left = list(pieces)
        self._pause = pause

    async def __call__(self) -> dict[str, Any]:
        await trio.sleep(self._pause)
        return self.left.pop(0) if self.left else await trio.sleep_forever()


async def read(bodies: Bodies, sender: Sender, **how: Any) -> Body | int | None:
    return await bodies.read(sender, **{"max_bytes": 10, "timeout": 5.0, **how})


async def test_a_body_is_read_whole_and_held_until_it_is_done_with() -> None:
    bodies = Bodies()
    body = await read(bodies, Sender([piece(b"abc"), piece(b"de"), piece(b"", more=False)]))
    assert isinstance(body, Body)
    assert bodies.held == 5
    with body:
        assert body.data == b"abcde"
    assert bodies.held == 0


async def test_a_body_of_exactly_the_bound_fits() -> None:
    body = await read(Bodies(), Sender([piece(b"x" * 10, more=False)]))
    assert isinstance(body, Body)
    assert body.data == b"x" * 10


async def test_a_body_that_is_too_big_is_400_once_it_has_been_sent() -> None:
    bodies = Bodies()
    sender = Sender([piece(b"x" * 8), piece(b"x" * 3), piece(b"x" * 1000, more=False)])
    assert await read(bodies, sender) == 400
    assert sender.left == []
    assert bodies.held == 0


async def test_a_body_that_takes_too_long_is_408(autojump_clock: MockClock) -> None:
    bodies = Bodies()
    began = trio.current_time()
    assert await read(bodies, Sender([piece(b"x")] * 100, pause=2)) == 408
    assert trio.current_time() - began == pytest.approx(5)
    assert bodies.held == 0


async def test_a_body_that_is_too_big_and_never_ends_is_400_when_the_time_is_over(
    autojump_clock: MockClock,
) -> None:
    bodies = Bodies()
    assert await read(bodies, Sender([piece(b"x" * 8)] * 100, pause=1)) == 400
    assert trio.current_time() == pytest.approx(5)
    assert bodies.held == 0


async def test_a_client_that_goes_leaves_nothing_behind() -> None:
    bodies = Bodies()
    assert await read(bodies, Sender([piece(b"abc"), GONE])) is None
    assert bodies.held == 0


async def test_bodies_together_are_bounded_and_room_comes_back(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    bodies = Bodies(max_together=15)
    waiting: list[object] = []

    async def wait() -> None:
        waiting.append(await read(bodies, Sender([piece(b"x" * 8)])))

    nursery.start_soon(wait)
    await wait_all_tasks_blocked(0)
    assert bodies.held == 8
    assert await read(bodies, Sender([piece(b"x" * 8, more=False)])) == 503
    assert bodies.held == 8
    await trio.sleep(6)
    assert (waiting, bodies.held) == ([408], 0)
    body = await read(bodies, Sender([piece(b"x" * 8, more=False)]))
    assert isinstance(body, Body)


async def test_cancelling_gives_the_room_back() -> None:
    bodies = Bodies()
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read, bodies, Sender([piece(b"abc")]))
            await wait_all_tasks_blocked()
            assert bodies.held == 3
            scope.cancel()
    assert bodies.held == 0

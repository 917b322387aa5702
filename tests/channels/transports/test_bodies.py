"""Bodies of requests: whole, and within their bounds of size, time and memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from channels.transports.backlog import Backlog
from channels.transports.bodies import Bodies, Body
from channels.wire.fragments import PIECE_OVERHEAD

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


class Reader(Bodies):
    """Read bodies, and count the bytes in memory and the bodies that the backlog gives up."""

    def __init__(self, max_bytes: int = 1_000_000) -> None:
        self.incoming = Backlog(max_bytes=max_bytes)
        self.shed: list[int] = []
        super().__init__(self.incoming, on_shed=self.shed.append)

    @property
    def held(self) -> int:
        return self.incoming.waiting_bytes


async def read(bodies: Bodies, sender: Sender, **how: Any) -> Body | int | None:
    return await bodies.read(sender, **{"max_bytes": 10, "timeout": 5.0, **how})


async def test_a_body_is_read_whole_and_held_until_it_is_done_with() -> None:
    bodies = Reader()
    body = await read(bodies, Sender([piece(b"abc"), piece(b"de"), piece(b"", more=False)]))
    assert isinstance(body, Body)
    assert bodies.held == 5
    with body:
        assert body.data == b"abcde"
    assert bodies.held == 0


async def test_a_body_of_exactly_the_bound_fits() -> None:
    body = await read(Reader(), Sender([piece(b"x" * 10, more=False)]))
    assert isinstance(body, Body)
    assert body.data == b"x" * 10


async def test_a_body_that_is_too_big_is_413_once_it_has_been_sent() -> None:
    bodies = Reader()
    sender = Sender([piece(b"x" * 8), piece(b"x" * 3), piece(b"x" * 1000, more=False)])
    assert await read(bodies, sender) == 413
    assert sender.left == []
    assert bodies.held == 0


async def test_a_body_that_takes_too_long_is_408(autojump_clock: MockClock) -> None:
    bodies = Reader()
    began = trio.current_time()
    assert await read(bodies, Sender([piece(b"x")] * 100, pause=2)) == 408
    assert trio.current_time() - began == pytest.approx(5)
    assert bodies.held == 0


async def test_a_body_that_is_too_big_and_never_ends_is_413_when_the_time_is_over(
    autojump_clock: MockClock,
) -> None:
    bodies = Reader()
    assert await read(bodies, Sender([piece(b"x" * 8)] * 100, pause=1)) == 413
    assert trio.current_time() == pytest.approx(5)
    assert bodies.held == 0


async def test_a_client_that_goes_leaves_nothing_behind() -> None:
    bodies = Reader()
    assert await read(bodies, Sender([piece(b"abc"), GONE])) is None
    assert bodies.held == 0


async def test_beyond_the_limit_the_largest_body_is_503_and_others_go_on(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    bodies = Reader(1000 + 3 * PIECE_OVERHEAD)
    outcomes: dict[str, object] = {}

    async def wait(name: str, sender: Sender) -> None:
        outcomes[name] = await read(bodies, sender, max_bytes=10_000)

    nursery.start_soon(wait, "large", Sender([piece(b"x" * 600), *[piece(b"x")] * 9], pause=0.1))
    nursery.start_soon(
        wait, "small", Sender([piece(b"x" * 300), piece(b"", more=False)], pause=0.2)
    )
    await trio.sleep(0.25)
    assert bodies.held == 900 + 3 * PIECE_OVERHEAD + 1
    nursery.start_soon(wait, "middle", Sender([piece(b"x" * 500), GONE], pause=0.01))
    await trio.sleep(0.1)
    assert bodies.shed == [601]
    assert outcomes == {"middle": None}
    assert bodies.held == 300 + PIECE_OVERHEAD
    await trio.sleep(10)
    assert outcomes["large"] == 503
    assert isinstance(outcomes["small"], Body)
    assert bodies.held == 300


async def test_a_whole_body_is_not_given_up_while_it_is_handled(nursery: trio.Nursery) -> None:
    bodies = Reader(15 + PIECE_OVERHEAD)
    whole = await read(bodies, Sender([piece(b"x" * 10, more=False)]))
    assert isinstance(whole, Body)
    with whole:
        assert await read(bodies, Sender([piece(b"x" * 8, more=False)])) == 503
        assert (bodies.held, bodies.shed) == (10, [8])
    assert bodies.held == 0
    body = await read(bodies, Sender([piece(b"x" * 8, more=False)]))
    assert isinstance(body, Body)


async def test_a_body_in_tiny_pieces_counts_what_the_pieces_need(nursery: trio.Nursery) -> None:
    bodies = Reader(50 * PIECE_OVERHEAD)
    sender = Sender([*[piece(b"x")] * 100, piece(b"", more=False)])
    assert await read(bodies, sender, max_bytes=1000) == 503


async def test_a_body_of_another_node_counts_whole_or_does_not_fit() -> None:
    bodies = Reader(100)
    with bodies.holding(60) as fits:
        assert fits
        assert bodies.held == 60
        with bodies.holding(41) as fits_too:
            assert not fits_too
        assert bodies.held == 60
    assert bodies.held == 0


async def test_cancelling_gives_the_room_back() -> None:
    bodies = Reader()
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read, bodies, Sender([piece(b"abc")]))
            await wait_all_tasks_blocked()
            assert bodies.held == 3 + PIECE_OVERHEAD
            scope.cancel()
    assert bodies.held == 0

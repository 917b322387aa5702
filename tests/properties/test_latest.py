"""Values that may be dropped: each client gets a part of what was sent, in order, with the newest value of each key."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.transports.backlog import Backlog
from channels.transports.contract import Event, Signal
from channels.transports.latest import LatestTotals
from channels.transports.out_buffer import RESERVED_STEP, OutBuffer

KEYS = "abcd"
MAX_VALUES = 3
MAX_MESSAGES = 128
MAX_BYTES = 40_000
LARGE = 3000
# Enough for one value of each key.
MAX_LATEST_BYTES = len(KEYS) * (LARGE + 10)

# Some frames in a row: the key of values or None for ordinary frames, the size, and their number.
frames = st.tuples(
    st.one_of(st.none(), *map(st.just, KEYS)),
    st.integers(1, 40) | st.just(LARGE),
    st.integers(1, 3) | st.just(100),
)
# A number is room in the socket for so many bytes.
steps = st.lists(st.one_of(frames, frames, st.integers(0, 20_000)), max_size=100)


class Client:
    """A client behind a socket that takes a few bytes at a time. It plays the flusher and the writing task."""

    def __init__(self, *, limits: LatestTotals, backlog: Backlog | None, polls: bool) -> None:
        self.told: list[Event] = []
        self.marked = False
        self.polls = polls
        self.out = OutBuffer(
            self,
            tell=self.told.append,
            max_messages=MAX_MESSAGES,
            max_bytes=MAX_BYTES,
            backlog=backlog,
            latest=limits,
        )
        self.room = 0
        self.bytes = b""
        self.out.on_write = (self._wrote,)
        self.frames_written = 0

    def mark(self, _: OutBuffer) -> None:
        assert not self.marked
        self.marked = True

    def limit_unsent(self, _: OutBuffer) -> None:
        pass

    def _wrote(self, size: int, frames: int) -> None:
        self.frames_written += frames

    def write(self, room: int) -> None:
        """Write as a socket with this much room takes it, or answer a poll."""
        out = self.out
        if self.polls:
            if room > 200:
                messages = out.messages
                self.bytes += b"".join(messages)
                out.drop(len(messages))
            out.stall()
            self.marked = False
            return
        if self.marked:
            self.marked = False
            number, data = out.waiting, out.take()
            self.frames_written += number
            self.bytes += data[:room]
            if room < len(data):
                out.hold(memoryview(data)[room:])
            room = max(0, room - len(data))
        while out.rest and room:
            sent = min(room, len(out.rest))
            self.bytes += bytes(out.rest[:sent])
            out.progress(sent)
            room -= sent


def frame(number: int, key: str | None, size: int) -> bytes:
    return b"%d%s%s;" % (number, (key or "-").encode(), b"." * size)


def parsed(data: bytes) -> list[tuple[str, int]]:
    frames = [each.rstrip(b".").decode() for each in data.split(b";") if each]
    return [(each[-1], int(each[:-1])) for each in frames]


@pytest.mark.parametrize("polls", [False, True])
@pytest.mark.parametrize("limited", [False, True])
@given(steps=steps, with_backlog=st.booleans())
def test_a_client_gets_a_part_of_what_was_sent_in_order_with_the_newest_value_of_each_key(
    polls: bool, limited: bool, steps: list[Any], with_backlog: bool
) -> None:
    backlog = Backlog(max_bytes=1 << 24) if with_backlog else None
    limits = LatestTotals(
        max_values=MAX_VALUES if limited else len(KEYS), max_bytes=MAX_LATEST_BYTES
    )
    client = Client(limits=limits, backlog=backlog, polls=polls)
    out = client.out
    sent: list[tuple[str, int]] = []
    ordinary = ordinary_bytes = 0
    # In a turn of a client that keeps up, values that do not fit into their own bounds take half of the other room.
    few = MAX_MESSAGES // (2 if limited else 64)
    for step in steps:
        if isinstance(step, int):
            client.write(step)
            continue
        key, size, count = step
        for _ in range(count):
            number = len(sent)
            if key is None:
                ordinary += 1
                ordinary_bytes += size + 10
                out.put(frame(number, None, size))
            else:
                out.put_latest(("topic", "event", key), frame(number, key, size))
            sent.append((key or "-", number))
        statistics = out.statistics()
        # Some values before the client is behind, and one for each key.
        assert statistics.waiting_messages <= ordinary + few + statistics.latest_values
        assert statistics.latest_values <= limits.max_values
        assert statistics.latest_bytes <= min(MAX_LATEST_BYTES, statistics.waiting_bytes)
        if out.reserved:
            unused = out.reserved - statistics.waiting_bytes
            assert 0 <= unused <= RESERVED_STEP
            assert out.reserved <= MAX_BYTES + MAX_LATEST_BYTES + RESERVED_STEP
    for _ in range(3):
        client.write(1 << 20)
    if out.statistics().overflowed:
        assert ordinary > MAX_MESSAGES - few or ordinary_bytes > MAX_BYTES // 2
        return
    assert set(client.told) == ({Signal.LATEST_DROPPED} if limits.dropped else set())
    received = parsed(client.bytes)
    everything = iter(sent)
    assert all(each in everything for each in received), "a part of what was sent, in order"
    assert [each for each in received if each[0] == "-"] == [
        each for each in sent if each[0] == "-"
    ], "no ordinary frame is dropped"
    assert len(received) == len(sent) - limits.replaced - limits.dropped
    assert limited or not limits.dropped
    if not limits.dropped:
        assert dict(received) == dict(sent), "the newest value of each key"
    assert client.frames_written == len(received)
    assert out.statistics().latest_bytes == 0
    if backlog is not None:
        assert backlog.waiting_bytes == 0

"""Values in an out-buffer that newer values replace: their order, their bounds and their counters."""

from __future__ import annotations

import socket
import ssl
from typing import Any

import trio
import trio.testing

from channels.transports.backlog import Backlog
from channels.transports.contract import Event, Signal
from channels.transports.latest import LatestStatistics, LatestTotals
from channels.transports.out_buffer import RESERVED_STEP, Flusher, OutBuffer
from channels.transports.stream_transport import StreamWriter
from tests.channels.transports.sockets import local_pair, socket_pair

MAX_MESSAGES = 64


class Behind:
    """The out-buffer of a client whose socket is full, and its writer."""

    def __init__(self, *, backlog: Backlog | None = None, **limits: int) -> None:
        self.told: list[Event] = []
        self.unsent_limited = 0
        self.totals = LatestTotals(**{"max_values": 1024, "max_bytes": 48 * 1024, **limits})
        self.out = OutBuffer(
            self,
            tell=self.told.append,
            max_messages=MAX_MESSAGES,
            max_bytes=100_000,
            backlog=backlog,
            latest=self.totals,
        )
        self.out.put(b"x")
        self.out.hold(self.out.take())

    def mark(self, _: OutBuffer) -> None:
        pass

    def limit_unsent(self, _: OutBuffer) -> None:
        self.unsent_limited += 1

    def value(self, key: Any, frame: bytes) -> None:
        self.out.put_latest(("map", "position", str(key)), frame)

    def read(self) -> bytes:
        """Read what the server has begun to write."""
        data = bytes(self.out.rest)
        self.out.progress(len(data))
        return data

    def read_all(self) -> bytes:
        found = b""
        while self.out.rest:
            found += self.read()
        return found

    @property
    def counts(self) -> LatestStatistics:
        return self.totals.statistics()


def test_a_newer_value_replaces_the_waiting_one_and_keeps_the_order_of_sending() -> None:
    client = Behind()
    client.value("bus", b"a")
    client.value("tram", b"b")
    client.out.put(b"c")
    client.value("bus", b"d")
    assert client.read_all() == b"xbcd"
    assert client.counts == LatestStatistics(1, 0)


def test_values_with_another_topic_event_or_key_stay() -> None:
    client = Behind()
    for key in (("a", "e", "k"), ("b", "e", "k"), ("a", "f", "k"), ("a", "e", "l")):
        client.out.put_latest(key, b"v")
    assert client.out.statistics().latest_values == 4
    assert client.read_all() == b"xvvvv"


def test_a_client_that_keeps_up_gets_every_value() -> None:
    client = Behind()
    client.read_all()
    client.value("bus", b"a")
    assert client.out.take() == b"a"
    client.value("bus", b"b")
    assert client.out.take() == b"b"
    assert client.counts == LatestStatistics(0, 0)


def test_many_values_in_one_turn_do_not_overflow_the_buffer_of_a_client_that_keeps_up() -> None:
    client = Behind()
    client.read_all()
    for number in range(1000):
        client.value("bus", b"%d;" % number)
    assert client.out.take() == b"0;999;"
    for _ in range(1000):
        client.value("bus", b"y" * 60_000)
    assert len(client.out.take()) == 120_000
    assert client.told == []


def test_a_client_that_keeps_up_gets_more_keys_in_one_turn_than_may_wait() -> None:
    client = Behind(max_values=4)
    client.read_all()
    for key in range(30):
        client.value(key, b"%d;" % key)
    assert client.told == []
    assert client.out.take() == b"".join(b"%d;" % key for key in range(30))
    # Half of the room stays free for other frames.
    for key in range(100):
        client.value(key, b"v")
    for _ in range(MAX_MESSAGES // 2):
        client.out.put(b"o")
    assert client.told == [Signal.LATEST_DROPPED]
    assert client.out.statistics().waiting_messages == MAX_MESSAGES


def test_a_client_that_keeps_up_gets_more_bytes_in_one_turn_than_may_wait() -> None:
    client = Behind(max_bytes=100)
    client.read_all()
    client.value("first", b"f")
    for key in "abcde":
        client.value(key, key.encode() * 60)
    client.value("a", b"A" * 90)
    client.value("f", b"f" * 60_000)
    assert client.told == [Signal.LATEST_DROPPED], "the last value is larger than half of the room"
    others = b"".join(key * 60 for key in (b"b", b"c", b"d", b"e"))
    assert client.out.take() == b"f" + others + b"A" * 90
    assert client.counts == LatestStatistics(1, 1)


def test_a_value_is_replaced_correctly_after_a_part_of_the_frames_has_left() -> None:
    client = Behind()
    large = {key: key.encode() * 3000 for key in "abcdef"}
    for key, frame in large.items():
        client.value(key, frame)
    client.read()
    assert len(client.out.rest) == 9000, "the writer takes few values at a time"
    statistics = client.out.statistics()
    assert (statistics.latest_values, statistics.latest_bytes) == (3, 9000)
    client.value("a", b"A")
    client.value("e", b"E")
    assert client.out.statistics().latest_bytes == 6002
    # So many that the gaps are closed.
    for number in range(200):
        client.value("A", b"%03d" % number)
    client.value("f", b"F")
    statistics = client.out.statistics()
    assert (statistics.waiting_messages, statistics.latest_bytes) == (5, 3000 + 3 + 3)
    received = client.read_all()
    assert received == b"".join(large[key] for key in "abcd") + b"AE199F"
    assert client.out.statistics().waiting_messages == 0
    assert client.out.statistics().latest_bytes == 0


def test_replaced_values_do_not_count_as_written_or_waiting() -> None:
    client = Behind()
    written: list[tuple[int, int]] = []
    client.out.on_write = (lambda size, frames: written.append((size, frames)),)
    for key in "abacde":
        client.value(key, key.encode() * 3000)
    client.read()
    assert written == [(9000, 3)]
    assert client.out.statistics().waiting_messages == 2


def test_replaced_values_leave_no_memory_behind() -> None:
    client = Behind(backlog=Backlog(max_bytes=10_000_000))
    for number in range(10_000):
        client.value(number % 20, b"%04d" % number)
    client.out.put(b"!")
    statistics = client.out.statistics()
    assert (statistics.waiting_messages, statistics.waiting_bytes) == (21, 20 * 4 + 2)
    assert statistics.latest_values == 20
    assert client.out.reserved <= RESERVED_STEP + 1
    assert len(client.out._frames) <= 200
    # After the gaps were closed.
    client.value(19, b"last")
    assert client.read_all() == b"x" + b"".join(b"%04d" % n for n in range(9980, 9999)) + b"!last"
    assert client.out.reserved == 0


def test_the_bytes_of_a_large_value_that_was_replaced_are_free_for_other_clients() -> None:
    backlog = Backlog(max_bytes=10_000_000)
    client = Behind(backlog=backlog)
    client.value("a", b"a" * 5_000_000)
    assert backlog.waiting_bytes == 5_000_001
    client.value("a", b"b")
    assert backlog.waiting_bytes == client.out.reserved == RESERVED_STEP + 2
    for _ in range(MAX_MESSAGES):
        client.out.put(b"o" * 1560)
    assert client.told == []
    assert client.read_all() == b"xb" + b"o" * 1560 * MAX_MESSAGES
    assert backlog.waiting_bytes == 0


def test_dropped_values_are_reported_once_until_the_client_has_all_frames() -> None:
    client = Behind(max_values=1)
    client.value("a", b"a" * 9000)
    client.value("b", b"b")
    client.out.put(b"c" * 9000)
    client.read()
    assert len(client.out.rest) == 9000, "no value waits any more, but a frame does"
    client.value("a", b"a")
    client.value("b", b"b")
    assert client.told == [Signal.LATEST_DROPPED]
    client.read_all()
    client.out.put(b"x")
    client.out.hold(client.out.take())
    client.value("a", b"a")
    client.value("b", b"b")
    assert client.told == [Signal.LATEST_DROPPED] * 2


def test_beyond_the_bound_on_values_a_new_key_is_dropped_and_reported_once() -> None:
    client = Behind(max_values=2)
    for key in "abcdc":
        client.value(key, key.encode())
    client.value("a", b"A")
    assert client.told == [Signal.LATEST_DROPPED]
    assert client.counts == LatestStatistics(1, 3)
    assert client.read_all() == b"xbA"
    client.out.put(b"x")
    client.out.hold(client.out.take())
    for key in "abc":
        client.value(key, key.encode())
    assert client.told == [Signal.LATEST_DROPPED] * 2, "again after the client had all frames"


def test_beyond_the_bound_on_bytes_a_value_is_dropped_and_the_waiting_one_stays() -> None:
    client = Behind(max_bytes=100)
    client.value("a", b"a" * 60)
    client.value("b", b"b" * 50)
    client.value("a", b"A" * 90)
    client.value("b", b"B" * 10)
    client.value("a", b"C" * 91)
    assert client.counts == LatestStatistics(1, 2)
    assert client.read_all() == b"x" + b"A" * 90 + b"B" * 10


def test_a_single_value_may_have_any_size() -> None:
    client = Behind(max_bytes=100)
    client.value("a", b"a" * 50_000)
    client.value("a", b"b" * 50_000)
    assert client.counts == LatestStatistics(1, 0)
    assert client.read_all() == b"x" + b"b" * 50_000


def test_a_value_that_does_not_fit_into_the_backlog_is_dropped_and_closes_nobody() -> None:
    backlog = Backlog(max_bytes=RESERVED_STEP + 100)
    clients = [Behind(backlog=backlog) for _ in range(3)]
    for client in clients:
        client.value("a", b"a" * 80)
    assert [each.counts.dropped for each in clients] == [0, 1, 1]
    assert [each.told for each in clients] == [[], [Signal.LATEST_DROPPED], [Signal.LATEST_DROPPED]]
    assert backlog.statistics().shed == 0


def test_values_take_no_room_from_other_frames() -> None:
    client = Behind(backlog=Backlog(max_bytes=10_000_000))
    for number in range(1000):
        client.value(number, b"v" * 45)
    for _ in range(MAX_MESSAGES):
        client.out.put(b"o" * 1560)
    assert client.told == []
    assert client.out.statistics().waiting_messages == 1000 + MAX_MESSAGES
    client.out.put(b"o")
    assert client.told == [Signal.OVERFLOW]


def test_a_closed_buffer_refuses_values() -> None:
    client = Behind()
    client.value("a", b"a")
    client.out.finish(b"last", lambda: None)
    client.value("a", b"b")
    client.value("b", b"b")
    assert client.out.statistics().dropped_messages == 2
    assert client.read_all() == b"xalast"
    client.out.close()
    client.value("a", b"a")
    assert client.out.statistics().waiting_messages == 0
    assert client.unsent_limited == 1


def test_after_a_failed_write_or_a_shed_buffer_nothing_refers_to_the_values() -> None:
    for end in ("fail", "shed", "close"):
        client = Behind()
        client.value("a", b"a")
        if end == "fail":
            client.out.fail(OSError())
        else:
            getattr(client.out, end)()
        client.value("a", b"b")
        assert client.out.statistics().latest_bytes == 0
        assert client.out.statistics().waiting_messages == 0


def test_values_that_a_poll_may_have_delivered_stay_in_their_place() -> None:
    client = Behind()
    client.value("a", b"a")
    client.value("b", b"b")
    client.value("a", b"A")
    assert client.out.messages == [b"b", b"A"]
    client.out.keep_values()
    client.value("a", b"2")
    client.value("a", b"3")
    client.out.drop(2)
    assert client.out.messages == [b"3"]


def unsent_limit(sock: socket.socket) -> int:
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT)


def test_the_kernel_takes_few_bytes_in_advance_after_the_first_value_for_a_plain_socket() -> None:
    with socket_pair() as (ours, _):
        out = OutBuffer(Flusher(spawn=print), tell=print, target=ours)
        out.put(b"frame")
        assert unsent_limit(ours) != 16384
        out.put_latest(("map", "position", "bus"), b"value")
        assert unsent_limit(ours) == 16384


async def test_the_kernel_takes_few_bytes_in_advance_below_tls() -> None:
    with socket_pair() as (ours, _):
        plain = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
        stream = trio.SSLStream(plain, ssl.create_default_context(), server_hostname="test")
        out = OutBuffer(StreamWriter(stream), tell=print)
        out.put_latest(("map", "position", "bus"), b"value")
        assert unsent_limit(ours) == 16384
        await plain.aclose()


def test_other_sockets_and_streams_have_no_such_limit() -> None:
    with local_pair() as (ours, _):
        for out in (
            OutBuffer(Flusher(spawn=print), tell=print, target=ours),
            OutBuffer(StreamWriter(trio.testing.MemorySendStream()), tell=print),
        ):
            out.put_latest(("map", "position", "bus"), b"value")
            assert out.take() == b"value"

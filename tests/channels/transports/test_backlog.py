"""The limit on the bytes of all out-buffers together, and the clients that the server closes to keep it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from channels.transports.backlog import Backlog
from channels.transports.contract import Event, Signal
from channels.transports.out_buffer import RESERVED_STEP, Flusher, OutBuffer

KB = 1024


class Slow:
    """A client that is behind. Its last write left `rest` bytes unwritten."""

    def __init__(self, backlog: Backlog, rest: int, *, max_bytes: int = 1024 * KB) -> None:
        self.told: list[Event] = []
        self.out = OutBuffer(
            Flusher(spawn=print), tell=self.told.append, max_bytes=max_bytes, backlog=backlog
        )
        if rest:
            self.out.hold(b"x" * rest)

    @property
    def waiting(self) -> int:
        return self.out.statistics().waiting_bytes


def test_frames_of_a_client_that_keeps_up_do_not_count() -> None:
    backlog = Backlog(max_bytes=1)
    prompt = Slow(backlog, 0)
    for _ in range(3):
        prompt.out.put(b"x" * KB)
        prompt.out.put(b"x" * KB)
        prompt.out.take()
    assert backlog.statistics().waiting_bytes == 0
    assert prompt.told == []


def test_the_bytes_of_a_client_that_is_behind_count_until_they_are_written() -> None:
    backlog = Backlog(max_bytes=1024 * KB)
    slow = Slow(backlog, 5 * KB)
    assert backlog.statistics().waiting_bytes == 5 * KB
    slow.out.put(b"x" * 3 * KB)
    assert backlog.statistics().waiting_bytes == 5 * KB + RESERVED_STEP
    slow.out.progress(5 * KB)
    slow.out.progress(3 * KB)
    statistics = backlog.statistics()
    assert (statistics.behind, statistics.waiting_bytes, statistics.shed) == (0, 0, 0)


def test_a_client_that_stays_behind_but_reads_is_never_given_up() -> None:
    slow = Slow(Backlog(max_bytes=100 * KB), 10 * KB, max_bytes=40 * KB)
    for _ in range(20):
        slow.out.put(b"x" * 10 * KB)
        slow.out.progress(10 * KB)
    assert slow.told == []
    assert slow.waiting == 10 * KB


def test_beyond_the_limit_the_largest_buffer_is_shed_and_no_other() -> None:
    backlog = Backlog(max_bytes=100 * KB)
    small, large, middle = (Slow(backlog, size * KB) for size in (10, 40, 30))
    for _ in range(2):
        large.out.put(b"x" * 10 * KB)
    small.out.put(b"x" * 20 * KB)
    assert large.told == [Signal.SHED]
    assert small.told == middle.told == []
    assert large.waiting == 40 * KB, "the started write stays, and the frames after it are gone"
    assert large.out.statistics().dropped_messages == 2
    assert backlog.statistics().shed == 1


def test_clients_are_shed_until_a_sixteenth_of_the_limit_is_free() -> None:
    backlog = Backlog(max_bytes=160 * KB)
    slow = [Slow(backlog, KB) for _ in range(9)]
    for each in slow:
        each.out.put(b"x" * 16 * KB)
        each.out.put(b"x" * KB)
    shed = [each for each in slow if each.told]
    assert 1 <= len(shed) < len(slow)
    assert backlog.waiting_bytes <= 160 * KB


def test_a_buffer_that_exceeds_the_limit_itself_is_shed_by_its_own_put() -> None:
    backlog = Backlog(max_bytes=20 * KB)
    slow = Slow(backlog, 10 * KB)
    slow.out.put(b"x" * 15 * KB)
    slow.out.put(b"x")
    assert slow.told == [Signal.SHED]
    assert slow.out.statistics().waiting_messages == 0
    assert slow.out.statistics().dropped_messages == 2
    assert backlog.waiting_bytes == 10 * KB


def test_a_shed_client_still_gets_its_started_write_and_the_last_frame() -> None:
    backlog = Backlog(max_bytes=20 * KB)
    slow = Slow(backlog, 10 * KB)
    slow.out.put(b"x" * 15 * KB)
    finished: list[bool] = []
    slow.out.finish(b"bye", lambda: finished.append(True))
    slow.out.progress(10 * KB)
    assert bytes(slow.out.rest) == b"bye"
    slow.out.progress(3)
    slow.out.written()
    assert finished == [True]
    assert backlog.statistics().waiting_bytes == 0


def test_a_client_that_is_closing_loses_all_frames_except_the_last_without_a_report() -> None:
    backlog = Backlog(max_bytes=100 * KB)
    closing = Slow(backlog, 10 * KB)
    closing.out.put(b"x" * 50 * KB)
    closing.out.finish(b"bye", lambda: None)
    other = Slow(backlog, 60 * KB)
    assert closing.told == other.told == []
    assert closing.waiting == 10 * KB + 3
    assert backlog.statistics().shed == 0


def test_a_client_that_closes_or_fails_releases_its_bytes() -> None:
    backlog = Backlog(max_bytes=100 * KB)
    one, other = Slow(backlog, 10 * KB), Slow(backlog, 20 * KB)
    one.out.put(b"x")
    one.out.close()
    one.out.close()
    other.out.fail(OSError())
    statistics = backlog.statistics()
    assert (statistics.behind, statistics.waiting_bytes) == (0, 0)


def test_the_frames_of_a_polling_client_count_while_no_poll_takes_them() -> None:
    backlog = Backlog(max_bytes=100 * KB)
    polling = Slow(backlog, 0)
    polling.out.put(b"x" * KB)
    polling.out.stall()
    assert backlog.waiting_bytes == KB
    polling.out.put(b"x" * KB)
    polling.out.drop(1)
    assert backlog.waiting_bytes == KB
    polling.out.drop()
    assert backlog.statistics().behind == 0


def test_started_writes_beyond_the_limit_give_up_their_clients_once() -> None:
    backlog = Backlog(max_bytes=60 * KB)
    slow = [Slow(backlog, 40 * KB) for _ in range(4)]
    small = Slow(backlog, KB)
    assert [each.told for each in (*slow[1:], small)] == [[Signal.SHED]] * 4
    assert slow[0].told == [Signal.SHED]
    statistics = backlog.statistics()
    assert (statistics.behind, statistics.shed) == (5, 5)
    assert statistics.waiting_bytes == 161 * KB, "a client cannot read half a frame"
    for each in (*slow, small):
        each.out.close()
    assert backlog.statistics().waiting_bytes == backlog.statistics().behind == 0


def test_a_write_that_ends_after_the_close_changes_no_count() -> None:
    backlog = Backlog(max_bytes=100 * KB)
    slow, other = Slow(backlog, 10 * KB), Slow(backlog, KB)
    slow.out.close()
    slow.out.progress(10 * KB)
    assert backlog.waiting_bytes == KB
    assert other.out.reserved == KB


actions = st.tuples(
    st.integers(0, 2),
    st.sampled_from(["put", "write", "progress", "finish", "close", "fail"]),
    st.integers(1, 40_000),
)


@given(st.lists(actions, max_size=40))
def test_the_backlog_counts_the_waiting_bytes_and_only_started_writes_exceed_its_limit(
    steps: list[tuple[int, str, int]],
) -> None:
    limit = 60_000
    backlog = Backlog(max_bytes=limit)
    slow = [Slow(backlog, 0, max_bytes=50_000) for _ in range(3)]
    for which, step, size in steps:
        out = slow[which].out
        if step == "put":
            out.put(b"x" * size)
        elif step == "progress" and out.rest:
            out.progress(min(size, len(out.rest)))
        elif step == "write" and not out.statistics().catching_up:
            data = out.take()
            if data[size:]:
                out.hold(data[size:])
        elif step == "finish" and out.finished is None:
            out.finish(b"", lambda: None)
        elif step == "close":
            out.close()
        elif step == "fail":
            out.fail(OSError())
        behind = [each for each in slow if each.out.reserved]
        assert backlog.waiting_bytes == sum(each.out.reserved for each in slow)
        assert backlog.statistics().behind == len(behind)
        for each in slow:
            used = each.waiting if each in behind else 0
            assert used <= each.out.reserved <= used + RESERVED_STEP
            assert each.told.count(Signal.SHED) <= 1
        started = sum(len(each.out.rest) for each in behind)
        assert backlog.waiting_bytes <= max(limit, started)


class Incoming:
    """A client with an incomplete message."""

    def __init__(self, backlog: Backlog, size: int) -> None:
        self.reserved = 0
        self.is_shed = False
        self._backlog = backlog
        backlog.replace(self, size)

    def shed(self) -> bool:
        self._backlog.replace(self, 0)
        self.is_shed = True
        return True


def test_a_new_size_counts_in_place_of_the_earlier_one() -> None:
    backlog = Backlog(max_bytes=100)
    client = Incoming(backlog, 60)
    backlog.replace(client, 80)
    assert backlog.waiting_bytes == 80
    assert backlog.has_room(20)
    assert not backlog.has_room(21)
    backlog.replace(client, 0)
    assert (backlog.waiting_bytes, backlog.statistics().behind) == (0, 0)


def test_without_memory_the_largest_give_up_a_quarter_of_the_bytes() -> None:
    backlog = Backlog(max_bytes=10_000 * KB)
    clients = [Incoming(backlog, size * 10 * KB) for size in (10, 50, 20, 60, 60)]
    assert backlog.relieve()
    assert [each.is_shed for each in clients] == [False, False, False, True, False]
    assert backlog.relieve()
    assert [each.is_shed for each in clients] == [False, False, False, True, True]


def test_without_memory_and_without_waiting_bytes_there_is_nothing_to_give_up() -> None:
    backlog = Backlog(max_bytes=1000 * KB)
    assert not backlog.relieve()
    client = Incoming(backlog, 64 * KB)
    assert backlog.relieve()
    assert client.is_shed
    assert not backlog.relieve()


def test_without_memory_clients_with_few_bytes_are_kept() -> None:
    backlog = Backlog(max_bytes=10_000 * KB)
    small = [Incoming(backlog, size) for size in (1, 70, 64 * KB - 1)]
    large = Incoming(backlog, 64 * KB)
    assert backlog.relieve()
    assert large.is_shed
    assert not backlog.relieve()
    assert not any(each.is_shed for each in small)
    assert backlog.statistics().behind == 3

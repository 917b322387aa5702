"""The parts of a live run. Together they contain the whole run, and no part repeats another."""

from typing import Any

import pytest

from supervision.recording.reader.history import read_history
from supervision.recording.reader.live import MAX_MORE, PART, LiveRun
from supervision.recording.reader.measures import measure
from supervision.recording.reader.page import page_data
from tests.supervision.laboratory.chaos.traces import CRASH, HandMade

CHANNEL = "/endpoint/channels/1/RoomChannel"


class Viewer:
    """A page that follows a live run, as the program in the browser does."""

    def __init__(self) -> None:
        self.processes: dict[int, list[Any]] = {}
        self.faults: dict[int, list[Any]] = {}
        self.measures: dict[int, Any] = {}
        self.messages: list[Any] = []
        self.marks: list[Any] = []
        self.texts: list[str] = []
        self.parts = 0

    def take(self, part: dict[str, Any]) -> None:
        assert ("first" in part) == (self.parts == 0)
        self.parts += 1
        self.texts += part["texts"]
        self.processes.update(part["processes"])
        self.faults.update({index: row for index, row, _ in part["faults"]})
        self.measures.update({index: figures for index, _, figures in part["faults"]})
        self.messages += part["messages"]
        self.marks += part["marks"]

    def follow(self, run: LiveRun) -> None:
        while True:
            part = run.part(seconds=1.0)
            self.take(part)
            if "more" not in part:
                return

    def readable(self, rows: Any) -> Any:
        """Return rows with texts in place of their indices, because two runs may order their texts differently."""
        return [self._process(row) for row in rows]

    def _process(self, row: list[Any]) -> list[Any]:
        texts = [None if row[at] in (None, -1) else self.texts[row[at]] for at in (0, 6, 12)]
        return [*texts, *(each for at, each in enumerate(row) if at not in (0, 6, 12))]


def busy_day() -> HandMade:
    trace = HandMade()
    trace.add(
        0, "recording", pid=None, began=5.0, why="asked", seconds=1.0, contents=True, receives=False
    )
    trace.spawned(0, 1, "/endpoint")
    trace.spawned(0, 2, CHANNEL, parent=1)
    trace.add(0.1, "joined", pid=2, channel="RoomChannel", topic="room:lobby", result="ok")
    trace.sent(0.2, 2, "a secret")
    trace.fault(1, "kill it", pid=2, path=CHANNEL, type="kill")
    trace.exited(1, 2, CRASH, cause=5)
    trace.spawned(2, 3, CHANNEL, parent=1, inc=2)
    trace.add(2.1, "joined", pid=3, channel="RoomChannel", topic="room:other", result="ok")
    trace.spawned(2, 4, CHANNEL, parent=1, inc=3)
    trace.add(3.1, "joined", pid=4, channel="RoomChannel", topic="room:lobby", result="ok")
    trace.add(3.2, "gave_up", pid=1, id="'till'", component="till", child=9)
    return trace


def test_the_parts_of_a_run_are_the_whole_run_wherever_it_is_cut() -> None:
    lines = busy_day().lines
    history = read_history(lines)
    whole = page_data(history, measure(history))
    reader = Viewer()
    reader.texts = whole["texts"]
    expected = reader.readable(whole["processes"])
    for cut in range(len(lines) + 1):
        run, page = LiveRun(began=5.0), Viewer()
        for some in (lines[:cut], lines[cut:]):
            run.take(some)
            page.follow(run)
        assert page.readable(page.processes.values()) == expected
        assert list(page.faults) == [0]
        assert page.faults[0][5] == whole["faults"][0][5] == [1]
        assert page.measures[0] == whole["measures"]["faults"][0]
        assert len(page.messages) == len(whole["messages"]) == 1
        assert len(page.marks) == len(whole["marks"]) == 1


def test_a_channel_is_named_by_its_class_and_topic_and_replaced_by_the_same_topic() -> None:
    endpoint, lobby, other, again = read_history(busy_day().lines).processes
    assert (endpoint.title, endpoint.path) == ("", "/endpoint")
    assert (lobby.title, lobby.path) == (
        "RoomChannel room:lobby",
        "/endpoint/channels/1/RoomChannel",
    )
    assert lobby.back is again
    assert other.title == "RoomChannel room:other"


def test_a_process_below_a_channel_has_the_name_of_the_channel_in_its_path() -> None:
    trace = busy_day()
    trace.spawned(4, 5, f"{CHANNEL}/timer", parent=4)
    assert read_history(trace.lines).processes[-1].path == (
        "/endpoint/channels/1/RoomChannel/timer"
    )


def crash_again_and_again(times: int) -> HandMade:
    """Channels that crash and are joined again, each in another part than the one before it."""
    trace = HandMade()
    trace.spawned(0, 1, "/endpoint")
    for pid in range(2, times + 2):
        trace.spawned(pid, pid, CHANNEL, parent=1)
        trace.add(
            pid, "joined", pid=pid, channel="RoomChannel", topic=f"room:{pid % 450}", result="ok"
        )
        trace.exited(pid + 0.5, pid, CRASH)
    return trace


@pytest.mark.parametrize("times", [450, 2 * PART, 5 * PART + 7])
def test_a_part_names_only_processes_that_have_arrived(times: int) -> None:
    lines = crash_again_and_again(times).lines
    run, page = LiveRun(began=0.0), Viewer()
    for some in (lines[: len(lines) // 2], lines[len(lines) // 2 :]):
        run.take(some)
        while True:
            part = run.part(seconds=1.0)
            assert len(part["processes"]) <= PART
            page.take(part)
            arrived = len(page.processes)
            assert max(page.processes) == arrived - 1
            assert all(row[2] < arrived and row[8] < arrived for _, row in part["processes"])
            if "more" not in part:
                break
    history = read_history(lines)
    whole = page_data(history, measure(history))
    assert [page.processes[index][8] for index in range(times + 1)] == [
        row[8] for row in whole["processes"]
    ]


def test_a_part_repeats_nothing() -> None:
    run, page = LiveRun(began=0.0), Viewer()
    run.take(busy_day().lines)
    page.follow(run)
    quiet = run.part(seconds=7.0)
    assert quiet == {
        "seconds": 7.0,
        **{name: [] for name in ("processes", "faults", "messages", "marks", "texts")},
    }


def test_a_large_run_comes_in_bounded_parts() -> None:
    trace = HandMade()
    for pid in range(1, 3 * PART):
        trace.spawned(0, pid, f"/{pid}")
    run, page = LiveRun(began=0.0), Viewer()
    run.take(trace.lines)
    page.follow(run)
    assert page.parts == 3
    assert len(page.processes) == 3 * PART - 1


@pytest.mark.parametrize("contents", [True, False])
def test_contents_are_shown_only_if_asked_for(contents: bool) -> None:
    run, page = LiveRun(began=0.0, contents=contents), Viewer()
    run.take(busy_day().lines)
    page.follow(run)
    assert ("'a secret'" in page.texts) == contents


def test_a_run_that_has_grown_by_too_much_says_so() -> None:
    run, page = LiveRun(began=0.0), Viewer()
    run.take(busy_day().lines)
    page.follow(run)
    assert not run.is_full
    trace = HandMade()
    for number in range(MAX_MORE + 1):
        trace.spawned(0, number + 10, "/worker")
    run.take(trace.lines)
    assert run.is_full

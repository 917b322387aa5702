"""Text, page, observer and metrics give the same figures of the same recording."""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import inf
from typing import Any

import pytest
import trio
from attrs import frozen

from actors import GenServer, cast, current_runtime, kill, send, spawn, whereis
from channels.operations.recorded_recovery import Found, Totals, incidents_of
from supervision import Supervisor, child_spec
from supervision.chaos import At, DropMessage, Kill, Raise
from supervision.laboratory.story.text import write_text
from supervision.recording.flight import FlightRecorder
from supervision.recording.reader.figures import figures_of
from supervision.recording.reader.history import read_history
from supervision.recording.reader.live import LiveRun
from supervision.recording.reader.measures import measure
from supervision.recording.reader.model import StoryModel
from supervision.recording.reader.page import page_data
from supervision.recording.reader.story import tell_story
from supervision.simulation import World, simulate
from tests.simulation.fault_scenarios import STORM, busy
from tests.simulation.node_scenarios import heartbeats
from tests.supervision.laboratory.chaos.traces import CRASH, KILLED, HandMade
from tests.supervision.laboratory.story.staged import STAGED, play, snapshot


@frozen(kw_only=True)
class Figures:
    """The figures of one recording.

    Attributes:
        deaths: each process that ended in an incident, with the time of its end and its replacement, if there is one.
        lost: the number of lost messages.
        answers: the number of lost answers.
        rejoined: for each client that came back, the seconds since the fault.
        restarted: for each incident with a restart, the seconds until the last one.
    """

    deaths: dict[Any, tuple[float, Any]]
    lost: int
    answers: int
    rejoined: list[float]
    restarted: list[float]


def of_story(story: StoryModel) -> Figures:
    deaths = [death for incident in story.incidents for death in incident.deaths]
    figures = figures_of(story)
    return Figures(
        deaths={
            (each.process.node, each.process.pid): (
                round(each.t, 3),
                None if each.back is None else (each.back.node, each.back.pid),
            )
            for each in deaths
        },
        lost=figures.messages_lost,
        answers=figures.answers_lost,
        rejoined=figures.rejoined.values,
        restarted=figures.restarted.values,
    )


def numbers(pattern: str, text: str) -> list[float]:
    return [float(found) for found in re.findall(pattern, text)]


def rows_of(data: dict[str, Any], deaths: Sequence[Any]) -> dict[Any, tuple[float, Any]]:
    """Return the end and the replacement of these processes, as the rows of a page show them."""
    rows = data["processes"]
    keys = {(row[11], row[10]): row for row in rows}
    found = {}
    for key in deaths:
        ended, back = keys[key][4], keys[key][8]
        found[key] = round(ended / 1000, 3), None if back < 0 else (rows[back][11], rows[back][10])
    return found


def live_data(lines: list[bytes]) -> dict[str, Any]:
    """Return the rows of a page that follows the run, in pieces of 50 lines."""
    run = LiveRun(began=0.0)
    rows: dict[int, Any] = {}
    faults: dict[int, Any] = {}
    for start in range(0, len(lines), 50):
        run.take(lines[start : start + 50])
        part: dict[str, Any] = {"more": True}
        while "more" in part:
            part = run.part(seconds=1.0)
            rows |= dict(part["processes"])
            faults |= {index: measured for index, _, measured in part["faults"]}
    return {"processes": [rows[index] for index in sorted(rows)], "faults": faults}


def check(lines: list[bytes], found: list[Found]) -> Figures:
    """Compare the figures of all readers of a recording. `found` are the incidents for the metrics."""
    story = tell_story(lines)
    figures = of_story(story)
    keys = list(figures.deaths)

    text = write_text(story, lines=100_000)
    recoveries = "\n".join(line for line in text.splitlines() if "recovery:" in line)
    assert sum(numbers(r"(\d+) messages?\b", recoveries)) == figures.lost
    assert numbers(r"restarted after ([\d.]+) s", recoveries) == pytest.approx(
        figures.restarted, abs=0.001
    )
    lost = sum(numbers(r"lost: (\d+) messages? ", text))
    assert lost == figures.lost
    assert sum(numbers(r"(\d+) answers? lost", recoveries)) == figures.answers
    not_back = sum(numbers(r"(\d+) process(?:es)? not back", recoveries))
    not_rejoined = sum(numbers(r"(\d+) clients? not joined again", recoveries))

    history = read_history(lines)
    page = page_data(history, measure(history))
    measures = page["measures"]
    processes = measures["processes"]
    assert processes["ended_by_faults"] + processes["troubled"] == len(keys)
    back = [back for _, back in figures.deaths.values() if back is not None]
    assert measures["recovery"]["count"] == len(back)
    assert measures["recovery"]["not_back"] == len(keys) - len(back)
    assert measures["messages"]["lost"] == figures.lost
    assert measures["messages"]["answers_lost"] == figures.answers
    recovery = measures["recovery"]
    assert (recovery["missing"], recovery["not_rejoined"]) == (not_back, not_rejoined)
    assert rows_of(page, keys) == figures.deaths

    live = live_data(lines)
    assert rows_of(live, keys) == figures.deaths
    assert [live["faults"][index] for index in sorted(live["faults"])] == measures["faults"]

    totals = Totals()
    totals.take(found, inf)
    counted = {name: value for name, labels, value in totals.figures() if not labels}
    assert counted["ashtree_recovery_incidents_total"] == len(story.incidents)
    assert counted["ashtree_recovery_messages_lost_total"] == figures.lost
    assert counted["ashtree_recovery_answers_lost_total"] == figures.answers
    assert counted["ashtree_recovery_rejoined_seconds_count"] == len(figures.rejoined)
    assert counted["ashtree_recovery_rejoined_seconds_sum"] == pytest.approx(sum(figures.rejoined))
    assert counted["ashtree_recovery_restarted_seconds_count"] == len(figures.restarted)
    assert counted["ashtree_recovery_restarted_seconds_sum"] == pytest.approx(
        sum(figures.restarted)
    )
    return figures


def check_trace(lines: list[bytes]) -> Figures:
    incidents = read_history(lines).incidents
    return check(
        lines,
        [Found(each.fault.event, each.fault.t, each.recovery, each.away) for each in incidents],
    )


@pytest.mark.parametrize("name", STAGED)
def test_all_readers_of_a_recording_agree(name: str) -> None:
    check(play(name), incidents_of(snapshot(name, messages=False)))


@pytest.mark.parametrize("name", STAGED)
def test_all_readers_of_a_recording_with_receives_agree(name: str) -> None:
    check_trace(play(name, receives=True))


@pytest.mark.parametrize("seed", range(3))
def test_all_readers_of_a_chaos_run_agree(seed: int) -> None:
    figures = check_trace(simulate(busy, seed, faults=STORM).trace)
    assert figures.deaths


def test_all_readers_agree_about_the_loss_of_a_node() -> None:
    outcome = simulate(heartbeats, 0)
    figures = check_trace(outcome.trace)
    assert figures.deaths


class Sink(GenServer[int]):
    """A server that takes its time for each message."""

    async def init(self) -> None:
        self.state = 0

    async def handle_cast(self, message: Any) -> None:
        await trio.sleep(0.5)
        if message == "boom":
            raise RuntimeError("boom")


async def sinks(world: World) -> None:
    """A server that gets a cast every tenth of a second, and a second server that ends in order."""
    children = [child_spec(Sink, id=name, kwargs={"name": name}) for name in ("first", "second")]
    await Supervisor.start(children, strategy="rest_for_one", label="top")
    for number in range(20):
        await trio.sleep(0.1)
        if whereis("first") is not None:
            cast("first", f"cast {number}")


@pytest.mark.parametrize(
    ("fault", "deaths"),
    [
        (DropMessage(target="/top/first", when=At(0.35)), 0),
        (Kill(target="/top/first", when=At(0.95)), 2),
        (Raise(target="/top/first", when=At(0.95)), 2),
        (Kill(target="/top/second", when=At(0.95)), 1),
        (Kill(target="/top", when=At(0.95)), 3),
    ],
)
def test_all_readers_agree_about_a_planned_fault(fault: Any, deaths: int) -> None:
    figures = check_trace(simulate(sinks, 1, faults=[fault]).trace)
    assert len(figures.deaths) == deaths


# The right figures, where the readers disagreed


def test_a_message_that_a_fault_dropped_is_lost() -> None:
    figures = check_trace(
        simulate(sinks, 1, faults=[DropMessage(target="/top/first", when=At(0.35))]).trace
    )
    assert figures.lost == 1


def test_the_messages_of_a_process_that_ended_in_order_are_discarded_and_not_lost() -> None:
    trace = HandMade()
    trace.spawned(0, 1, "/a")
    trace.sent(1, 1, "unread")
    trace.exited(2, 1, "Reason.NORMAL")
    late = {"via": "info", "message_kind": "late", "message": "'late'"}
    trace.add(3, "dead_letter", pid=None, to="<pid 1>", to_pid=1, **late)
    trace.add(3, "dead_letter", pid=None, to="'nobody'", to_pid=None, **late)
    assert check_trace(trace.lines).lost == 0
    messages = measure(read_history(trace.lines)).messages
    assert (messages.lost, messages.discarded) == (0, 3)


def test_a_recording_without_received_events_has_its_unread_messages_on_the_page() -> None:
    measures = measure(read_history(play("brutal_kill")))
    assert measures.messages.in_mailboxes == 2


def test_a_process_that_ends_with_a_linked_one_loses_no_message_that_it_had_handled() -> None:
    trace = HandMade()
    trace.spawned(0, 1, "/a")
    trace.spawned(0, 2, "/b")
    trace.received(1, 2, cause=trace.sent(1, 2, "done"))
    heard = trace.received(2, 1, cause=trace.sent(2, 1, "deadly"))
    end = trace.exited(2, 1, CRASH, cause=heard)
    signal = trace.signal(2, 1, 2, CRASH, linked=True, cause=end)
    trace.exited(2, 2, CRASH, cause=signal)
    figures = check_trace(trace.lines)
    assert (len(figures.deaths), figures.lost) == (2, 1)


def test_each_message_of_a_full_mailbox_is_lost() -> None:
    lines: list[bytes] = []
    found: list[Found] = []

    async def scenario(world: World) -> None:
        recorder = FlightRecorder(current_runtime())
        pid = spawn(trio.sleep_forever)
        for number in range(80):
            send(pid, number)
        kill(pid)
        await trio.sleep(1)
        lines.extend(recorder.lines())
        found.extend(incidents_of(recorder.snapshot(messages=False)))
        recorder.close()

    simulate(scenario, seed=1).check()
    assert check(lines, found).lost == 80


def test_the_processes_of_a_killed_node_end_in_an_incident_of_the_story() -> None:
    trace = HandMade()
    trace.spawned(0, 1, "/top", node="a", host="a")
    trace.add(1, "node_killed", node="a", host="a", power=False)
    trace.spawned(3, 1, "/top", node="a#2", host="a", inc=2)
    figures = check_trace(trace.lines)
    assert figures.deaths == {("a", 1): (1, ("a#2", 1))}
    (incident,) = tell_story(trace.lines).incidents
    assert incident.fault.text == "the node a was killed"


def test_a_process_of_another_node_is_no_replacement() -> None:
    trace = HandMade()
    trace.spawned(0, 1, "/top", node="a", host="a")
    trace.exited(1, 1, KILLED)
    msgs = trace.lines.pop().replace(b'"pid":1', b'"pid":1,"node":"a"')
    trace.lines.append(msgs)
    trace.spawned(2, 1, "/top", node="b", host="b")
    assert check_trace(trace.lines).deaths == {("a", 1): (1, None)}


def joins(*clients: tuple[float, int, int, str]) -> HandMade:
    """Channels of one topic: the time of each join, the channel, its connection, and the id of its socket."""
    trace = HandMade()
    for pid in sorted({connection for _, _, connection, _ in clients}):
        trace.spawned(0, pid, f"/connection {pid}")
    for t, pid, connection, client in clients:
        trace.spawned(t, pid, "/channels/Channel", inc=pid)
        about: dict[str, Any] = {"topic": "a", "channel": "Room", "result": "ok", "seconds": 0.0}
        if client:
            about["client"] = client
        trace.add(t, "joined", pid=pid, connection_pid=connection, **about)
        if t == 0:
            trace.exited(1, pid, CRASH)
            told = {"topic": "a", "event": "phx_error", "channel": pid}
            trace.add(1, "client_told", pid=connection, **told)
    return trace


@pytest.mark.parametrize("client", ["ann", ""])
def test_a_channel_is_back_when_its_own_client_has_joined_again(client: str) -> None:
    other = "ben" if client else ""
    trace = joins((0, 10, 1, client), (2, 11, 2, other), (3, 12, 1, client))
    figures = check_trace(trace.lines)
    assert figures.deaths == {(0, 10): (1, (0, 12))}
    assert figures.rejoined == [2]


@pytest.mark.parametrize("receives", [False, True])
def test_the_processes_below_a_supervisor_that_a_crash_stops_end_in_the_incident(
    receives: bool,
) -> None:
    lines: list[bytes] = []

    async def scenario(world: World) -> None:
        recorder = FlightRecorder(current_runtime(), receives=receives)
        children = [child_spec(Sink, id=name, kwargs={"name": name}) for name in ("one", "two")]
        branch = Supervisor.child_spec(children, id="branch")
        first = child_spec(Sink, id="first", kwargs={"name": "first"})
        await Supervisor.start([first, branch], strategy="rest_for_one", label="top")
        await trio.sleep(1)
        cast("first", "boom")
        await trio.sleep(2)
        lines.extend(recorder.lines())
        recorder.close()

    simulate(scenario, seed=1).check()
    figures = check_trace(lines)
    # The crashed server, the branch and its two servers, each with its replacement.
    assert len(figures.deaths) == 4
    assert all(back is not None for _, back in figures.deaths.values())
    assert "/top/branch, with 2 processes below it" in write_text(tell_story(lines))


def test_an_orderly_end_long_after_a_fault_does_not_belong_to_the_fault() -> None:
    endings = [
        death
        for incident in tell_story(play("connection_killed")).incidents
        for death in incident.deaths
    ]
    assert {death.t for death in endings} == {1.0}

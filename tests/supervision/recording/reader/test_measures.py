import msgspec
import pytest

from supervision.recording.reader.figures import percentile
from supervision.recording.reader.history import read_history
from supervision.recording.reader.measures import Measures, measure
from tests.supervision.laboratory.chaos.traces import CRASH, KILLED, NORMAL, HandMade


def measured(trace: HandMade) -> Measures:
    return measure(read_history(trace.lines))


def three_faults() -> HandMade:
    """A kill that also ends a neighbour, a crash without a recovery, and a fault that was not applied."""
    trace = HandMade()
    trace.spawned(0, 1, "/top")
    trace.spawned(0, 2, "/top/a", parent=1)
    trace.spawned(0, 3, "/top/b", parent=1)
    trace.spawned(0, 4, "/c")
    kill = trace.fault(1, "kill /top/a", pid=2, path="/top/a")
    end = trace.exited(1, 2, KILLED, cause=kill)
    trace.exited(1, 3, KILLED, cause=end)
    trace.spawned(1.25, 5, "/top/a", parent=1, inc=2)
    trace.child(1.25, "child_restarted", 5, "a")
    trace.spawned(1.5, 6, "/top/b", parent=1, inc=2)
    trace.child(1.5, "child_restarted", 6, "b")
    crash = trace.fault(2, "crash /c", pid=4, path="/c", type="crash")
    trace.exited(2, 4, CRASH, cause=crash)
    trace.fault(9, "kill /d", status="not_applicable", why="there was no such process")
    return trace


def test_a_fault_is_measured_by_its_blast_radius_and_recovery_time() -> None:
    kill, crash, inert = measured(three_faults()).faults
    assert (kill.ended, kill.took_along) == (2, ["/top/b"])
    assert (kill.target_back, kill.all_back, kill.not_back) == (0.25, 0.5, 0)
    assert (crash.ended, crash.target_back, crash.all_back, crash.not_back) == (1, None, None, 1)
    assert (inert.status, inert.ended, inert.why) == (
        "not_applicable",
        0,
        "there was no such process",
    )


def test_faults_and_ends_are_counted() -> None:
    measures = measured(three_faults())
    assert (measures.applied, measures.masked, measures.not_applicable) == (2, 0, 1)
    processes = measures.processes
    assert (processes.started, processes.ended, processes.ended_by_faults) == (6, 3, 3)
    assert (processes.crashed, processes.killed, processes.troubled) == (1, 2, 0)
    assert processes.restarted == 2
    assert (measures.blast_median, measures.blast_largest) == (0.0, 1)


def test_times_to_recover_have_a_median_and_a_histogram() -> None:
    recovery = measured(three_faults()).recovery
    assert (recovery.count, recovery.not_back) == (2, 1)
    assert (recovery.median, recovery.p99, recovery.longest) == (0.25, 0.5, 0.5)
    counted = {bucket.up_to: bucket.count for bucket in recovery.histogram if bucket.count}
    assert counted == {0.5: 2}


def test_a_time_on_the_border_of_two_buckets_is_in_the_lower_one() -> None:
    trace = HandMade()
    trace.spawned(0, 1, "/a")
    trace.exited(0, 1, CRASH)
    trace.spawned(20, 2, "/a", inc=2)
    trace.exited(20, 2, CRASH)
    trace.spawned(20.5, 3, "/a", inc=3)
    counted = {b.up_to: b.count for b in measured(trace).recovery.histogram if b.count}
    assert counted == {0.5: 1, None: 1}


def test_a_crash_without_a_fault_is_counted_apart() -> None:
    trace = HandMade()
    trace.spawned(0, 1, "/a")
    trace.exited(1, 1, CRASH)
    measures = measured(trace)
    assert (measures.processes.troubled, measures.processes.ended_by_faults) == (1, 0)
    assert [(each.path, each.ended, each.ended_by_faults) for each in measures.paths] == [
        ("/a", 1, 0)
    ]


def test_messages_are_lost_in_four_ways() -> None:
    trace = HandMade()
    trace.spawned(0, 1, "/a")
    trace.spawned(0, 2, "/b")
    handled = trace.sent(1, 1, "handled")
    trace.received(1, 1, cause=handled)
    deadly = trace.sent(2, 1, "deadly")
    heard = trace.received(2, 1, cause=deadly)
    trace.sent(2, 1, "unread")
    trace.exited(2, 1, CRASH, cause=heard)
    late = {"via": "info", "message_kind": "late", "message": "'late'"}
    trace.add(3, "dead_letter", pid=None, to="<pid 1>", to_pid=1, **late)
    dropped = trace.sent(4, 2, "dropped")
    trace.fault(4, "drop", pid=2, type="drop_message", message=dropped)
    trace.sent(5, 2, "waiting")
    mail = measured(trace).messages
    assert (mail.in_hand, mail.in_mailboxes, mail.to_the_dead, mail.dropped) == (1, 1, 1, 1)
    assert (mail.sent, mail.received, mail.lost) == (5, 2, 4)
    assert mail.by_kind == {"late": 1, "unread": 1, "deadly": 1, "dropped": 1}


def test_a_delayed_message_is_lost_with_its_receiver() -> None:
    trace = HandMade()
    for pid in (1, 2, 3):
        trace.spawned(0, pid, f"/{pid}")
    held = {}
    for pid, kind in ((1, "hang"), (2, "slow"), (3, "slow")):
        sent = trace.sent(1, pid, f"to {pid}")
        heard = trace.received(1, pid, cause=sent)
        held[pid] = trace.fault(1, f"{kind} /{pid}", pid=pid, type=kind, cause=heard)
        kill = trace.fault(2, f"kill /{pid}", pid=pid, cause=held[pid])
        trace.exited(2, pid, KILLED, cause=kill)
    # The first slow callback was cut short, the other one had come to its end before.
    trace.add(2, "fault_over", pid=2, fault_event=held[2], status="masked", why="ended")
    assert measured(trace).messages.by_kind == {"to 1": 1, "to 2": 1}


def test_a_process_that_is_killed_while_it_waits_loses_no_message() -> None:
    trace = HandMade()
    trace.spawned(0, 1, "/a")
    heard = trace.received(1, 1, cause=trace.sent(1, 1, "done"))
    kill = trace.fault(5, "kill /a", pid=1, cause=heard)
    trace.exited(5, 1, KILLED, cause=kill)
    assert measured(trace).messages.lost == 0


def test_messages_unread_when_the_run_closes_are_not_lost() -> None:
    trace = HandMade()
    trace.spawned(0, 1, "/a")
    trace.sent(1, 1, "unread")
    trace.phases(0, 1, 2, 3)
    trace.exited(4, 1, NORMAL)
    assert measured(trace).messages.lost == 0


def steady(*answers: tuple[float, bool]) -> HandMade:
    trace = HandMade()
    for time, holds in answers:
        problem = {} if holds else {"problem": "4 of 5"}
        trace.add(time, "steady", pid=None, name="all in", holds=holds, **problem)
    return trace


def test_availability_is_the_share_of_time_in_which_a_check_held() -> None:
    trace = steady((0, False), (2, True), (5, False), (6, True))
    trace.phases(0, 4, 8, 12)
    (all_in,) = measured(trace).steady
    assert all_in.availability == pytest.approx(0.9)  # of the ten seconds since it first held
    assert all_in.availability_during == pytest.approx(0.75)
    assert (all_in.outages, all_in.outage_seconds, all_in.longest_outage) == (1, 1, 1)
    assert all_in.holds_at_end


def test_a_check_that_never_held_was_never_available() -> None:
    trace = steady((0, False))
    trace.phases(0, 1, 2, 3)
    (all_in,) = measured(trace).steady
    assert (all_in.availability, all_in.availability_during) == (0, 0)
    assert not all_in.holds_at_end
    assert all_in.problem == "4 of 5"


def test_problems_say_what_went_wrong_once() -> None:
    trace = steady((0, True), (3, False))
    trace.add(4, "invariant", pid=None, name="one leader", problem="2 leaders")
    trace.add(5, "problem", pid=None, problem="the scenario raised")
    trace.add(5, "problem", pid=None, problem="the scenario raised")
    assert measured(trace).problems == [
        "the steady state 'all in' did not hold at the end: 4 of 5",
        "the invariant 'one leader' was broken at 4 s: 2 leaders",
        "the scenario raised",
    ]


def test_the_figures_are_json_and_can_be_read_again() -> None:
    measures = measured(three_faults())
    assert msgspec.json.decode(measures.to_json(), type=Measures) == measures


@pytest.mark.parametrize(
    ("values", "share", "wanted"),
    [
        ([], 0.5, None),
        ([3.0], 0.5, 3.0),
        ([4.0, 1.0, 3.0, 2.0], 0.5, 2.0),
        ([1.0, 2.0, 3.0], 0.5, 2.0),
        ([float(n) for n in range(1, 101)], 0.99, 99.0),
        ([1.0, 2.0], 1.0, 2.0),
        ([1.0, 2.0], 0.0, 1.0),
    ],
)
def test_a_percentile_is_one_of_the_values(
    values: list[float], share: float, wanted: float | None
) -> None:
    assert percentile(values, share) == wanted


def test_a_run_in_which_nothing_happened_has_figures_too() -> None:
    measures = measured(HandMade())
    assert (measures.seconds, measures.problems, measures.recovery.median) == (0, [], None)

import io

from rich.console import Console

from supervision.laboratory.chaos.live.outcome import LiveOutcome
from supervision.laboratory.chaos.reports.table import print_report
from tests.supervision.laboratory.chaos.traces import CRASH, KILLED, HandMade, live_outcome


def printed(told: LiveOutcome) -> str:
    file = io.StringIO()
    print_report(told, Console(file=file, width=120, color_system=None))
    return file.getvalue()


def test_the_report_has_the_faults_and_their_effects() -> None:
    trace = HandMade()
    trace.spawned(0, 1, "/top/room [red]")
    kill = trace.fault(1.5, "kill", pid=1, path="/top/room [red]")
    trace.exited(1.5, 1, KILLED, cause=kill)
    trace.spawned(1.75, 2, "/top/room [red]", inc=2)
    for number in range(7):
        trace.fault(9, f"kill /b{number}", status="not_applicable", why="there was no such process")
    text = printed(live_outcome(trace))
    assert "1.50 s" in text
    assert "top/room [red]" in text
    assert "250 ms" in text
    assert "7 of 8 faults were not applied: 7 because there was no such process\n" in text
    assert "/b0" not in text
    assert "1 applied, 0 masked, 7 not applicable" in text
    assert "shop:day, seed 7: no problem was found, but the scenario has no steady state" in text


def test_the_report_mentions_recovery_only_with_a_steady_state() -> None:
    trace = HandMade()
    trace.add(1.0, "steady", pid=None, name="all serve", holds=True)
    assert "shop:day, seed 7: the steady state came back." in printed(live_outcome(trace))


def test_the_report_has_no_availability_during_faults_that_never_began() -> None:
    trace = HandMade()
    trace.add(0.0, "phase", pid=None, phase="before")
    trace.add(1.0, "steady", pid=None, name="all serve", holds=True)
    assert "100.00% of the time since it first held, and no faults began" in printed(
        live_outcome(trace)
    )
    trace.add(5.0, "phase", pid=None, phase="during")
    trace.add(6.0, "phase", pid=None, phase="after")
    assert "100.00% during the faults" in printed(live_outcome(trace))


def test_the_report_has_the_problems() -> None:
    text = printed(live_outcome(HandMade(), problems=("nobody [came] back",), interrupted=True))
    assert "✗ nobody [came] back" in text
    assert "shop:day, seed 7: failed. The run ended early." in text


def test_the_report_shows_the_faults_with_the_largest_blast_radius() -> None:
    trace = HandMade()
    for pid in range(1, 101):
        trace.spawned(0, pid, f"/{pid}")
    for pid in range(1, 61):
        trace.fault(pid, "kill", pid=pid, path=f"/{pid}")
        trace.exited(pid, pid, CRASH)
    wide = trace.fault(70, "kill", pid=61, path="/wide")
    trace.exited(70, 61, KILLED, cause=wide)
    trace.exited(70, 62, KILLED, cause=wide)
    text = printed(live_outcome(trace))
    assert "/wide" in text
    assert "... 21 more" in text


def test_the_report_has_the_lag_of_the_loop_and_the_answers_to_clients() -> None:
    trace = HandMade()
    lags = [[0.05 * tick, 0.5 if tick < 5 else 0.001] for tick in range(20)]
    trace.add(1.0, "loop_lag", pid=None, late_after=0.1, max_late_share=0.1, lags=lags)
    for seconds, status in ((0.25, "answered"), (1.5, "answered"), (2.0, "unanswered")):
        fields = {"client": "7", "began": 0.0, "seconds": seconds, "within": 1.0, "status": status}
        trace.add(2.0, "request", pid=None, name="new_msg", **fields)
    limits = {"max_wait_share": 0.1, "max_load": 2.0}
    trace.add(2.0, "machine", pid=None, seconds=8.0, waited=2.0, load=None, **limits)
    text = printed(live_outcome(trace, overloaded=True, problems=("overloaded: too busy",)))
    assert "median 1 ms, p99 500 ms, longest 500 ms; 25.0% of the time over 100 ms" in text
    assert "waited for a processor: 25.0% of the time; load average per core: unknown" in text
    assert "requests: new_msg" in text
    assert "33.33% of 3 in time, 1 late, 1 not answered; median 250 ms" in text
    assert "0 of 1" in text
    assert "shop:day, seed 7: overloaded, so this run says nothing about recovery" in text
    assert "came back" not in text

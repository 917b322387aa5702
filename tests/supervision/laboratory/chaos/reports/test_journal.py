"""The journal of a live run, in the format of the Chaos Toolkit."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio.testing

from actors import GenServer, Reply
from supervision import Supervisor, child_spec
from supervision.chaos import Kill, Phases, Raise, Slow, live, toolkit_journal
from supervision.laboratory.chaos.faults.kinds import ExitWith, Fault, HalfOpen, SkewClock
from supervision.laboratory.chaos.faults.moments import At, On
from supervision.laboratory.chaos.faults.report import FaultReport
from supervision.laboratory.chaos.live import service
from tests.supervision.laboratory.chaos.traces import KILLED, HandMade, live_outcome

BEGAN = 1_800_000_000.0


def journal(trace: HandMade, **fields: Any) -> dict[str, Any]:
    made = toolkit_journal(live_outcome(trace, **fields), node="staging-1", platform="Linux")
    # Test the journal after a round trip through JSON, because its readers get JSON.
    decoded: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(made))
    return decoded


def begun() -> HandMade:
    """Return a trace of a run whose faults begin at second 5. `ended` adds their end at second 25."""
    trace = HandMade()
    trace.add(0.0, "recording", pid=None, began=BEGAN, why="experiment", receives=True)
    trace.add(0.0, "phase", pid=None, phase="before")
    trace.add(1.0, "steady", pid=None, name="all serve", holds=True)
    trace.add(5.0, "steady_state", pid=None, phase="before", holds=True, problems={})
    trace.add(5.0, "phase", pid=None, phase="during")
    return trace


def ended(trace: HandMade, **problems: str) -> HandMade:
    trace.add(25.0, "phase", pid=None, phase="after")
    trace.add(25.0, "heal", pid=None)
    more = {"phase": "after", "holds": not problems, "problems": problems}
    trace.add(30.0, "steady_state", pid=None, **more)
    trace.add(31.0, "phase", pid=None, phase="closing")
    return trace


def seconds_of(text: str) -> float:
    return datetime.fromisoformat(text).timestamp() - BEGAN


OVERLOADED = {"overloaded": True, "problems": ("overloaded: too busy",)}


@pytest.mark.parametrize(
    ("fields", "status", "deviated"),
    [
        ({}, "completed", False),
        ({"interrupted": True}, "interrupted", False),
        ({"problems": ("nobody came back",)}, "failed", True),
        ({"problems": ("nobody came back",), "interrupted": True}, "interrupted", True),
        ({"problems": ("it raised",), "error": ValueError("no")}, "aborted", True),
        (OVERLOADED, "interrupted", False),
        ({**OVERLOADED, "error": ValueError("no")}, "aborted", False),
    ],
)
def test_the_verdict_decides_status_and_deviation(
    fields: dict[str, Any], status: str, deviated: bool
) -> None:
    made = journal(ended(begun()), **fields)
    assert (made["status"], made["deviated"]) == (status, deviated)


def test_a_run_that_failed_before_its_first_fault_did_not_deviate() -> None:
    trace = HandMade()
    trace.add(0.0, "phase", pid=None, phase="before")
    trace.add(1.0, "steady", pid=None, name="all serve", holds=False, problem="nobody does")
    problems = {"all serve": "nobody does"}
    trace.add(30.0, "steady_state", pid=None, phase="before", holds=False, problems=problems)
    made = journal(trace, problems=("the experiment did not begin",))
    assert (made["status"], made["deviated"]) == ("failed", False)
    assert made["steady_states"]["before"]["steady_state_met"] is False
    assert made["steady_states"]["after"] is None
    assert (made["run"], made["rollbacks"]) == ([], [])


def test_the_steady_states_have_an_entry_for_each_check() -> None:
    trace = begun()
    trace.add(7.0, "steady", pid=None, name="all serve", holds=False, problem="nobody does")
    trace.add(8.0, "steady", pid=None, name="all serve", holds=True)
    states = journal(ended(trace, **{"all serve": "2 of 3 do"}))["steady_states"]
    (before,), (after,) = states["before"]["probes"], states["after"]["probes"]
    assert (before["output"], before["tolerance_met"], before["status"]) == (
        *(True, True),
        "succeeded",
    )
    assert (after["output"], after["tolerance_met"]) == ("2 of 3 do", False)
    assert (states["before"]["steady_state_met"], states["after"]["steady_state_met"]) == (
        *(True, False),
    )
    assert [state["steady_state_met"] for state in states["during"]] == [False, True]
    assert seconds_of(before["end"]) == pytest.approx(5.0)


def test_each_applied_or_masked_fault_has_an_entry_in_the_order_of_time() -> None:
    slow = Slow(target="/top/b", when=At(6.0), seconds=100.0)
    killed = Kill(target="/top/a", when=At(1.0))
    masked = ExitWith(target="/top/a", when=At(1.5), reason="normal")
    missed = Kill(target="/nowhere", when=At(2.0))
    trace = begun()
    trace.spawned(0, 1, "/top/a")
    number = trace.fault(6.0, "kill", pid=1, path="/top/a")
    trace.exited(6.0, 1, KILLED, cause=number)
    trace.spawned(6.25, 2, "/top/a", inc=2)
    reports = (
        FaultReport(fault=slow, status="applied", seconds=11.0, where="/top/b#1"),
        FaultReport(fault=killed, status="applied", seconds=6.0, where="/top/a#1", event=number),
        FaultReport(fault=masked, status="masked", seconds=6.5, where="/top/a#2", why="it ended"),
        FaultReport(fault=missed, status="not_applicable", why="there was no such process"),
    )
    made = journal(ended(trace), faults=(slow, killed, masked, missed), fault_reports=reports)
    first, second, third = made["run"]
    assert first["activity"]["provider"]["arguments"] == {
        "fault": {"type": "kill", "target": "/top/a"}
    }
    assert (first["status"], first["duration"]) == ("succeeded", 0.0)
    assert seconds_of(first["start"]) == pytest.approx(6.0)
    assert first["output"]["ended"] == 1
    assert first["output"]["all_back"] == pytest.approx(0.25)
    assert (second["status"], second["exception"]) == ("failed", ["masked: it ended"])
    # The delay ended with the end of all faults.
    assert third["duration"] == pytest.approx(14.0)
    (extension,) = made["experiment"]["extensions"]
    assert extension["not_applicable"][0]["why"] == "there was no such process"
    assert [each["activity"]["name"] for each in made["rollbacks"]] == ["undo the faults"]


def test_the_method_has_every_fault_with_a_pause_before_it() -> None:
    plan: tuple[Fault, ...] = (
        Kill(target="/a", when=At(2.5)),
        Raise(target="/b", when=On("handle_call", nth=3)),
        SkewClock(seconds=3.0, when=At(1.0)),
        HalfOpen(target="*", when=At(2.5)),
    )
    method = journal(begun(), faults=plan)["experiment"]["method"]
    assert [each["provider"]["arguments"]["fault"]["type"] for each in method] == [
        *("crash", "skew_clock", "kill", "half_open")
    ]
    assert [each.get("pauses") for each in method] == [
        *(None, {"before": 1.0}, {"before": 1.5}, None)
    ]
    assert method[0]["provider"]["arguments"]["fault"]["when"]["callback"] == "handle_call"


class Clerk(GenServer[int]):
    async def init(self) -> None:
        self.state = 0

    async def handle_call(self, request: Any, sender: Any) -> Reply:
        return Reply(self.state)


async def one_clerk(world: Any) -> None:
    await Supervisor.start_link([child_spec(Clerk, id="clerk")], label="top")
    world.steady("the clerk is there", lambda: None)
    await world.until_over()


async def test_the_journal_of_a_real_run_is_what_the_toolkit_expects(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    # Simulate an idle machine, so that the test does not depend on the load of the real machine.
    monkeypatch.setattr(service, "TASKS", tmp_path / "no-threads")
    monkeypatch.setattr(service, "load_per_core", lambda: 0.0)
    done = await live(
        one_clerk,
        7,
        seconds=2.0,
        faults=[Kill(target="/top/clerk", when=At(0.5)), Kill(target="/x", when=At(1.0))],
        phases=Phases(before=1.0, after=1.0),
    )
    made = toolkit_journal(done, node="staging-1", platform="Linux")
    assert set(made) == {
        *("chaoslib-version", "platform", "node", "experiment", "start", "status", "deviated"),
        *("steady_states", "run", "rollbacks", "end", "duration"),
    }
    assert (made["status"], made["deviated"], made["node"]) == ("completed", False, "staging-1")
    assert made["steady_states"]["after"]["steady_state_met"]
    (entry,) = made["run"]
    assert set(entry) == {"activity", "output", "start", "status", "end", "duration"}
    assert entry["output"]["ended"] == 1
    assert made["duration"] == pytest.approx(4.0, abs=0.2)

"""Plans of faults in simulated runs: determinism, causes, run files, networks and nodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from supervision.laboratory.chaos.faults.kinds import (
    DelayMessage,
    DrainNode,
    DropMessage,
    Fault,
    FillMailbox,
    HalfOpen,
    Hang,
    HoldConnection,
    Kill,
    KillNode,
    Partition,
    PauseNode,
    Raise,
    ResetConnection,
    SkewClock,
    Slow,
    SlowConnection,
)
from supervision.laboratory.chaos.faults.moments import At, On
from supervision.laboratory.chaos.faults.report import FaultReport, InertPlan
from supervision.laboratory.simulation.errors import SimulationFailed
from supervision.laboratory.simulation.knobs import Knobs
from supervision.laboratory.simulation.outcome import Outcome
from supervision.laboratory.simulation.replaying.run_file import load_run, replay, save_run
from supervision.laboratory.simulation.replaying.self_check import check_determinism
from supervision.laboratory.simulation.scenario import settings_of
from supervision.laboratory.simulation.world.world import World
from tests.laws.scenarios import simulate
from tests.simulation.fault_scenarios import STORM, busy, echo, island, islands, unharmed

STORE = "/top/w1"


def events(outcome: Outcome, kind: str | None = None) -> list[dict[str, Any]]:
    all_of_them = [msgspec.json.decode(line) for line in outcome.trace]
    return [event for event in all_of_them if kind in (None, event["kind"])]


def chain(outcome: Outcome, event: dict[str, Any]) -> list[str]:
    """Return the kinds of an event and of its causes."""
    every, kinds = events(outcome), [event["kind"]]
    while (cause := event.get("cause")) is not None:
        event = every[cause]
        kinds.append(event["kind"])
    return kinds


# The same seed


@pytest.mark.parametrize("seed", range(10))
def test_the_same_seed_is_the_same_run_with_the_same_faults(seed: int) -> None:
    one, other = simulate(busy, seed), simulate(busy, seed)
    assert (one.digest, one.steps_digest) == (other.digest, other.steps_digest)
    assert one.faults == other.faults
    assert one.fault_reports == other.fault_reports
    assert one.passed


def test_a_drawn_plan_and_the_same_plan_as_a_list_give_the_same_run() -> None:
    drawn = simulate(busy, 3)
    written = simulate(busy, 3, faults=drawn.faults)
    assert written.digest == drawn.digest


def test_another_process_gives_the_same_run(tmp_path: Path) -> None:
    check_determinism(simulate(busy, 5))


def test_a_run_with_faults_is_replayed_from_its_file(tmp_path: Path) -> None:
    outcome = simulate(busy, 4, faults=simulate(busy, 4).faults[:3])
    save_run(outcome, tmp_path / "run.json")
    assert load_run(tmp_path / "run.json").faults == outcome.faults
    again = replay(tmp_path / "run.json")
    assert again.fault_reports == outcome.fault_reports


def test_a_run_file_without_faults_from_an_old_version_is_read(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    save_run(simulate(busy, 4), path)
    raw = msgspec.json.decode(path.read_bytes())
    del raw["faults"]
    path.write_bytes(msgspec.json.encode(raw))
    assert load_run(path).faults is None
    # The plan of the scenario, from the same random numbers.
    assert replay(path).faults == simulate(busy, 4).faults


# Random numbers


def undisturbed(full: Outcome, without: Outcome, report: FaultReport) -> None:
    """Check that a run without a fault is the same up to that fault."""
    when = report.fault.when
    event = len(full.trace) if report.event is None else report.event
    begin = when.seconds if isinstance(when, At) else 0.0
    before = 0
    for line in full.trace[:event]:
        if isinstance(when, At) and msgspec.json.decode(line)["t"] >= begin:
            break
        before += 1
    assert without.trace[:before] == full.trace[:before]


@given(st.integers(0, 10_000), st.integers(0, 7))
@settings(max_examples=max(1, settings().max_examples // 5))
def test_removing_a_fault_does_not_change_earlier_events(seed: int, which: int) -> None:
    full = simulate(busy, seed)
    plan = full.faults[:which] + full.faults[which + 1 :]
    without = simulate(busy, seed, faults=plan)
    undisturbed(full, without, full.fault_reports[which])


@given(st.integers(0, 10_000))
@settings(max_examples=max(1, settings().max_examples // 10))
def test_removing_all_faults_does_not_change_events_before_the_first(seed: int) -> None:
    full = simulate(busy, seed)
    first = min(
        (report.event for report in full.fault_reports if report.event is not None),
        default=len(full.trace),
    )
    starts = [each.when.seconds for each in full.faults if isinstance(each.when, At)]
    before = [line for line in full.trace[:first] if msgspec.json.decode(line)["t"] < min(starts)]
    assert simulate(busy, seed, faults=()).trace[: len(before)] == before


def test_random_numbers_for_faults_do_not_change_those_of_the_scenario() -> None:
    assert simulate(busy, 1).faults != simulate(busy, 2).faults
    assert simulate(busy, 1, params={"workers": 2}).faults == simulate(busy, 1).faults


# Settings


def test_the_arguments_of_a_run_override_the_settings_of_the_scenario() -> None:
    own = settings_of(busy)
    assert (own.faults, own.params) == (STORM, {"workers": 4})
    outcome = simulate(busy, 1)
    assert outcome.params == {"workers": 4}
    assert outcome.knobs.kill_grace == 1.0
    assert len(outcome.faults) == 8
    other = simulate(busy, 1, params={"workers": 2}, knobs=Knobs(), faults=())
    assert (other.params, other.knobs, other.faults) == ({"workers": 2}, Knobs(), ())


def test_a_function_without_settings_has_the_defaults() -> None:
    own = settings_of(echo)
    assert (own.faults, own.params, own.knobs, own.invariants) == (None, {}, None, "all")
    assert simulate(echo, 1).faults == ()


# Plans without an applied fault


def test_a_passing_run_without_an_applied_fault_is_a_failure() -> None:
    outcome = simulate(unharmed, 1)
    assert isinstance(outcome.error, InertPlan)
    assert outcome.error.reports == outcome.fault_reports
    with pytest.raises(SimulationFailed, match="there was no such process at that time"):
        outcome.check()
    assert simulate(unharmed, 1, faults=()).passed


def test_a_failed_run_without_an_applied_fault_reports_its_own_failure() -> None:
    async def broken(world: Any) -> None:
        raise LookupError

    outcome = simulate(broken, 1, faults=[Kill(target="/nobody", when=At(1))])
    assert isinstance(outcome.error, LookupError)
    assert [report.status for report in outcome.fault_reports] == ["not_applicable"]


# The trace


def test_a_fault_is_an_event_and_the_cause_of_its_effects() -> None:
    outcome = simulate(busy, 1, faults=[Kill(target=STORE, when=At(1.0))])
    (fault,) = events(outcome, "fault")
    assert fault["fault"] == "kill /top/w1 at 1 s"
    assert (fault["type"], fault["status"]) == ("kill", "applied")
    assert (fault["path"], fault["inc"]) == (STORE, 1)
    assert outcome.fault_reports[0].event == fault["n"]
    exited = next(event for event in events(outcome, "exited") if event["path"] == STORE)
    assert chain(outcome, exited)[:3] == ["exited", "signal", "fault"]


def test_the_cause_of_an_injected_crash_is_the_fault_and_its_cause_the_message() -> None:
    outcome = simulate(busy, 1, faults=[Raise(target=STORE, when=On("handle_cast", nth=2))])
    exited = next(event for event in events(outcome, "exited") if event["path"] == STORE)
    assert chain(outcome, exited)[:4] == ["exited", "fault", "received", "sent"]


def test_the_fault_is_the_cause_of_the_messages_that_fill_a_mailbox() -> None:
    outcome = simulate(busy, 1, faults=[FillMailbox(target=STORE, messages=3, when=At(1.0))])
    sent = [event for event in events(outcome, "sent") if "Junk" in event["message"]]
    assert [event["pid"] for event in sent] == [None] * 3
    assert all(chain(outcome, event)[1] == "fault" for event in sent)


def test_the_fault_of_a_message_names_it_and_is_not_the_cause_of_its_receiver() -> None:
    outcome = simulate(busy, 1, faults=[DropMessage(target=STORE, when=On("handle_cast"))])
    (fault,) = events(outcome, "fault")
    dropped = events(outcome)[fault["message"]]
    assert dropped["kind"] == "sent"
    assert not any(event.get("cause") == fault["n"] for event in events(outcome))
    assert not any(event.get("cause") == dropped["n"] for event in events(outcome, "received"))


def test_a_fault_that_turns_out_to_be_masked_gets_another_event() -> None:
    plan: list[Fault] = [
        Slow(target=STORE, seconds=5.0, when=On("handle_cast")),
        Kill(target=STORE, when=At(4.0)),
    ]
    outcome = simulate(busy, 1, faults=plan)
    (over,) = events(outcome, "fault_over")
    assert over["status"] == "masked"
    assert over["why"] == "the process ended during the delay"
    assert outcome.fault_reports[0].status == "masked"
    assert events(outcome, "fault")[0]["status"] == "applied"


def test_the_last_events_are_the_faults_that_were_not_applicable() -> None:
    plan: list[Fault] = [
        Kill(target="/nobody", when=At(1.0)),
        Kill(target=STORE, when=At(2.0)),
        Kill(target=STORE, when=At(3000.0)),
    ]
    outcome = simulate(busy, 1, faults=plan)
    told = [(event["status"], event.get("why")) for event in events(outcome, "fault")]
    assert told == [
        ("applied", None),
        ("not_applicable", "there was no such process at that time"),
        ("not_applicable", "the run was over before it was due"),
    ]


# The network


def took(outcome: Outcome) -> dict[float, float]:
    """Return the time and the duration of each answer."""
    return {
        event["t"]: float(event["took"])
        for event in events(outcome, "note")
        if event["text"] == "echo"
    }


@pytest.mark.parametrize(
    ("fault", "longest"),
    [
        (HoldConnection(target="phone->server#1", seconds=2.0, when=At(3.0)), (1.8, 2.1)),
        (HoldConnection(target="phone->*", pick=0.3, seconds=2.0, when=At(3.0)), (1.8, 2.1)),
        (SlowConnection(seconds=2.0, latency=0.4, when=At(3.0)), (0.79, 0.9)),
        (Partition(one="phone", other="server", seconds=2.0, when=At(3.0)), (1.8, 2.1)),
        (Partition(one="phone", other="server", both=False, seconds=2.0, when=At(3)), (1.8, 2.1)),
        (Partition(one="server", other="phone", both=False, seconds=2.0, when=At(3)), (1.8, 2.1)),
    ],
)
def test_a_slow_or_held_network_recovers_after_the_fault(
    fault: Fault, longest: tuple[float, float]
) -> None:
    outcome = simulate(echo, 1, faults=[fault]).check()
    (report,) = outcome.fault_reports
    assert report.status == "applied"
    answers = took(outcome)
    least, most = longest
    assert least <= max(answers.values()) <= most
    assert all(seconds < 0.1 for at, seconds in answers.items() if at > 5.6 or at < 3)
    assert any(at > 9 for at in answers)


def test_a_client_reconnects_after_a_reset() -> None:
    outcome = simulate(echo, 1, faults=[ResetConnection(when=At(3.0))]).check()
    assert outcome.fault_reports[0].where == "phone->server#1"
    assert [event["text"] for event in events(outcome, "note")].count("broken") == 1
    assert max(took(outcome)) > 9


def test_a_half_open_connection_stays_so_until_the_faults_are_healed() -> None:
    outcome = simulate(echo, 1, faults=[HalfOpen(when=At(3.0))]).check()
    assert max(took(outcome)) < 3.2
    assert outcome.fault_reports[0].status == "applied"


def test_a_hold_within_a_hold_ends_with_the_later_one() -> None:
    plan = [
        HoldConnection(seconds=3.0, when=At(2.0)),
        HoldConnection(seconds=1.0, when=At(3.0)),
    ]
    outcome = simulate(echo, 1, faults=plan).check()
    assert not [at for at in took(outcome) if 2.2 < at < 5.0]
    assert max(took(outcome)) > 9


def test_a_fault_of_a_missing_connection_is_not_applicable() -> None:
    plan = [ResetConnection(target="nobody->*", when=At(3.0)), ResetConnection(when=At(4.0))]
    outcome = simulate(echo, 1, faults=plan).check()
    assert outcome.fault_reports[0].why == "no such connection was open at that time"


# Nodes


def disks(outcome: Outcome) -> dict[str, Any]:
    return {
        event["node"].strip("'"): event
        for event in events(outcome, "note")
        if event["text"] == "disk"
    }


def test_a_node_is_killed_and_booted_again() -> None:
    plan = [KillNode(node="a", reboot_after=1.5, when=At(1.05))]
    outcome = simulate(islands, 1, faults=plan)
    assert outcome.passed, outcome.error
    down = {name: float(event["down"]) for name, event in disks(outcome).items()}
    assert down == {"a": pytest.approx(1.6), "b": pytest.approx(0.1)}
    names = [
        (event["kind"], event["node"]) for event in events(outcome) if "node_" in event["kind"]
    ]
    assert ("node_killed", "a") in names
    assert ("node_started", "a#2") in names
    assert outcome.fault_reports[0].where == "a"


def test_a_node_is_paused_and_runs_again() -> None:
    plan = [
        PauseNode(node="a", seconds=1.0, when=At(1.05)),
        PauseNode(node="a", seconds=1.0, when=At(1.55)),
    ]
    outcome = simulate(islands, 1, faults=plan)
    assert outcome.passed, outcome.error
    assert [report.status for report in outcome.fault_reports] == ["applied", "applied"]
    times = {event["kind"]: event["t"] for event in events(outcome) if "node_" in event["kind"]}
    assert times["node_resumed"] - times["node_paused"] == pytest.approx(1.5)


def test_a_node_that_was_killed_in_a_pause_can_be_paused_again() -> None:
    plan = [
        PauseNode(node="a", seconds=2.0, when=At(1.05)),
        KillNode(node="a", reboot_after=0.1, when=At(1.25)),
        PauseNode(node="a", seconds=0.5, when=At(1.65)),
    ]
    outcome = simulate(islands, 1, faults=plan)
    assert outcome.passed, outcome.error
    assert [report.status for report in outcome.fault_reports] == ["applied"] * 3
    pauses = [(each["kind"], each["node"]) for each in events(outcome) if "paused" in each["kind"]]
    assert pauses == [("node_paused", "a"), ("node_paused", "a#2")]
    [resumed] = [event["t"] for event in events(outcome, "node_resumed")]
    assert resumed == pytest.approx(2.15, abs=0.02)


def test_a_simulated_node_cannot_be_drained() -> None:
    outcome = simulate(islands, 1, faults=[DrainNode(node="a", when=At(1.0))])
    [report] = outcome.fault_reports
    assert (report.status, report.why) == (
        "not_applicable",
        "only the nodes of a live cluster can be drained",
    )


def test_the_kill_of_a_dead_node_is_masked_and_of_a_missing_node_not_applicable() -> None:
    plan = [
        KillNode(node="a", when=At(1.0)),
        KillNode(node="a", when=At(2.0)),
        KillNode(node="c", when=At(2.0)),
    ]
    outcome = simulate(islands, 1, faults=plan)
    assert [(report.status, report.why) for report in outcome.fault_reports] == [
        ("applied", None),
        ("masked", "the node was already down"),
        ("not_applicable", "there is no node c here"),
    ]


def test_processes_in_nodes_are_addressed_by_the_node_and_their_path() -> None:
    plan = [
        Kill(target="a/top/w", when=At(1.0)),
        Kill(target="[b-z]/top/w", when=At(2.0)),
        Kill(target="/top/w", when=At(3.0)),
    ]
    outcome = simulate(islands, 1, faults=plan)
    assert [(report.status, report.where) for report in outcome.fault_reports] == [
        ("applied", "a/top/w#1"),
        ("applied", "b/top/w#1"),
        ("not_applicable", None),
    ]


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (Slow(target="a/top/w", seconds=60.0, when=At(0.5)), None),
        (
            DelayMessage(target="a/top/w", seconds=3.0, when=At(0.5)),
            "its receiver ended before the message arrived",
        ),
        (Hang(target="a/top/w", when=At(0.5)), None),
    ],
)
def test_finished_does_not_wait_for_delayed_callbacks_of_a_killed_node(
    fault: Fault, why: str | None
) -> None:
    async def scenario(world: World) -> None:
        world.nodes.start("a", island)
        await trio.sleep(2)
        await world.faults.finished()
        world.note("finished")
        world.faults.heal()
        world.nodes.boot("a")
        await trio.sleep(2)

    outcome = simulate(scenario, 1, faults=[fault, KillNode(node="a", when=At(1.5))])
    assert outcome.passed, outcome.error
    (finished,) = events(outcome, "note")
    assert finished["t"] < 4.0
    assert outcome.fault_reports[0].where == "a/top/w#1"
    assert outcome.fault_reports[0].why == why


def test_a_clock_skew_changes_the_clock_of_one_node() -> None:
    outcome = simulate(islands, 1, faults=[SkewClock(seconds=60.0, node="b", when=At(1.0))])
    ahead = {name: float(event["ahead"]) for name, event in disks(outcome).items()}
    assert ahead["b"] - ahead["a"] == pytest.approx(60.0)

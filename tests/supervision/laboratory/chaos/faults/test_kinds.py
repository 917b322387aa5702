"""Faults as data: words, JSON, and refused values."""

import math
from typing import Any

import msgspec
import pytest

from supervision.laboratory.chaos.errors import InvalidFault
from supervision.laboratory.chaos.faults.kinds import (
    FAULTS,
    DelayMessage,
    DropMessage,
    ExitWith,
    Fault,
    FillMailbox,
    Hang,
    Kill,
    KillNode,
    Partition,
    Raise,
    ReorderMessage,
    ResetConnection,
    SkewClock,
    Slow,
    SlowConnection,
    StallLoop,
    SwallowCancellation,
    describe_fault,
    lasting_seconds,
    plan_from_json,
    plan_to_json,
)
from supervision.laboratory.chaos.faults.moments import At, On
from supervision.laboratory.chaos.faults.report import FaultReport, is_inert
from tests.supervision.laboratory.chaos.plans import STORE, STORIES


@pytest.mark.parametrize(
    ("fault", "seconds"),
    [
        (Kill(target="/a", when=At(1)), 0.0),
        (Slow(target="/a", seconds=2.5, when=At(1)), 2.5),
        (ReorderMessage(target="/a", when=At(1)), 1.0),
        (Hang(target="/a", when=At(1)), math.inf),
        (SkewClock(seconds=-3.0, when=At(1)), math.inf),
        (KillNode(node="b", when=At(1)), math.inf),
        (KillNode(node="b", reboot_after=4.0, when=At(1)), 4.0),
    ],
)
def test_a_fault_lasts_for_its_duration_or_until_the_end(fault: Fault, seconds: float) -> None:
    assert lasting_seconds(fault) == seconds


@pytest.mark.parametrize(("story", "fault"), STORIES.items())
def test_a_fault_in_words_has_its_effect_its_target_and_its_moment(
    story: str, fault: Fault
) -> None:
    assert describe_fault(fault) == story


def test_every_kind_of_fault_is_tested_in_words() -> None:
    assert {type(fault) for fault in STORIES.values()} == set(FAULTS.values())
    assert FAULTS["kill"] is Kill


@pytest.mark.parametrize("fault", STORIES.values())
def test_a_fault_is_the_same_after_a_round_trip_through_json(fault: Fault) -> None:
    assert plan_from_json(plan_to_json([fault])) == (fault,)


def test_a_plan_is_readable_json() -> None:
    plan = (Kill(target=STORE, when=At(0.5)), Raise(target=STORE, when=On("init")))
    assert msgspec.json.decode(plan_to_json(plan)) == [
        {"type": "kill", "target": STORE, "when": {"type": "at", "seconds": 0.5}},
        {"type": "crash", "target": STORE, "when": {"type": "on", "callback": "init"}},
    ]


@pytest.mark.parametrize(
    ("kind", "field", "value", "arguments"),
    [
        (Kill, "target", "", {"target": "", "when": At(1)}),
        (Kill, "pick", 1.5, {"target": "x", "when": At(1), "pick": 1.5}),
        (ResetConnection, "pick", -1, {"when": At(1), "pick": -1}),
        (ResetConnection, "target", "", {"target": "", "when": At(1)}),
        (ExitWith, "reason", "", {"target": "x", "when": At(1), "reason": ""}),
        (Slow, "seconds", -1, {"target": "x", "when": At(1), "seconds": -1}),
        (Slow, "seconds", float("inf"), {"target": "x", "when": At(1), "seconds": float("inf")}),
        (Slow, "seconds", float("nan"), {"target": "x", "when": At(1), "seconds": float("nan")}),
        (SwallowCancellation, "seconds", "1", {"target": "x", "when": At(1), "seconds": "1"}),
        (FillMailbox, "messages", 0, {"target": "x", "when": At(1), "messages": 0}),
        (FillMailbox, "messages", 2_000_000, {"target": "x", "when": At(1), "messages": 2_000_000}),
        (DropMessage, "kind", "", {"target": "x", "when": At(1), "kind": ""}),
        (DropMessage, "when", On("init"), {"target": "x", "when": On("init")}),
        (DelayMessage, "seconds", -0.1, {"target": "x", "when": At(1), "seconds": -0.1}),
        (SlowConnection, "latency", -1, {"seconds": 1, "latency": -1, "when": At(1)}),
        (Partition, "one", "", {"one": "", "other": "b", "seconds": 1, "when": At(1)}),
        (KillNode, "node", "", {"node": "", "when": At(1)}),
        (KillNode, "reboot_after", -1, {"node": "a", "reboot_after": -1, "when": At(1)}),
        (SkewClock, "seconds", float("inf"), {"seconds": float("inf"), "when": At(1)}),
        (StallLoop, "seconds", -2, {"seconds": -2, "when": At(1)}),
    ],
)
def test_an_invalid_fault_is_refused_with_its_field_and_advice(
    kind: Any, field: str, value: object, arguments: dict[str, Any]
) -> None:
    with pytest.raises(InvalidFault) as caught:
        kind(**arguments)
    error = caught.value
    assert (error.kind, error.field) == (kind.__name__, field)
    assert error.value == value or error.value != error.value  # nan
    assert str(error).startswith(f"{kind.__name__}({field}=")
    assert "; write " in str(error)


@pytest.mark.parametrize(
    "text",
    [
        "no json",
        "{}",
        '[{"type": "explode"}]',
        '[{"type": "kill", "when": {"type": "at", "seconds": 1}}]',
        '[{"type": "kill", "target": "x", "when": {"type": "at", "seconds": -1}}]',
        '[{"type": "kill", "target": "x", "sorrow": 1, "when": {"type": "at", "seconds": 1}}]',
        '[{"type": "kill_node", "node": "a", "when": {"type": "on", "callback": "init"}}]',
    ],
)
def test_json_that_is_not_a_plan_is_refused(text: str) -> None:
    with pytest.raises(InvalidFault) as refused:
        plan_from_json(text)
    assert refused.value.kind == "plan"


def test_a_report_in_words_has_the_status_and_the_reason() -> None:
    fault = Kill(target=STORE, when=At(0.5))
    applied = FaultReport(fault=fault, status="applied", seconds=0.505, where="/top/store#2")
    assert str(applied) == "kill /top/store at 0.5 s: applied to /top/store#2 at 0.505 s"
    missed = FaultReport(fault=fault, status="not_applicable", why="nobody was there")
    assert str(missed) == "kill /top/store at 0.5 s: not applicable: nobody was there"


def test_a_plan_is_inert_if_none_of_its_faults_was_applied() -> None:
    fault = Kill(target=STORE, when=At(0.5))
    applied = FaultReport(fault=fault, status="applied")
    missed = FaultReport(fault=fault, status="not_applicable", why="nobody was there")
    masked = FaultReport(fault=fault, status="masked", why="it was ending")
    assert not is_inert(())
    assert is_inert((missed, masked))
    assert not is_inert((missed, applied))

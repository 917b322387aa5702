"""Simpler faults: rounder numbers, one target instead of a pattern."""

import pytest

from supervision.laboratory.chaos.faults.kinds import (
    Fault,
    FillMailbox,
    Kill,
    Raise,
    ResetConnection,
    Slow,
    StallLoop,
)
from supervision.laboratory.chaos.faults.moments import At, On
from supervision.laboratory.chaos.faults.report import FaultReport
from supervision.laboratory.simulation.shrinking.simpler import (
    aimed,
    fields_of,
    replaced,
    rounder,
    value_of,
)

SLOW = Slow(target="/top/*", when=On("handle_cast", nth=5, incarnation=2), seconds=1.25, pick=0.75)


def test_the_target_in_a_report_is_what_a_fault_would_name() -> None:
    def target(where: str | None, incarnation: int | None) -> str | None:
        return FaultReport(
            fault=SLOW, status="applied", where=where, incarnation=incarnation
        ).target

    assert target("/top/room#3", 3) == "/top/room"
    assert target("b/top/room#12", 12) == "b/top/room"
    assert target("phone->server#2", None) == "phone->server#2"
    assert target(None, None) is None


def test_numbers_are_found_in_faults_and_in_their_conditions() -> None:
    assert sorted(fields_of(SLOW)) == [
        ("pick",),
        ("seconds",),
        ("when", "incarnation"),
        ("when", "nth"),
    ]
    assert list(fields_of(StallLoop(seconds=1.0, when=At(2.0)))) == [
        ("seconds",),
        ("when", "seconds"),
    ]


def test_replacing_a_number_changes_nothing_else() -> None:
    changed = replaced(SLOW, ("when", "nth"), 1)
    assert value_of(changed, ("when", "nth")) == 1
    assert replaced(changed, ("when", "nth"), 5) == SLOW
    assert replaced(SLOW, ("seconds",), 1.0).seconds == 1.0


def test_a_number_that_a_fault_refuses_is_refused() -> None:
    fault = FillMailbox(target="/top", when=At(1.0), messages=5)
    with pytest.raises(ValueError, match="messages"):
        replaced(fault, ("messages",), 0)


@pytest.mark.parametrize(
    ("value", "nearby"),
    [
        (0.4837, [0.0, 0.5, 0.48, 0.484]),
        (12.0, []),
        (0.5, [0.0]),
        (2.51, [3.0, 2.5]),
        (float("inf"), []),
    ],
)
def test_rounder_numbers_come_with_the_fewest_digits_first(
    value: float, nearby: list[float]
) -> None:
    assert list(rounder(value)) == nearby


@pytest.mark.parametrize(
    ("fault", "target", "incarnation", "expected"),
    [
        (Kill(target="/top/a", when=At(1.0)), "/top/a", 3, []),
        (Kill(target="/top/a", when=At(1.0), pick=0.5), "/top/a", 3, [("/top/a", At(1.0))]),
        (ResetConnection(when=At(1.0)), "phone->server#2", None, [("phone->server#2", At(1.0))]),
        (StallLoop(when=At(1.0), seconds=1.0), "the loop", None, []),
        (SLOW, None, None, []),
        (
            SLOW,
            "/top/room",
            3,
            [
                ("/top/room", On("handle_cast")),
                ("/top/room", On("handle_cast", incarnation=3)),
                ("/top/room", On("handle_cast", nth=5, incarnation=2)),
            ],
        ),
        (Raise(target="/top", when=On("init")), "/top", 1, []),
        (Raise(target="/top", when=On("init", incarnation=2)), "/top", 2, [("/top", On("init"))]),
    ],
)
def test_a_fault_is_aimed_at_its_actual_target_and_gets_simpler_each_time(
    fault: Fault, target: str | None, incarnation: int | None, expected: list[tuple[str, At | On]]
) -> None:
    nearby = list(aimed(fault, target, incarnation))
    assert [(near.target, near.when) for near in nearby] == expected
    assert all(near.pick is None for near in nearby)
    for near in nearby:
        assert fault not in aimed(near, target, incarnation)

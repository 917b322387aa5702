"""Plans that are drawn by chance."""

from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervision.laboratory.chaos.errors import InvalidFault
from supervision.laboratory.chaos.faults.kinds import (
    FAULTS,
    Kill,
    Slow,
    plan_from_json,
    plan_to_json,
)
from supervision.laboratory.chaos.faults.moments import At, On
from supervision.laboratory.chaos.faults.plan import EVERYWHERE, Storm, delayed, draw_plan, spread


def everything(count: int = 40, **options: Any) -> Storm:
    return Storm(
        ["/top/a", "/top/b*"],
        count=count,
        kinds=list(FAULTS),
        files=["a/*"],
        hosts=["x", "y", "z"],
        nodes=["n"],
        connections=["x->y*"],
        **options,
    )


@given(st.integers(0, 2**64))
def test_the_same_numbers_give_the_same_plan(seed: int) -> None:
    assert everything().draw(Random(seed)) == everything().draw(Random(seed))


@given(st.integers(0, 2**64))
def test_every_plan_of_a_storm_is_a_plan_and_survives_json(seed: int) -> None:
    plan = everything().draw(Random(seed))
    assert len(plan) == 40
    assert plan_from_json(plan_to_json(plan)) == plan


@given(st.integers(0, 2**64))
def test_a_storm_with_one_more_fault_has_the_same_others(seed: int) -> None:
    fewer, more = (everything(count).draw(Random(seed)) for count in (10, 11))
    assert fewer in [more[:position] + more[position + 1 :] for position in range(11)]


@given(st.integers(0, 2**64))
def test_faults_happen_within_the_time_of_the_storm_the_earliest_first(seed: int) -> None:
    plan = everything(callbacks=0.0, after=2.0, within=5.0).draw(Random(seed))
    times = [fault.when.seconds for fault in plan if isinstance(fault.when, At)]
    assert len(times) == len(plan)
    assert times == sorted(times)
    assert 2.0 <= times[0] <= times[-1] <= 5.0


def test_a_storm_draws_every_kind_that_it_lists() -> None:
    kinds = {type(fault) for fault in everything(count=400).draw(Random(1))}
    assert kinds == set(FAULTS.values())
    assert set(EVERYWHERE) < set(FAULTS)


def test_the_share_of_callbacks_is_kept() -> None:
    storm = Storm(["/top"], count=400, callbacks=1.0)
    assert not any(isinstance(fault.when, At) for fault in storm.draw(Random(1)))


@pytest.mark.parametrize(
    ("field", "options"),
    [
        ("kinds", {"targets": ["x"], "kinds": []}),
        ("kinds", {"targets": ["x"], "kinds": ["explode"]}),
        ("targets", {"kinds": ["kill"]}),
        ("hosts", {"kinds": ["partition"], "hosts": ["a"]}),
        ("nodes", {"kinds": ["kill_node"]}),
        ("count", {"targets": ["x"], "count": -1}),
        ("count", {"targets": ["x"], "count": 1.5}),
        ("within", {"targets": ["x"], "within": -1.0}),
        ("after", {"targets": ["x"], "after": -1.0}),
        ("longest", {"targets": ["x"], "longest": -1.0}),
        ("callbacks", {"targets": ["x"], "callbacks": 2.0}),
    ],
)
def test_an_invalid_storm_is_refused(field: str, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidFault) as caught:
        Storm(**options)
    assert caught.value.field == field


def test_a_plan_may_have_any_documented_form() -> None:
    faults = (Kill(target="/top", when=At(1)),)
    storm = Storm(["/top"], count=3)
    assert draw_plan(None, Random(1)) == ()
    assert draw_plan(list(faults), Random(1)) == faults
    assert draw_plan(storm, Random(1)) == storm.draw(Random(1))
    assert draw_plan(lambda random: [faults[0]] * random.randint(2, 2), Random(1)) == faults * 2


@pytest.mark.parametrize(
    ("times", "seconds", "expected"),
    [
        ((3, 15, 27), 60, (6, 30, 54)),
        ((10, 80), 20, (2.25, 18)),
        ((5, 8), 10, (5, 8)),
        ((0,), 10, (0,)),
        ((10,), 10, (9,)),
    ],
)
def test_a_spread_plan_fills_its_phase(
    times: tuple[float, ...], seconds: float, expected: tuple[float, ...]
) -> None:
    plan = spread([Kill(target="/a", when=At(time)) for time in times], seconds)
    assert [fault.when for fault in plan] == [At(time) for time in expected]


def test_spreading_changes_no_callback_and_no_duration() -> None:
    waits = Kill(target="/a", when=On("init"))
    slow = Slow(target="/a", seconds=2.0, when=At(1))
    assert spread([waits, slow], 100) == (waits, Slow(target="/a", seconds=2.0, when=At(90)))


def test_a_delayed_plan_has_later_times() -> None:
    plan = delayed([Kill(target="/a", when=At(1)), Kill(target="/a", when=On("init"))], 5.25)
    assert [fault.when for fault in plan] == [At(6.25), On("init")]

import math
from typing import Any, get_args

import pytest
from attrs import frozen
from hypothesis import given
from hypothesis import strategies as st

from actors import KILLED, NORMAL, SHUTDOWN, Crash, InvalidOption, Shutdown
from supervision import ChildSpec, InvalidChildSpec
from supervision.child_spec import RestartType
from supervision.strategy import (
    AutoShutdown,
    Fate,
    RestartIntensity,
    RestartPlan,
    Strategy,
    check_auto_shutdown,
    check_significance,
    check_strategy,
    ends_supervisor,
    fate,
    plan_restart,
)


async def never() -> Any:
    raise AssertionError("nothing is started in these tests")


def spec(id: object, restart: RestartType = "permanent", *, significant: bool = False) -> ChildSpec:
    return ChildSpec(id, never, restart=restart, significant=significant)


@frozen
class Child:
    spec: ChildSpec


def family(restarts: str) -> list[Child]:
    """Children named a, b, c, ... with restart types by initial: P(ermanent), t(ransient), - none."""
    types: dict[str, RestartType] = {"P": "permanent", "t": "transient", "-": "temporary"}
    return [
        Child(spec(name, types[initial]))
        for name, initial in zip("abcdefgh", restarts, strict=False)
    ]


def names(children: tuple[Child, ...]) -> str:
    return "".join(child.spec.id for child in children)


def shown(plan: RestartPlan[Child]) -> tuple[str, str, str]:
    return names(plan.stop), names(plan.drop), names(plan.start)


@pytest.mark.parametrize(
    ("restart", "reason", "expected"),
    [
        ("permanent", NORMAL, Fate.RESTART),
        ("permanent", SHUTDOWN, Fate.RESTART),
        ("permanent", Shutdown("x"), Fate.RESTART),
        ("permanent", Crash(ValueError()), Fate.RESTART),
        ("permanent", KILLED, Fate.RESTART),
        ("transient", NORMAL, Fate.KEEP),
        ("transient", SHUTDOWN, Fate.KEEP),
        ("transient", Shutdown("x"), Fate.KEEP),
        ("transient", Crash(ValueError()), Fate.RESTART),
        ("transient", KILLED, Fate.RESTART),
        ("temporary", NORMAL, Fate.DROP),
        ("temporary", SHUTDOWN, Fate.DROP),
        ("temporary", Shutdown("x"), Fate.DROP),
        ("temporary", Crash(ValueError()), Fate.DROP),
        ("temporary", KILLED, Fate.DROP),
    ],
)
def test_fate_follows_the_restart_type_and_the_reason(
    restart: RestartType, reason: object, expected: Fate
) -> None:
    assert fate(restart, reason) is expected


def test_one_for_one_starts_the_child_that_ended_and_touches_no_other() -> None:
    assert shown(plan_restart(family("PPP"), 1, "one_for_one")) == ("", "", "b")


def test_one_for_all_stops_the_others_in_reverse_and_starts_all_in_order() -> None:
    assert shown(plan_restart(family("PPPP"), 1, "one_for_all")) == ("dca", "", "abcd")


def test_rest_for_one_stops_the_later_ones_in_reverse_and_leaves_the_earlier_ones() -> None:
    assert shown(plan_restart(family("PPPP"), 1, "rest_for_one")) == ("dc", "", "bcd")


def test_temporary_siblings_in_the_group_are_stopped_and_forgotten() -> None:
    assert shown(plan_restart(family("-P-t"), 1, "one_for_all")) == ("dca", "ac", "bd")
    assert shown(plan_restart(family("-P-t"), 1, "rest_for_one")) == ("dc", "c", "bd")
    assert shown(plan_restart(family("-P-t"), 1, "one_for_one")) == ("", "", "b")


def groups() -> st.SearchStrategy[tuple[list[Child], int, Strategy]]:
    return st.text("Pt-", min_size=1, max_size=8).flatmap(
        lambda types: st.tuples(
            st.just(family(types)),
            st.sampled_from([i for i, t in enumerate(types) if t != "-"] or [0]),
            st.sampled_from(get_args(Strategy)),
        )
    )


@given(groups())
def test_every_plan_stops_in_reverse_starts_in_order_and_forgets_only_temporaries(
    group: tuple[list[Child], int, Strategy],
) -> None:
    children, pivot, strategy = group
    plan = plan_restart(children, pivot, strategy)
    position = {child.spec.id: index for index, child in enumerate(children)}
    stopped = [position[child.spec.id] for child in plan.stop]
    started = [position[child.spec.id] for child in plan.start]
    dropped = {position[child.spec.id] for child in plan.drop}

    assert stopped == sorted(stopped, reverse=True)
    assert started == sorted(started)
    assert pivot in started
    assert pivot not in stopped
    assert all(children[index].spec.restart == "temporary" for index in dropped)
    # The supervisor either starts or forgets each child that it stops.
    assert dropped.isdisjoint(started)
    assert set(stopped) == (set(started) | dropped) - {pivot}
    affected = {
        "one_for_one": {pivot},
        "one_for_all": set(range(len(children))),
        "rest_for_one": set(range(pivot, len(children))),
    }[strategy]
    assert set(started) | dropped == affected


def test_without_auto_shutdown_no_end_stops_the_supervisor() -> None:
    assert not ends_supervisor("never", spec("a", "transient", significant=True), [])


def test_any_significant_child_that_ends_for_good_ends_the_supervisor() -> None:
    other = spec("b", "transient", significant=True)
    assert ends_supervisor("any_significant", spec("a", "temporary", significant=True), [other])
    assert not ends_supervisor("any_significant", spec("a", "temporary"), [other])


def test_all_significant_waits_for_the_last_significant_child() -> None:
    ended, plain = spec("a", "transient", significant=True), spec("c")
    other = spec("b", "temporary", significant=True)
    assert not ends_supervisor("all_significant", ended, [other, plain])
    assert ends_supervisor("all_significant", ended, [plain])
    assert not ends_supervisor("all_significant", plain, [])


@pytest.mark.parametrize("value", ["one_for_two", None, 1, "never"])
def test_an_unknown_strategy_is_refused_with_the_known_ones(value: Any) -> None:
    with pytest.raises(InvalidOption, match="rest_for_one") as caught:
        check_strategy(value)
    assert (caught.value.option, caught.value.value) == ("strategy", value)


@pytest.mark.parametrize("value", ["always", None, True])
def test_an_unknown_auto_shutdown_is_refused_with_the_known_ones(value: Any) -> None:
    with pytest.raises(InvalidOption, match="any_significant") as caught:
        check_auto_shutdown(value)
    assert caught.value.option == "auto_shutdown"


@pytest.mark.parametrize("setting", get_args(AutoShutdown))
def test_a_significant_child_needs_a_supervisor_with_auto_shutdown(setting: AutoShutdown) -> None:
    significant = spec("a", "transient", significant=True)
    check_significance(spec("b"), setting)
    if setting != "never":
        check_significance(significant, setting)
        return
    with pytest.raises(InvalidChildSpec) as caught:
        check_significance(significant, setting)
    assert (caught.value.id, caught.value.field) == ("a", "significant")


def answers(times: list[float], max_restarts: float, max_seconds: float) -> list[bool]:
    intensity = RestartIntensity(max_restarts, max_seconds)
    return [intensity.admit(now) for now in times]


def test_three_restarts_are_allowed_and_the_fourth_is_one_too_many() -> None:
    assert answers([0, 1, 2, 3], 3, 5.0) == [True, True, True, False]


def test_with_zero_restarts_the_first_attempt_is_one_too_many() -> None:
    assert answers([7.0], 0, 5.0) == [False]


def test_attempts_that_are_far_enough_apart_never_add_up() -> None:
    assert answers([0, 4, 6, 10], 2, 5.0) == [True, True, True, True]
    assert answers([0, 1, 2], 2, 5.0) == [True, True, False]


def test_an_attempt_that_is_exactly_as_old_as_the_window_still_counts() -> None:
    assert answers([0.0, 5.0], 1, 5.0) == [True, False]
    assert answers([0.0, math.nextafter(5.0, math.inf)], 1, 5.0) == [True, True]


def test_the_window_is_not_rounded_to_whole_seconds() -> None:
    # A clock that counts whole seconds would still count an attempt made 1.85 s ago.
    assert answers([0.1, 1.95], 1, 1.0) == [True, True]
    assert answers([0.0, 0.25], 1, 0.2) == [True, True]


def test_infinite_restarts_are_never_too_many_and_are_not_remembered() -> None:
    intensity = RestartIntensity(math.inf, 5.0)
    assert all(intensity.admit(0.0) for _ in range(1000))
    assert intensity.counted == 0


def test_an_infinite_window_never_forgets() -> None:
    assert answers([0.0, 1e9, 2e9], 2, math.inf) == [True, True, False]


def test_counted_is_the_number_of_attempts_within_the_window_at_the_last_attempt() -> None:
    intensity = RestartIntensity(10, 5.0)
    counted = []
    for now in (0.0, 3.0, 6.0, 12.0):
        intensity.admit(now)
        counted.append(intensity.counted)
    assert counted == [1, 2, 2, 1]


@pytest.mark.parametrize("value", [-1, 1.5, True, "3", None, math.nan])
def test_an_invalid_restart_count_is_refused_by_name(value: object) -> None:
    with pytest.raises(InvalidOption) as caught:
        RestartIntensity(value, 5.0)  # type: ignore[arg-type]
    assert caught.value.option == "max_restarts"
    assert caught.value.value is value


@pytest.mark.parametrize("value", [0, -1.0, True, "5", None, math.nan])
def test_an_invalid_window_is_refused_by_name(value: object) -> None:
    with pytest.raises(InvalidOption) as caught:
        RestartIntensity(3, value)  # type: ignore[arg-type]
    assert caught.value.option == "max_seconds"


@given(
    gaps=st.lists(
        st.floats(0, 10) | st.sampled_from([0.0, 0.5, 1.0, 2.5, 5.0]), min_size=1, max_size=40
    ),
    max_restarts=st.integers(0, 6),
    max_seconds=st.floats(0.1, 12) | st.sampled_from([0.5, 1.0, 5.0]),
)
def test_the_window_agrees_with_a_count_of_all_attempts(
    gaps: list[float], max_restarts: int, max_seconds: float
) -> None:
    intensity = RestartIntensity(max_restarts, max_seconds)
    now, attempts = 0.0, []
    for gap in gaps:
        now += gap
        attempts.append(now)
        allowed = sum(now - attempt <= max_seconds for attempt in attempts) <= max_restarts
        assert intensity.admit(now) is allowed
        if not allowed:
            return

from typing import Any, get_args

import pytest
from attrs import frozen
from hypothesis import given
from hypothesis import strategies as st

from actors import KILLED, NORMAL, SHUTDOWN, Crash, Shutdown
from supervision import BadChildSpec, BadSupervisorOption, ChildSpec
from supervision.child_spec import RestartType
from supervision.strategy import (
    AutoShutdown,
    Fate,
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
def test_the_fate_of_a_child_by_restart_type_and_reason(
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
    # Whoever is stopped is either started again or forgotten, never both and never neither.
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
    with pytest.raises(BadSupervisorOption, match="rest_for_one") as caught:
        check_strategy(value)
    assert (caught.value.option, caught.value.value) == ("strategy", value)


@pytest.mark.parametrize("value", ["always", None, True])
def test_an_unknown_auto_shutdown_is_refused_with_the_known_ones(value: Any) -> None:
    with pytest.raises(BadSupervisorOption, match="any_significant") as caught:
        check_auto_shutdown(value)
    assert caught.value.option == "auto_shutdown"


@pytest.mark.parametrize("setting", get_args(AutoShutdown))
def test_a_significant_child_needs_a_supervisor_with_auto_shutdown(setting: AutoShutdown) -> None:
    significant = spec("a", "transient", significant=True)
    check_significance(spec("b"), setting)
    if setting != "never":
        check_significance(significant, setting)
        return
    with pytest.raises(BadChildSpec, match="auto_shutdown") as caught:
        check_significance(significant, setting)
    assert (caught.value.id, caught.value.field) == ("a", "significant")

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervision import BadSupervisorOption
from supervision.intensity import RestartIntensity


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
    assert intensity.recent(0.0) == 0


def test_an_infinite_window_never_forgets() -> None:
    assert answers([0.0, 1e9, 2e9], 2, math.inf) == [True, True, False]


def test_recent_counts_attempts_within_the_window_and_changes_nothing() -> None:
    intensity = RestartIntensity(10, 5.0)
    for now in (0.0, 3.0, 6.0):
        intensity.admit(now)
    assert [intensity.recent(8.0), intensity.recent(8.0), intensity.recent(12.0)] == [2, 2, 0]


@pytest.mark.parametrize("value", [-1, 1.5, True, "3", None, math.nan])
def test_an_invalid_restart_count_is_refused_by_name(value: object) -> None:
    with pytest.raises(BadSupervisorOption, match="max_restarts") as caught:
        RestartIntensity(value, 5.0)  # type: ignore[arg-type]
    assert caught.value.option == "max_restarts"
    assert caught.value.value is value


@pytest.mark.parametrize("value", [0, -1.0, True, "5", None, math.nan])
def test_an_invalid_window_is_refused_by_name(value: object) -> None:
    with pytest.raises(BadSupervisorOption, match="max_seconds") as caught:
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

"""Checks of arguments: what counts as a number. The tests of each verb cover its other checks."""

import math

import pytest

from actors.arguments import is_number


@pytest.mark.parametrize("value", [0, 1, -1, 0.5, math.inf, -math.inf])
def test_ints_and_floats_are_numbers(value: float) -> None:
    assert is_number(value)


@pytest.mark.parametrize("value", [math.nan, True, False, "1", None])
def test_nan_bools_and_other_values_are_not_numbers(value: object) -> None:
    assert not is_number(value)


def test_a_number_below_the_least_one_is_refused() -> None:
    assert is_number(1, least=1)
    assert not is_number(0.9, least=1)

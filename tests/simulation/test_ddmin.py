"""Delta debugging and bisection, without a simulation."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervision.laboratory.simulation.shrinking.ddmin import ddmin, least

SUBSETS = st.integers(1, 60).flatmap(
    lambda size: st.tuples(st.just(size), st.sets(st.integers(0, size - 1), max_size=5))
)


@given(SUBSETS)
def test_ddmin_keeps_exactly_the_needed_items(case: tuple[int, set[int]]) -> None:
    size, needed = case
    assert ddmin(range(size), lambda part: needed <= set(part)) == sorted(needed)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=30), st.integers(1, 30))
def test_the_rest_fails_and_passes_without_any_single_item(items: list[int], sum_of: int) -> None:
    def fails(part: list[int]) -> bool:
        return sum(part) % 7 == sum(items) % 7 and sum(part) >= min(sum_of, sum(items))

    left = ddmin(items, fails)
    assert fails(left)
    assert not any(fails(left[:n] + left[n + 1 :]) for n in range(len(left)))


def test_the_rest_keeps_its_order() -> None:
    assert ddmin("supervisor", lambda part: {"e", "v", "u"} <= set(part)) == list("uev")


def test_the_rest_is_empty_if_no_item_is_needed() -> None:
    tried: list[list[int]] = []

    def fails(part: list[int]) -> bool:
        tried.append(part)
        return True

    assert ddmin([1, 2, 3], fails) == []
    assert tried == [[]]


def test_one_needed_item_of_a_thousand_takes_few_trials() -> None:
    tries = 0

    def fails(part: list[int]) -> bool:
        nonlocal tries
        tries += 1
        return 617 in part

    assert ddmin(range(1000), fails) == [617]
    assert tries <= 2 * math.ceil(math.log2(1000)) + 2


@pytest.mark.parametrize("budget", range(12))
def test_an_exhausted_budget_keeps_the_last_failing_subset(budget: int) -> None:
    last = list(range(64))

    def fails(part: list[int]) -> bool:
        nonlocal budget, last
        budget -= 1
        if budget < 0 or not {5, 40} <= set(part):
            return False
        last = part
        return True

    assert ddmin(range(64), fails) == last


@given(st.integers(0, 10_000), st.integers(0, 10_000))
def test_the_least_number_is_found_by_halving(one: int, other: int) -> None:
    bound, number = sorted((one, other))
    tries = 0

    def fails(tried: int) -> bool:
        nonlocal tries
        tries += 1
        return tried >= bound

    assert least(number, fails) == bound
    assert tries <= 2 + math.ceil(math.log2(number + 1))


def test_without_monotony_the_result_fails_and_its_predecessor_passes() -> None:
    def fails(number: int) -> bool:
        return number % 3 == 0 or number > 80

    found = least(100, fails, lowest=1)
    assert fails(found)
    assert not fails(found - 1)
    assert least(0, fails) == 0

"""Searches: all schedules of a small program, the share of the forks, and the runs of each strategy."""

import os
from collections import Counter
from typing import Any

import trio

from supervision.laboratory.simulation.replaying.run_file import run_again
from supervision.laboratory.simulation.search.exhaustive import choices_after
from supervision.laboratory.simulation.search.searching import Search, Strategy
from supervision.laboratory.simulation.search.sweep import SeedResult
from supervision.laboratory.simulation.search.terminal import counted
from supervision.laboratory.simulation.simulate import Scenario
from supervision.laboratory.simulation.world.world import World

QUICK: dict[str, Any] = {"jobs": 0, "check": 0, "bare": 0}


def searched(
    scenario: Scenario, seeds: range, strategy: Strategy = "auto", **more: Any
) -> tuple[Search, list[SeedResult]]:
    search = Search(scenario, seeds, strategy=strategy, options=QUICK, **more)
    return search, list(search.results())


# All schedules


async def in_order(world: World) -> None:
    """Fail if three tasks run in the order 2, 0, 1, and in a later round in the order 1, 2, 0."""
    rounds: list[list[int]] = [[], []]

    async def runner(number: int) -> None:
        for ran in rounds:
            await trio.sleep(1)
            ran.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(runner, number)
    world.check(rounds != [[2, 0, 1], [1, 2, 0]], "the two orders happened")


def test_all_schedules_with_few_deviations_run_once_each() -> None:
    search, results = searched(in_order, range(1, 2), "exhaustive", deviations=1)
    assert search.end == f"Exhausted: {len(results)} schedules with at most 1 deviation."
    assert search.report.failed == 0
    assert len({each.steps_digest for each in results}) == len(results)


def test_a_failure_that_needs_two_deviations_is_found_with_two_and_replays() -> None:
    search, results = searched(in_order, range(1, 2), "exhaustive", deviations=2)
    assert search.end.startswith("Exhausted: ")
    assert len({each.steps_digest for each in results}) == len(results)
    failed = [each for each in results if not each.passed]
    assert failed
    assert failed[0].run is not None
    again = run_again(failed[0].run, scenario=in_order)
    assert (again.digest, again.steps_digest) == (failed[0].run.digest, failed[0].run.steps_digest)


def test_a_limit_ends_the_search_and_the_search_says_so() -> None:
    search, results = searched(in_order, range(1, 2), "exhaustive", deviations=2, limit=20)
    assert len(results) == 20
    assert search.end == "Not exhausted: 20 schedules with at most 2 deviations have run."


def test_the_choices_after_a_deviation_are_the_later_rounds_with_several_tasks() -> None:
    ran = [1, 0, 1, 2, 0, 1, 0, 3, 2, 1, 0]
    assert choices_after(ran, {}) == [2, 2, 4, 3]
    assert choices_after(ran, {2: (1, 0)}) == [4, 3]


# The runs of a search


async def two_doors(world: World) -> None:
    """Fail behind two rare states."""
    chance = world.random("doors")
    for door in ("first", "second"):
        await trio.sleep(1)
        opens = chance.random() < 0.1
        world.sometimes(f"the {door} door", opens)
        if not opens:
            return
    world.check(chance.random() > 0.3, "a trap is behind the second door")


def test_the_policy_of_a_strategy_orders_all_runs() -> None:
    search, results = searched(two_doors, range(1, 60), "pct", forks=0)
    assert [each.seed for each in results] == [*range(1, 60)]
    assert {each.strategy for each in results} == {"pct"}
    assert search.end == ""


def test_the_report_counts_the_runs_and_the_failures_of_each_strategy() -> None:
    search, results = searched(two_doors, range(1, 101), forks=40)
    assert search.report.strategies == Counter(each.strategy for each in results)
    (kind,) = search.report.failures.values()
    failed = Counter(each.strategy for each in results if not each.passed)
    assert kind.strategies == failed
    assert counted(failed).startswith("forks ")


def test_forks_get_a_fifth_of_the_steps_until_the_seeds_are_over() -> None:
    _, results = searched(two_doors, range(1, 401), forks=100)
    last = next(n for n, each in enumerate(results) if each.seed == 400)
    steps: Counter[bool] = Counter()
    for each in results[:last]:
        steps[bool(each.forks)] += each.steps
    assert 0.1 * steps.total() < steps[True] < 0.3 * steps.total()
    assert all(each.forks for each in results[last + 1 :])
    assert sum(bool(each.forks) for each in results) == 200


async def dies(world: World) -> None:
    os._exit(3)


def test_a_lost_run_counts_for_its_strategy() -> None:
    search = Search(dies, range(1, 5), strategy="pct", options={**QUICK, "jobs": 1})
    assert [each.strategy for each in search.results()] == ["pct"] * 4


async def turns(world: World) -> None:
    """Fail if one task is the first nine times in a row, and then the other one nine times in a row."""
    order: list[str] = []

    async def runner(name: str) -> None:
        for _ in range(60):
            await trio.sleep(1)
            order.append(name)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(runner, "a")
        nursery.start_soon(runner, "b")
    firsts = "".join(order[::2])
    world.check("a" * 9 not in firsts or "b" * 9 not in firsts, "nine turns of each")


def test_a_race_that_must_repeat_is_found_by_the_orders_that_last() -> None:
    _, shuffled = searched(turns, range(1, 61), "random")
    assert all(each.passed for each in shuffled)
    _, results = searched(turns, range(1, 61))
    failed = Counter(each.strategy for each in results if not each.passed and not each.forks)
    assert failed["pct"] > 0
    assert failed["reshuffle"] > 0
    assert failed["random"] == 0


def test_a_search_is_the_same_each_time() -> None:
    first, second = (searched(two_doors, range(1, 101), forks=40)[1] for _ in range(2))
    assert first == second
    assert Counter(each.strategy for each in first)["forks"] > 40

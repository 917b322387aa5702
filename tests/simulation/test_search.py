"""Searches: all schedules of a small program, novel runs, the plateau, and the time of each strategy."""

from collections import Counter
from typing import Any

import trio

from supervision.laboratory.simulation.forks import Fork, ForkedSeed
from supervision.laboratory.simulation.replaying.run_file import run_again
from supervision.laboratory.simulation.search.exhaustive import choices_after
from supervision.laboratory.simulation.search.novelty import Novelty, features_of
from supervision.laboratory.simulation.search.searching import Search, Strategy
from supervision.laboratory.simulation.search.sweep import SeedResult
from supervision.laboratory.simulation.search.terminal import counted
from supervision.laboratory.simulation.simulate import Scenario
from supervision.laboratory.simulation.world.world import World
from tests.laws.scenarios import simulate

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


# Novelty


async def two_doors(world: World) -> None:
    """Fail behind two rare states, neither of which the scenario names."""
    chance = world.random("doors")
    for _ in range(3):
        await trio.sleep(chance.random())
        world.trace.add("door", {"pid": 1})
    for door in range(2):
        if chance.random() > 0.1:
            return
        world.trace.add(f"opened{door}", {"pid": 1})
        await trio.sleep(1)
    world.check(chance.random() > 0.3, "a trap is behind the second door")


def test_a_run_has_the_same_features_again_and_they_have_no_pids_and_times() -> None:
    first, second = (simulate(two_doors, 3) for _ in range(2))
    assert features_of(first.trace, {}) == features_of(second.trace, {})
    other = simulate(two_doors, 4)
    assert features_of(first.trace, {}).keys() == features_of(other.trace, {}).keys()
    assert features_of(first.trace, {"rare": True}).keys() > features_of(first.trace, {}).keys()


def test_the_novel_run_with_the_rarest_feature_forks_after_this_feature() -> None:
    novelty = Novelty()
    assert novelty.add(ForkedSeed(1), {10: 3, 11: 4}, passed=True) == 2
    assert novelty.add(ForkedSeed(2), {10: 3, 12: 7}, passed=True) == 1
    assert novelty.add(ForkedSeed(3), {10: 3, 11: 4}, passed=True) == 0
    assert novelty.add(ForkedSeed(4), {10: 3, 13: 9}, passed=False) == 1
    forks = novelty.forks()
    assert forks == [ForkedSeed(2, [Fork(7, number)]) for number in range(8)]
    for fork in forks:
        novelty.add(fork, {10: 3, 12: 7}, passed=True)
    assert {each.seed for each in novelty.forks()} == {1}


def test_a_fork_at_a_round_is_the_same_run_up_to_this_round() -> None:
    plain = simulate(two_doors, 1)
    forks = [simulate(two_doors, 1, forks=[Fork(6, number)]) for number in range(4)]
    for fork in forks:
        common = next(n for n, line in enumerate(fork.trace) if b"forks here" in line)
        assert fork.trace[:common] == plain.trace[:common]
    assert len({fork.digest for fork in forks}) == 4
    assert forks[0].digest == simulate(two_doors, 1, forks=[Fork(6, 0)]).digest


def test_a_guided_search_finds_a_failure_behind_rare_states_with_fewer_steps() -> None:
    def until_found(strategy: Strategy, first: int) -> int:
        seeds = range(first, first + 2000)
        search = Search(two_doors, seeds, strategy=strategy, stops=False, options=QUICK)
        for result in search.results():
            if not result.passed:
                break
        return search.report.runs

    runs = {
        strategy: sorted(until_found(strategy, 1 + 5000 * n) for n in range(5))[2]
        for strategy in ("random", "auto")
    }
    assert runs["auto"] < runs["random"] / 2


# The end of a search, and its report


async def soon_known(world: World) -> None:
    """Have one of three traces."""
    for _ in range(world.random("length").randint(1, 3)):
        await trio.sleep(1)
        world.note("a second")


async def fails_now_and_then(world: World) -> None:
    await soon_known(world)
    world.check(world.seed % 100, "the seed is a multiple of a hundred")


def test_a_search_stops_at_a_plateau_and_says_how_sure_it_is() -> None:
    search, _ = searched(soon_known, range(1, 1000))
    seeds = search.report.runs - search.report.forked
    assert 200 <= seeds < 400
    assert search.end == (
        "Plateau: about 0 new features per further seed. "
        f"With 95 % confidence, fewer than {3 / seeds:.1%} of seeds fail."
    )


def test_a_plateau_after_a_failure_makes_no_promise() -> None:
    search, _ = searched(fails_now_and_then, range(1, 1000))
    assert search.end == "Plateau: about 0 new features per further seed."


def test_only_the_strategy_auto_stops_early_and_the_others_run_all_seeds() -> None:
    search, results = searched(soon_known, range(1, 260), "pct")
    assert [each.seed for each in results] == [*range(1, 260)]
    assert {each.strategy for each in results} == {"pct"}
    assert search.end == ""


def test_the_report_counts_the_runs_and_the_failures_of_each_strategy() -> None:
    search, results = searched(two_doors, range(1, 101))
    assert search.report.strategies == Counter(each.strategy for each in results)
    (kind,) = search.report.failures.values()
    failed = Counter(each.strategy for each in results if not each.passed)
    assert kind.strategies == failed
    assert counted(failed).startswith("novelty ")


def test_fresh_seeds_get_half_of_the_steps_or_more() -> None:
    _, results = searched(two_doors, range(1, 201))
    steps: Counter[bool] = Counter()
    for each in results:
        steps[bool(each.forks)] += each.steps
    assert steps[False] > 0.4 * steps.total()
    assert steps[True] > 0.1 * steps.total()


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
    first, second = (searched(two_doors, range(1, 101))[1] for _ in range(2))
    assert first == second
    assert Counter(each.strategy for each in first)["novelty"] > 20

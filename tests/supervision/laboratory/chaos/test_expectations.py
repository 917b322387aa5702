"""Expectations of a scenario: always, eventually, after the faults, at least once."""

import pytest
import trio

from supervision.laboratory.chaos.errors import InvariantViolated, NotReached
from supervision.laboratory.chaos.expectations import Expectations
from supervision.laboratory.simulation.outcome import identify
from supervision.laboratory.simulation.world.world import World
from tests.laws.scenarios import simulate


async def test_a_condition_that_holds_at_once_returns_without_a_wait(
    autojump_clock: object,
) -> None:
    expectations = Expectations(every=1.0)
    assert await expectations.eventually("a value", lambda: [7], within=0) == [7]
    assert trio.current_time() == 0


async def test_a_condition_is_checked_at_intervals(autojump_clock: object) -> None:
    expectations = Expectations(every=0.5)
    assert await expectations.eventually("late", lambda: trio.current_time() >= 3.2, within=5)
    assert trio.current_time() == 3.5


async def test_a_condition_may_be_async(autojump_clock: object) -> None:
    async def late() -> float:
        await trio.sleep(0.1)
        return trio.current_time() if trio.current_time() > 1 else 0

    assert await Expectations().eventually("late", late, within=5) > 1


async def test_a_condition_that_does_not_hold_in_time_reports_its_last_value(
    autojump_clock: object,
) -> None:
    with pytest.raises(NotReached) as caught:
        await Expectations(every=1.0).eventually("all are here", list[int], within=4)
    error = caught.value
    assert (error.name, error.within, error.seconds, error.last) == ("all are here", 4, 4, "[]")
    assert str(error) == (
        "'all are here' did not become true within 4 s, by 4 s; its condition last returned []"
    )
    assert identify(error) == "eventually all are here"


async def test_recovered_heals_first_and_then_waits(autojump_clock: object) -> None:
    healed: list[float] = []

    async def heal() -> None:
        await trio.sleep(1)
        healed.append(trio.current_time())

    expectations = Expectations(every=1.0, heal=heal)
    await expectations.recovered("better", lambda: trio.current_time() > 2, within=2)
    assert healed == [1]
    await Expectations(every=1.0, heal=lambda: healed.append(0)).recovered(
        "well", lambda: True, within=0
    )
    assert healed == [1, 0]


def test_sometimes_is_true_once_it_ever_was() -> None:
    expectations = Expectations()
    for condition in (False, 0, None):
        expectations.sometimes("never", condition)
        expectations.sometimes("once", condition)
    expectations.sometimes("once", [1])
    expectations.sometimes("once", False)
    expectations.sometimes("here")
    assert expectations.seen == {"never": False, "once": True, "here": True}


def test_the_first_violated_invariant_is_reported() -> None:
    expectations = Expectations(now=lambda: 3.0)
    wrong: list[str] = []
    expectations.invariant("right", lambda: None)
    expectations.invariant("one", lambda: wrong[0] if wrong else None)
    expectations.invariant("two", lambda: "two is wrong, too" if wrong else None)
    assert expectations.look() is None
    wrong.append("this is wrong")
    found = expectations.look()
    assert isinstance(found, InvariantViolated)
    assert (found.invariant, found.seconds, found.problem) == ("one", 3.0, "this is wrong")
    with pytest.raises(InvariantViolated) as refused:
        expectations.check([], "no")
    assert refused.value.invariant == "check"


def test_a_simulation_checks_a_condition_between_two_rounds() -> None:
    """The simulation sees a condition that holds for a single round. No polling would."""
    seen: list[float] = []

    async def scenario(world: World) -> None:
        flag = [False]

        async def blink() -> None:
            await trio.sleep(2)
            flag[0] = True
            await trio.lowlevel.checkpoint()
            flag[0] = False

        async with trio.open_nursery() as nursery:
            nursery.start_soon(blink)
            await world.eventually("the light", lambda: flag[0], within=10)
            seen.append(world.seconds)
        world.sometimes("it was dark", not flag[0])

    outcome = simulate(scenario, seed=1).check()
    assert seen == [2]
    assert outcome.sometimes == {"it was dark": True}


def test_a_simulation_raises_the_error_of_a_condition_where_it_is_awaited() -> None:
    async def scenario(world: World) -> None:
        def holds() -> bool:
            if world.seconds > 1:
                raise LookupError("nothing there")
            return False

        with pytest.raises(LookupError):
            await world.eventually("something", holds, within=10)

        async def tick() -> None:
            await trio.sleep(5)

        await tick()

    async def with_ticks(world: World) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, 3)
            await scenario(world)

    simulate(with_ticks, seed=1).check()


def test_a_condition_times_out_in_a_simulation_without_events() -> None:
    async def scenario(world: World) -> None:
        await world.eventually("the end of days", lambda: 0, within=7)

    error = simulate(scenario, seed=1).error
    assert isinstance(error, NotReached)
    assert (error.seconds, error.last) == (7, "0")

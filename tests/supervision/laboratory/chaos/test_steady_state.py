from collections.abc import Callable

import msgspec
import pytest
import trio

from supervision.laboratory.chaos.steady_state import SteadyCheck, SteadyState
from supervision.recording.trace import BoundedTrace


def changing(*times: float) -> Callable[[], str | None]:
    """A check that does not hold at first, and changes its mind at these times."""
    began = trio.current_time()

    def check() -> str | None:
        changes = sum(trio.current_time() - began >= time for time in times)
        return None if changes % 2 else "not now"

    return check


def steady(check: SteadyCheck, **options: float) -> SteadyState:
    state = SteadyState(BoundedTrace(trio.current_time), **options)
    state.add("it works", check)
    return state


async def test_a_state_that_held_long_enough_holds() -> None:
    state = steady(changing(3.0))
    began = trio.current_time()
    assert await state.holds(5.0, within=4.0)
    assert trio.current_time() - began == pytest.approx(8.0, abs=0.1)


async def test_a_state_that_begins_too_late_does_not_hold() -> None:
    state = steady(changing(3.0))
    assert not await state.holds(1.0, within=2.0)
    assert state.problems == {"it works": "not now"}


async def test_an_interruption_restarts_the_wait() -> None:
    state = steady(changing(0.0, 2.0, 3.0))
    began = trio.current_time()
    assert await state.holds(5.0, within=10.0)
    assert trio.current_time() - began == pytest.approx(8.0, abs=0.1)


async def test_time_before_the_wait_does_not_count() -> None:
    state = steady(lambda: None)
    assert await state.holds(1.0, within=1.0)
    began = trio.current_time()
    assert await state.holds(5.0, within=1.0)
    assert trio.current_time() - began >= 5.0


async def test_a_system_without_checks_is_steady() -> None:
    state = SteadyState(BoundedTrace(trio.current_time))
    assert not state
    assert await state.holds(1.0, within=0.0)


async def test_an_async_check_has_a_time_limit() -> None:
    async def slow() -> str | None:
        await trio.sleep(10)
        return None

    state = steady(slow, within=5.0)
    await state.look()
    assert state.problems == {"it works": "the check took longer than 5 s"}


async def test_a_slow_check_that_holds_in_time_holds() -> None:
    async def slow() -> str | None:
        await trio.sleep(4)
        return None

    state = steady(slow, within=5.0)
    await state.look()
    assert state.problems == {}


async def test_a_check_that_raises_does_not_hold() -> None:
    state = steady(lambda: str(1 / 0))
    await state.look()
    assert state.problems == {"it works": "the check raised ZeroDivisionError('division by zero')"}


async def test_a_check_that_returns_another_type_is_a_problem() -> None:
    state = steady(lambda: True)  # type: ignore[arg-type, return-value]
    await state.look()
    assert "returned True; return None, or the problem" in state.problems["it works"]


async def test_only_changed_results_are_recorded() -> None:
    trace = BoundedTrace(trio.current_time)
    state = SteadyState(trace, every=0.5)
    state.add("it works", changing(2.0, 4.0))
    with trio.move_on_after(10):
        await state.watch()
    events = [msgspec.json.decode(line) for line in trace.lines]
    assert [(event["holds"], event.get("problem")) for event in events] == [
        (False, "not now"),
        (True, None),
        (False, "not now"),
    ]


async def test_after_the_end_of_the_experiment_no_result_counts() -> None:
    trace = BoundedTrace(trio.current_time)
    state = SteadyState(trace)
    state.add("it works", changing(0.0, 3.0))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(state.watch)
        await trio.sleep(2.0)
        state.end()
        # `end` stops the watch, so the nursery ends too.
        await trio.sleep(2.0)
    await state.look()
    assert [msgspec.json.decode(line)["holds"] for line in trace.lines] == [True]

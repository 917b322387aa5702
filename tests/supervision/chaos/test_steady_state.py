from collections.abc import Callable

import msgspec
import pytest
import trio

from supervision.recording.trace import BoundedTrace
from supervision.chaos.steady_state import SteadyCheck, SteadyState


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


async def test_it_holds_once_it_has_held_for_so_long() -> None:
    state = steady(changing(3.0))
    began = trio.current_time()
    assert await state.holds(5.0, within=4.0)
    assert trio.current_time() - began == pytest.approx(8.0, abs=0.1)


async def test_it_does_not_hold_if_it_begins_too_late() -> None:
    state = steady(changing(3.0))
    assert not await state.holds(1.0, within=2.0)
    assert state.problems == {"it works": "not now"}


async def test_an_interruption_begins_the_wait_anew() -> None:
    state = steady(changing(0.0, 2.0, 3.0))
    began = trio.current_time()
    assert await state.holds(5.0, within=10.0)
    assert trio.current_time() - began == pytest.approx(8.0, abs=0.1)


async def test_what_has_held_for_long_has_to_go_on_for_as_long_again() -> None:
    state = steady(lambda: None)
    assert await state.holds(1.0, within=1.0)
    began = trio.current_time()
    assert await state.holds(5.0, within=1.0)
    assert trio.current_time() - began >= 5.0


async def test_a_system_without_checks_is_steady() -> None:
    state = SteadyState(BoundedTrace(trio.current_time))
    assert not state
    assert await state.holds(1.0, within=0.0)


async def test_a_check_may_ask_somebody_but_not_for_ever() -> None:
    async def slow() -> str | None:
        await trio.sleep(10)
        return None

    state = steady(slow, limit=5.0)
    await state.look()
    assert state.problems == {"it works": "the check took longer than 5 s"}


async def test_a_check_that_is_slow_and_holds_holds() -> None:
    async def slow() -> str | None:
        await trio.sleep(4)
        return None

    state = steady(slow, limit=5.0)
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


async def test_only_changes_are_written_down() -> None:
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

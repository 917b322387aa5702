"""The load of the machine during a live run, and the result of a run on an overloaded machine."""

from __future__ import annotations

import math
import os
from pathlib import Path
from threading import get_native_id

import pytest
import trio

from supervision.laboratory.chaos.live import service
from supervision.laboratory.chaos.live.run import LiveScenario, live
from supervision.laboratory.chaos.live.service import ServiceLimits, run_queue_wait
from supervision.laboratory.chaos.live.world import LiveWorld

# The fixture of this folder replaces the function in the module. These tests need the real one.
load_per_core = service.load_per_core


def write_schedstat(tasks: Path, waited: float, ran: float = 1.0) -> None:
    """Write the file of this thread, as Linux does: nanoseconds on a processor, nanoseconds of waiting, a count."""
    folder = tasks / str(get_native_id())
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "schedstat").write_text(f"{int(ran * 1e9)} {int(waited * 1e9)} 77\n")


def test_the_wait_for_a_processor_is_the_second_number_of_schedstat(tmp_path: Path) -> None:
    write_schedstat(tmp_path, waited=2.5)
    assert run_queue_wait(get_native_id(), tmp_path) == 2.5


@pytest.mark.parametrize("text", [None, "", "many", "1 2", "0 0 0"])
def test_without_a_count_the_wait_for_a_processor_is_unknown(
    tmp_path: Path, text: str | None
) -> None:
    (tmp_path / "7").mkdir()
    if text is not None:
        (tmp_path / "7" / "schedstat").write_text(text)
    assert run_queue_wait(7, tmp_path) is None


def test_the_load_average_counts_per_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (6.0, 1.0, 1.0))
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    assert load_per_core() == 1.5


def test_without_a_load_average_the_load_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown() -> tuple[float, float, float]:
        raise OSError

    monkeypatch.setattr(os, "getloadavg", unknown)
    assert load_per_core() is None
    monkeypatch.delattr(os, "getloadavg")
    assert load_per_core() is None


async def idle(world: LiveWorld) -> None:
    world.steady("all is well", lambda: None)
    await world.until_over()


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder of the threads. This thread has waited for a processor for 100 s, before any run."""
    monkeypatch.setattr(service, "TASKS", tmp_path)
    write_schedstat(tmp_path, waited=100.0)
    return tmp_path


def waits(tasks: Path, seconds: float) -> LiveScenario:
    """Return a scenario that waits for a processor for so many seconds during the faults."""

    async def scenario(world: LiveWorld) -> None:
        world.steady("all is well", lambda: None)
        await trio.sleep(7)
        write_schedstat(tasks, waited=100.0 + seconds)
        await world.until_over()

    return scenario


async def test_a_run_that_waits_long_for_a_processor_is_overloaded(waiting: Path) -> None:
    outcome = await live(waits(waiting, 2.0), 7, seconds=8)
    assert (outcome.verdict, outcome.failed) == ("overloaded", True)
    (problem,) = outcome.problems
    assert problem.startswith("overloaded: for 25% of the time the run waited for a processor")
    measured = outcome.measures.machine
    assert measured is not None
    assert measured.wait_share == pytest.approx(0.25, abs=0.01)
    assert measured.overloaded


async def test_an_exception_of_the_scenario_takes_precedence_over_an_overload(
    waiting: Path,
) -> None:
    async def raises(world: LiveWorld) -> None:
        await waits(waiting, 2.0)(world)
        raise ValueError("no more tickets")

    outcome = await live(raises, 7, seconds=8)
    assert (outcome.overloaded, outcome.verdict) == (True, "error")


async def test_a_run_whose_faults_never_begin_can_be_overloaded_too(waiting: Path) -> None:
    async def never_steady(world: LiveWorld) -> None:
        world.steady("all is well", lambda: "all is not well")
        await trio.sleep(7)
        write_schedstat(waiting, waited=120.0)
        await world.until_over()

    outcome = await live(never_steady, 7, seconds=8)
    assert outcome.verdict == "overloaded"
    assert outcome.problems[0].startswith("the experiment did not begin")


async def test_the_wait_before_the_faults_does_not_count(waiting: Path) -> None:
    async def waits_before(world: LiveWorld) -> None:
        world.steady("all is well", lambda: None)
        await trio.sleep(2)
        write_schedstat(waiting, waited=103.0)
        await world.until_over()

    outcome = await live(waits_before, 7, seconds=8)
    assert outcome.verdict == "held"
    assert outcome.measures.machine is not None
    assert outcome.measures.machine.wait_share == 0.0


async def test_the_limit_decides_how_long_a_run_may_wait(waiting: Path) -> None:
    limits = ServiceLimits(max_wait_share=0.3)
    outcome = await live(waits(waiting, 2.0), 7, seconds=8, limits=limits)
    assert outcome.verdict == "held"


async def test_a_run_on_a_machine_with_a_high_load_average_is_overloaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(service, "load_per_core", lambda: 3.0)
    outcome = await live(idle, 7, seconds=5)
    assert outcome.verdict == "overloaded"
    (problem,) = outcome.problems
    assert "the load average was 3 per core, and at most 2 is allowed" in problem
    outcome = await live(idle, 7, seconds=5, limits=ServiceLimits(max_load=math.inf))
    assert outcome.verdict == "held"
    measured = outcome.measures.machine
    assert measured is not None
    assert (measured.load, measured.max_load) == (3.0, None)


async def test_a_run_holds_on_a_system_that_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "load_per_core", lambda: None)
    outcome = await live(idle, 7, seconds=5)
    assert outcome.verdict == "held"
    measured = outcome.measures.machine
    assert measured is not None
    assert (measured.wait_share, measured.load, measured.overloaded) == (None, None, False)

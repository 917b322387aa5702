"""The cost of simulation, beside plain Trio: `make bench-simulation`.

One run measures everything. The subjects take turns in each round, because the speed of the machine drifts by more than
the differences that matter. The output shows medians. docs/topics/simulation.md explains the figures.
"""

from __future__ import annotations

import argparse
import gc
import resource
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from random import Random
from typing import TypeAlias

import trio
import trio.testing

from actors.runtime import open_runtime
from supervision.laboratory.simulation.knobs import Knobs
from supervision.laboratory.simulation.scenario import Scenario
from supervision.laboratory.simulation.search.sweep import sweep
from supervision.laboratory.simulation.world.world import World
from tests.benchmarks.simulation import programs
from tests.laws.scenarios import scenario, simulate

Program: TypeAlias = Callable[[Random], Awaitable[object]]

DAY = Knobs(max_seconds=100_000.0)
SILENT = Knobs(messages=False)
PROGRAMS: dict[Program, str] = {
    programs.work: "200 servers that crash under supervisors",
    programs.ring: "a token in a ring of 100 processes",
}


class Steps(trio.abc.Instrument):
    """Counts steps of tasks."""

    count = 0

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self.count += 1


def plain(program: Program, *instruments: trio.abc.Instrument) -> None:
    """Run the program under plain Trio, with Trio's own virtual clock."""

    async def main() -> None:
        async with open_runtime(log=False, debug=False, seed=1):
            await program(Random(1))

    clock = trio.testing.MockClock(autojump_threshold=0)
    trio.run(main, clock=clock, instruments=instruments)


def in_world(program: Program, *, invariants: Iterable[str]) -> Scenario:
    """Return the same program as a scenario."""

    @scenario(invariants=invariants)
    async def run(world: World) -> None:
        await program(Random(1))

    return run


def simulated(scenario: Scenario, knobs: Knobs | None = None, seed: int = 1) -> int:
    """Run a scenario in a world. Return the number of steps."""
    return simulate(scenario, seed, knobs=knobs).check().steps


def timed(function: Callable[[], object]) -> float:
    """Return the processor seconds of a call. Collect the garbage of earlier calls first."""
    gc.collect()
    begin = time.process_time()
    function()
    return time.process_time() - begin


def in_turns(
    rounds: int, subjects: dict[str, Callable[[], object]]
) -> dict[str, tuple[float, ...]]:
    """Return the times of each subject, round by round."""
    for function in subjects.values():
        function()
    taken = [[timed(function) for function in subjects.values()] for _ in range(rounds)]
    return dict(zip(subjects, zip(*taken, strict=True), strict=True))


def steps(rounds: int) -> None:
    """Print the time per step, beside plain Trio."""
    for program, title in PROGRAMS.items():
        counter = Steps()
        plain(program, counter)
        watched = in_world(program, invariants="all")
        recorded = in_world(program, invariants=())
        subjects: dict[str, Callable[[], int]] = {
            "a world, full trace": partial(simulated, recorded),
            "a world, no messages in the trace": partial(simulated, recorded, SILENT),
            "a world, full trace, all laws": partial(simulated, watched),
        }
        counts = {"plain Trio": counter.count}
        counts.update({name: subject() for name, subject in subjects.items()})
        times = in_turns(rounds, {"plain Trio": partial(plain, program), **subjects})
        first = [each / counter.count for each in times["plain Trio"]]
        print(f"a step of a task: {title}")
        for name, values in times.items():
            each = [value / counts[name] for value in values]
            ratio = statistics.median(one / other for one, other in zip(each, first, strict=True))
            median = statistics.median(each) * 1e6
            print(f"  {name:36} {counts[name]:7} steps {median:6.2f} us each {ratio:5.2f} times")


def runs(rounds: int) -> None:
    """Whole runs."""
    times = in_turns(
        rounds,
        {
            "a day of a task that wakes once a second": lambda: simulated(
                programs.sleep_for_a_day, DAY
            ),
            "a day of a GenServer's heartbeat, 1 Hz": lambda: simulated(
                programs.beat_for_a_day, DAY
            ),
            "20 actors, 20 s, 30 faults": lambda: simulated(programs.stormy),
            "the same, and five clients": lambda: simulated(programs.attended),
        },
    )
    print("a run")
    for name, values in times.items():
        print(f"  {name:42} {statistics.median(values):8.3f} s")


def sweeps(seeds: int) -> None:
    """Run the last two programs for many seeds, on one core and on two. A busy machine lowers the cores used."""
    for program in (programs.stormy, programs.attended):
        print(f"a sweep of {seeds} seeds of {program.__name__}")
        for jobs in (1, 2):
            begin, used = time.perf_counter(), _used_by_workers()
            results = sweep(program, range(seeds), jobs=jobs, check=0)
            failed = sum(not each.passed for each in results)
            seconds, used = time.perf_counter() - begin, _used_by_workers() - used
            print(
                f"  {jobs} jobs {seeds / seconds:8.1f} seeds/s, {used / seeds * 1000:6.1f} ms each, "
                f"{seeds / used:6.1f} seeds per CPU second, {used / seconds:4.2f} cores used, {failed} failed"
            )


def _used_by_workers() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="make bench-simulation", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seeds", type=int, default=400, help="of the sweep")
    parser.add_argument("only", nargs="*", choices=["steps", "runs", "sweeps", []])
    options = parser.parse_args()
    print(f"Python {sys.version.split()[0]}, trio {trio.__version__}")
    wanted = options.only or ["steps", "runs", "sweeps"]
    if "steps" in wanted:
        steps(options.rounds)
    if "runs" in wanted:
        runs(max(options.rounds // 2, 1))
    if "sweeps" in wanted:
        sweeps(options.seeds)


if __name__ == "__main__":
    main()

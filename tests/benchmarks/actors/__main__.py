"""Costs of processes and servers, next to raw Trio and other actor libraries: `make bench-actors`.

Everything is measured in one run, in rounds in which the subjects take turns; see docs/topics/measurements.md for what
the figures mean. Nothing here is part of the test run.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import platform
import statistics
import subprocess
import sys
from collections.abc import Sequence

from tests.benchmarks.actors.fleet import Member, Samples, TooSlow, fleet, in_rounds
from tests.benchmarks.actors.report import (
    Goal,
    goal_lines,
    grid,
    in_micros,
    median_of,
    quantile,
    ratio,
)
from tests.benchmarks.actors.threads import BARE, CALL, ROWS

RAW = "raw Trio"
OWN = "Ashtree"
SUBJECTS = (
    "ashtree",
    "raw_trio",
    "pykka_threads",
    "fauxtp_asyncio",
    "thespian_simple",
    "thespian_processes",
    "xoscar_direct",
    "xoscar_pool",
    "xoscar_process",
)
CASES = {
    "call": "call an idle server and wait for its answer",
    "cast": "send a server something, and have it handled; a thousand at a time",
    "spawn": "a task or process that does nothing, from its start to its end",
    "start": "start a server, and wait until it is ready",
    "supervised": "the same, under a supervisor",
    "crash": "from an exception in a supervised server until the next one has answered a call",
    "crash_logged": "the same, with the crash written to a log",
}
MEMORY = {"resident": "idle server, resident", "traced": "idle server, Python objects"}
IDLE = 5_000
CROWD = 100_000
STORM = 10_000
STORMS = 5


def main() -> None:
    """Run everything and print it."""
    parser = argparse.ArgumentParser(prog="make bench-actors", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="turns of each subject in each case")
    parser.add_argument("--subjects", nargs="+", choices=SUBJECTS, default=list(SUBJECTS))
    parser.add_argument("--cases", nargs="*", choices=list(CASES), default=list(CASES))
    parser.add_argument("--skip-memory", action="store_true")
    parser.add_argument("--skip-stress", action="store_true")
    parser.add_argument("--skip-threads", action="store_true")
    options = parser.parse_args()
    print(_versions(), "\n")
    goals: list[Goal] = []
    with fleet(options.subjects) as members:
        samples = in_rounds(members, options.cases, options.rounds)
        abouts = [member.about for member in members]
    print(_time_table(samples, abouts, options.cases), "\n")
    goals += _time_goals(samples, abouts)
    if not options.skip_memory:
        weights = _weigh(options.subjects)
        print(_memory_table(weights), "\n")
        goals += _memory_goals(weights)
    if not options.skip_stress:
        goals += _stress()
    if not options.skip_threads:
        goals += _threads()
    print(goal_lines(goals))


def _versions() -> str:
    names = ("trio", "pykka", "fauxtp", "thespian", "xoscar")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
    return f"Python {platform.python_version()}, {versions}"


# Times


def _time_table(samples: Samples, abouts: Sequence[dict[str, object]], cases: Sequence[str]) -> str:
    rows = [["", "callee", *cases, *(["crash p99"] if "crash" in cases else [])]]
    for about in abouts:
        name = str(about["name"])
        row = [name, str(about["callee"])]
        for case in cases:
            rounds = samples.get((case, name))
            times = ratio(samples, case, name, OWN)
            value = in_micros(median_of(rounds)) if rounds else "-"
            row.append(value if times is None else f"{value} ({times:.2f})")
        if "crash" in cases:
            rounds = samples.get(("crash", name))
            row.append(in_micros(quantile(rounds, 0.99)) if rounds else "-")
        rows.append(row)
    legend = "\n".join(f"  {case:12} {CASES[case]}" for case in cases)
    return (
        f"Medians in µs, and in brackets the median of the ratios to {OWN} in each round:\n\n"
        f"{grid(rows)}\n\n{legend}"
    )


def _time_goals(samples: Samples, abouts: Sequence[dict[str, object]]) -> list[Goal]:
    goals = []
    speed = ratio(samples, "call", RAW, OWN)
    if speed is not None:
        goals.append(Goal("calls: 0.7 of raw Trio's ping-pong", f"{speed:.2f}", speed >= 0.7))
    for about in abouts:
        name = str(about["name"])
        if name in (RAW, OWN):
            continue
        times = ratio(samples, "call", name, OWN)
        if about["apart"] and times is not None:
            goals.append(Goal(f"calls: 3 times {name}'s", f"{times:.2f}", times >= 3))
    for about in abouts:
        name = str(about["name"])
        times = ratio(samples, "cast", name, OWN)
        if name in (RAW, OWN) or times is None:
            continue
        least = 2 if name == "pykka" else 5
        goals.append(Goal(f"casts: {least} times {name}'s", f"{times:.2f}", times >= least))
    if ("crash", OWN) in samples:
        crash = median_of(samples["crash", OWN])
        figure = f"{in_micros(crash)} µs"
        goals.append(Goal("crash to restarted: 150 µs", figure, crash <= 150e-6))
    return goals


# Memory


def _weigh(subjects: Sequence[str]) -> dict[str, dict[str, float | None]]:
    """Bytes of an idle actor, each measurement in a new process, so that no memory is there to be used again."""
    weights: dict[str, dict[str, float | None]] = {}
    for subject in subjects:
        for kind in MEMORY:
            with fleet([subject]) as members:
                for member in members:
                    weights.setdefault(member.name, {})[kind] = _weight(member, kind)
    return weights


def _weight(member: Member, kind: str) -> float | None:
    if kind == "traced" and member.about["callee"] == "own process":
        return None  # its objects are elsewhere
    try:
        weight: float | None = member.ask(kind, IDLE)
    except TooSlow:
        return None
    return weight


def _memory_table(weights: dict[str, dict[str, float | None]]) -> str:
    rows = [["bytes for each of many idle actors", "resident", "Python objects"]]
    for name, kinds in weights.items():
        values = [kinds.get(kind) for kind in MEMORY]
        rows.append([name, *("-" if value is None else f"{value:,.0f}" for value in values)])
    return grid(rows)


def _memory_goals(weights: dict[str, dict[str, float | None]]) -> list[Goal]:
    known = [bytes_ for bytes_ in weights.get(OWN, {}).values() if bytes_ is not None]
    if not known:
        return []
    return [Goal("idle server: 5 KB", f"{max(known) / 1024:.2f} KB", max(known) <= 5 * 1024)]


# Stress


def _stress() -> list[Goal]:
    crowd = _run_stress("crowd", CROWD)
    print(
        f"{CROWD:,} idle servers under one supervisor: started in {crowd['start']:.1f} s, "
        f"counted in {crowd['counted'] * 1e3:.0f} ms, stopped in order in {crowd['stop']:.1f} s; "
        f"{crowd['memory'] / CROWD:,.0f} bytes resident for each"
    )
    goals = [Goal(f"{CROWD:,} idle servers", f"{crowd['count']:,}", crowd["count"] == CROWD)]
    for whose, *options in (("as `ashtree serve` sets it", "--tune-gc"), ("as Python sets it",)):
        slowest = _storms(f"with the garbage collector {whose}", *options)
        what = f"slowest call in a storm: 50 ms, collector {whose}"
        goals.append(Goal(what, f"{slowest * 1e3:.0f} ms", slowest <= 0.05))
    print()
    return goals


def _storms(how: str, *options: str) -> float:
    """Print how the storms went. Returns the seconds of the slowest call, in the median storm."""
    storms = [_run_stress("storm", STORM, *options) for _ in range(STORMS)]
    worst = sorted(storm["worst"] for storm in storms)
    middle = statistics.median(storm["median"] for storm in storms)
    print(
        f"{STORM:,} children of one supervisor crash at once, {STORMS} times, {how}: all restarted in "
        f"{statistics.median(storm['seconds'] for storm in storms):.1f} s (median); calls elsewhere "
        f"took {in_micros(middle)} µs (median), and the slowest of each storm "
        f"{', '.join(f'{each * 1e3:.0f}' for each in worst)} ms"
    )
    return statistics.median(worst)


def _threads() -> list[Goal]:
    command = [sys.executable, "-m", "tests.benchmarks.actors.threads"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=300)
    figures: dict[str, list[float]] = json.loads(done.stdout)
    rows = [["CPU of a call, µs", "median", "more than the bare coroutine"]]
    for name in ROWS:
        more = _more(figures, name)
        rows.append([name, in_micros(statistics.median(figures[name])), in_micros(more)])
    print(grid(rows), "\n")
    more = _more(figures, CALL)
    goal = "asyncio_call: 100 µs of CPU more than the bare coroutine"
    return [Goal(goal, f"{in_micros(more)} µs", more <= 100e-6)]


def _more(figures: dict[str, list[float]], name: str) -> float:
    """Return the median of the differences in each round."""
    return statistics.median(
        each - bare for each, bare in zip(figures[name], figures[BARE], strict=True)
    )


def _run_stress(scenario: str, count: int, *options: str) -> dict[str, float]:
    module = "tests.benchmarks.actors.stress"
    command = [sys.executable, "-m", module, scenario, str(count), *options]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=90)
    result: dict[str, float] = json.loads(done.stdout)
    return result


if __name__ == "__main__":
    main()

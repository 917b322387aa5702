"""Run all sweeps: `make sweep`, or `python -m tests.simulation.sweeps`.

The exit code is 0 if all runs pass and each `sometimes` is reached at least once. Otherwise it is 1. With
`--cpu-seconds`, the program only looks for a first failure. The exit code is then 1 if it finds one.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from supervision.laboratory.simulation.search.corpus import Corpus
from tests.simulation.campaign import Campaign, Sweep
from tests.simulation.sweeps import SWEEPS
from tests.simulation.sweeps.first_failure import first_failure


def main(arguments: list[str] | None = None) -> bool:
    """Run the sweeps and print the results. Return True if all passed."""
    parser = argparse.ArgumentParser(prog="make sweep", description=__doc__)
    parser.add_argument(
        "--minutes", type=float, default=10.0, help="the limit for all sweeps together"
    )
    parser.add_argument(
        "--cpu-seconds",
        type=float,
        metavar="S",
        help="stop at the first failure, or when all runs together have used this CPU time",
    )
    parser.add_argument("--stop-at-first", action="store_true", help="the same as --cpu-seconds 60")
    parser.add_argument(
        "--strategy",
        default="auto",
        choices=["auto", "random", "pct", "reshuffle"],
        help="the strategy of the searches",
    )
    parser.add_argument("--seeds-from", type=int, default=1, metavar="N", help="the first seed")
    parser.add_argument("--seeds", type=int, metavar="N", help="the most seeds of each sweep")
    parser.add_argument("--jobs", type=int, metavar="N", help="processes; one per core by default")
    parser.add_argument(
        "--check", type=float, default=0.002, help="the share of runs to repeat in a fresh process"
    )
    parser.add_argument(
        "--measured",
        type=int,
        default=3,
        metavar="N",
        help="the seeds of each sweep to repeat, to measure the share of the product that they reach; 0 for none",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results as JSON")
    parser.add_argument(
        "--corpus", type=Path, default=Path(".ashtree/sweep"), help="the folder for run files"
    )
    parser.add_argument(
        "only", nargs="*", metavar="NAME", help="names of sweeps; all of them by default"
    )
    options = parser.parse_args(arguments)
    unknown = [name for name in options.only if name not in {each.name for each in SWEEPS}]
    if unknown:
        names = ", ".join(repr(each.name) for each in SWEEPS)
        parser.error(f"there is no sweep {unknown[0]!r}; the sweeps are {names}")
    chosen = [each for each in SWEEPS if not options.only or each.name in options.only]
    if options.cpu_seconds is not None or options.stop_at_first:
        return _search(chosen, options)
    return _campaign(chosen, options)


def _search(sweeps: list[Sweep], options: argparse.Namespace) -> bool:
    """Look for a first failure, and print the result. Return True if there is none."""
    found = first_failure(
        sweeps,
        seconds=options.cpu_seconds or 60.0,
        first_seed=options.seeds_from,
        strategy=options.strategy,
    )
    figures = f"after {found.runs:,} runs in {found.seconds:.1f} CPU s"
    if found.sweep is None or found.result is None:
        print(f"passed {figures}")
        return True
    seed, run = found.result.seed, found.result.run
    print(
        f"failed {figures}: {found.sweep.name}, seed {seed}, found by {found.result.strategy}\n{found.result.problem}"
    )
    if run is not None:
        print(f"repeat it with: ashtree replay {Corpus(options.corpus).keep(run)}")
    return False


def _campaign(sweeps: list[Sweep], options: argparse.Namespace) -> bool:
    """Run a campaign of the sweeps, and print the results. Return True if all passed."""
    # Importing these takes a large part of the time of a short search, which does not need them.
    from supervision.applications.command_line.console import plain_console
    from tests.simulation.campaign_output import (
        print_reach,
        print_result,
        print_visit,
        write_json,
    )
    from tests.simulation.sweeps.reach import measured

    console = plain_console()
    campaign = Campaign(
        sweeps,
        seconds=options.minutes * 60,
        first_seed=options.seeds_from,
        seeds=options.seeds,
        jobs=options.jobs,
        check=options.check,
        strategy=options.strategy,
    )
    campaign.run(lambda part: print_visit(console, part))
    findings = list(campaign.examine(Corpus(options.corpus)))
    print_result(console, campaign, findings)
    if options.json is not None:
        write_json(options.json, campaign, findings)
    seeds = range(options.seeds_from, options.seeds_from + options.measured)
    if seeds:
        print_reach(console, sweeps, list(measured(sweeps, seeds, jobs=campaign.jobs)), len(seeds))
    return campaign.passed


if __name__ == "__main__":
    sys.exit(0 if main() else 1)

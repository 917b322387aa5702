"""Run all sweeps: `make sweep`, or `python -m tests.simulation.sweeps`.

The exit code is 0 if all runs pass and each `sometimes` is reached at least once. Otherwise it is 1.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from supervision.command_line.console import plain_console
from supervision.simulation.search.campaign import Campaign
from supervision.simulation.search.campaign_output import print_result, print_visit, write_json
from supervision.simulation.search.corpus import Corpus
from tests.simulation.sweeps import SWEEPS


def main(arguments: list[str] | None = None) -> bool:
    """Run the sweeps and print the results. Return True if all passed."""
    parser = argparse.ArgumentParser(prog="make sweep", description=__doc__)
    parser.add_argument(
        "--minutes", type=float, default=10.0, help="the limit for all sweeps together"
    )
    parser.add_argument("--seeds-from", type=int, default=1, metavar="N", help="the first seed")
    parser.add_argument("--seeds", type=int, metavar="N", help="the most seeds of each sweep")
    parser.add_argument("--jobs", type=int, metavar="N", help="processes; one per core by default")
    parser.add_argument(
        "--check", type=float, default=0.002, help="the share of runs to repeat in a fresh process"
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
    console = plain_console()
    campaign = Campaign(
        [each for each in SWEEPS if not options.only or each.name in options.only],
        seconds=options.minutes * 60,
        first_seed=options.seeds_from,
        seeds=options.seeds,
        jobs=options.jobs,
        check=options.check,
    )
    campaign.run(lambda part: print_visit(console, part))
    findings = list(campaign.examine(Corpus(options.corpus)))
    print_result(console, campaign, findings)
    if options.json is not None:
        write_json(options.json, campaign, findings)
    return campaign.passed


if __name__ == "__main__":
    sys.exit(0 if main() else 1)

"""Run seeds of a scenario, and print a line of JSON for each. Compare the output with another run of this program.

    python -m tests.simulation.digests chat_and_tree 0 200 --reversed --junk 50000

The order of the seeds, PYTHONHASHSEED, objects on the heap, and the versions of Python and Trio must not change the
events of a run.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator, Sequence

import msgspec

from examples.scenarios.lobby_nodes import a_week
from supervision.laboratory.simulation.knobs import Knobs
from supervision.laboratory.simulation.simulate import Scenario
from tests.laws.scenarios import simulate
from tests.simulation.chat_scenario import chat, chat_and_tree
from tests.simulation.cluster_scenarios import cluster
from tests.simulation.node_scenarios import heartbeats
from tests.simulation.scenarios import crashing_tree, tree_and_clients

SCENARIOS: dict[str, Scenario] = {
    each.__name__: each
    for each in (chat_and_tree, chat, crashing_tree, tree_and_clients, heartbeats, cluster, a_week)
}


class Digest(msgspec.Struct, frozen=True):
    """The parts of an outcome that must be the same: the trace, the order of tasks, and the error."""

    seed: int
    events: int
    digest: str
    steps: int
    steps_digest: str
    error: str | None


def digests(scenario: str, seeds: Sequence[int]) -> Iterator[Digest]:
    """Run these seeds in this order, each with the knobs that it draws."""
    for seed in seeds:
        outcome = simulate(SCENARIOS[scenario], seed, knobs=Knobs().drawn(seed), keep_trace=False)
        error = None if outcome.error is None else repr(outcome.error)
        yield Digest(
            seed, outcome.events, outcome.digest, outcome.steps, outcome.steps_digest, error
        )


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenario", choices=sorted(SCENARIOS))
    parser.add_argument("first", type=int)
    parser.add_argument("count", type=int)
    parser.add_argument("--reversed", action="store_true")
    parser.add_argument("--junk", type=int, default=0, help="objects to put on the heap first")
    options = parser.parse_args()
    # The scenarios cut connections, and the log of that goes to standard error. A warning of Python still shows there.
    logging.getLogger("channels").addHandler(logging.NullHandler())
    heap = [object() for _ in range(options.junk)]
    seeds = range(options.first, options.first + options.count)
    for digest in digests(options.scenario, seeds[::-1] if options.reversed else seeds):
        print(msgspec.json.encode(digest).decode(), flush=True)
    del heap


if __name__ == "__main__":
    main()

"""Nodes on Redis in a world: whatever breaks, every loss is counted, nothing comes twice, and a seed repeats itself."""

import os

from supervision.laboratory.simulation.knobs import Knobs
from tests.laws.scenarios import simulate
from tests.simulation.redis_scenario import nodes_under_faults

DEEP = os.environ.get("HYPOTHESIS_PROFILE") == "deep"


def test_nodes_count_every_loss_and_come_back() -> None:
    outcomes = [
        simulate(nodes_under_faults, seed, knobs=Knobs().drawn(seed)).check()
        for seed in range(200 if DEEP else 4)
    ]
    assert any(outcome.sometimes["a message was lost"] for outcome in outcomes)


def test_the_same_seed_gives_the_same_run() -> None:
    first, again = [simulate(nodes_under_faults, 7, knobs=Knobs().drawn(7)) for _ in range(2)]
    assert (again.digest, again.steps_digest) == (first.digest, first.steps_digest)

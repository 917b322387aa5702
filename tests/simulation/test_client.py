"""Clients and a server in one world: all come back, and no push has two results."""

import os

import pytest

from supervision.laboratory.simulation.knobs import Knobs
from supervision.laboratory.simulation.search.report import SweepReport
from supervision.laboratory.simulation.search.sweep import sweep
from tests.laws.scenarios import simulate
from tests.simulation.client_scenario import clients_come_back

DEEP = os.environ.get("HYPOTHESIS_PROFILE") == "deep"


def test_clients_come_back_from_broken_connections_crashes_and_dead_servers() -> None:
    report = SweepReport(scenario="clients_come_back")
    seeds = range(1, 1001 if DEEP else 7)
    for result in sweep(clients_come_back, seeds, check=0):
        report.add(result)
    assert not report.failures
    assert report.faults["applied"] > 2.5 * len(seeds)
    assert report.unseen == []


@pytest.mark.parametrize("seed", range(2 if DEEP else 1))
def test_the_same_seed_gives_the_same_run(seed: int) -> None:
    one = simulate(clients_come_back, seed, knobs=Knobs().drawn(seed)).check()
    other = simulate(clients_come_back, seed, knobs=Knobs().drawn(seed))
    assert (one.digest, one.steps_digest) == (other.digest, other.steps_digest)

"""Nodes on Redis agree after every fault, and the invariants find what would keep them from it.

A thousand seeds:

    ashtree simulate tests.simulation.cluster_scenarios:cluster --seeds 1-1000
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import pytest

from examples.scenarios.lobby_nodes import a_week
from supervision.laboratory.simulation.knobs import Knobs
from supervision.laboratory.simulation.outcome import identify
from supervision.laboratory.simulation.search.report import SweepReport
from supervision.laboratory.simulation.search.sweep import sweep
from supervision.laboratory.simulation.simulate import Scenario
from tests.laws.scenarios import simulate
from tests.simulation.cluster_scenarios import cluster
from tests.simulation.planted.nodes import BUGS
from tests.simulation.planted.planting import Planted

DEEP = os.environ.get("HYPOTHESIS_PROFILE") == "deep"
SOON = 25


@pytest.mark.parametrize(
    ("program", "seeds"),
    [
        (cluster, range(1, 1001 if DEEP else 2)),
        (a_week, range(1, 201 if DEEP else 2)),
    ],
    ids=["five nodes", "three nodes with clients"],
)
def test_nodes_agree_in_the_end(program: Scenario, seeds: Sequence[int]) -> None:
    report = SweepReport(scenario="nodes")
    for result in sweep(program, seeds, check=0):
        report.add(result)
    assert not report.failures
    if DEEP:
        assert report.unseen == []


@pytest.mark.parametrize("bug", BUGS if DEEP else BUGS[1::6], ids=lambda bug: bug.name)
def test_a_planted_bug_of_nodes_is_found_soon(bug: Planted) -> None:
    found = []
    for seed in range(SOON):
        outcome = simulate(bug.scenario, seed, knobs=Knobs().drawn(seed))
        found.append(identify(outcome.error))
        if found[-1] is not None:
            break
    assert found[-1] == bug.failure

"""Durable topics under kills during appends: acknowledged messages arrive once and in order, or clients get a reason.

A thousand seeds:

    ashtree simulate tests.simulation.durable_scenario:on_disk --seeds 1-1000
"""

import os

import pytest

from supervision.laboratory.simulation.knobs import Knobs
from supervision.laboratory.simulation.search.report import SweepReport
from supervision.laboratory.simulation.search.sweep import sweep
from supervision.laboratory.simulation.simulate import Scenario
from tests.laws.scenarios import simulate
from tests.simulation.durable_scenario import in_memory, in_redis, on_disk

DEEP = os.environ.get("HYPOTHESIS_PROFILE") == "deep"


@pytest.mark.parametrize(
    "program", [in_memory, on_disk, in_redis], ids=["memory", "sqlite", "redis"]
)
def test_an_acknowledged_message_arrives_once_and_in_order(program: Scenario) -> None:
    report = SweepReport(scenario="durable topics")
    seeds, params = (range(1, 1001), {}) if DEEP else (range(1, 2), {"seconds": 4.0})
    for result in sweep(program, seeds, params=params, check=0):
        report.add(result)
    assert not report.failures
    if DEEP:
        assert report.unseen == []


def test_the_same_seed_gives_the_same_run() -> None:
    one, other = (
        simulate(on_disk, 7, knobs=Knobs().drawn(7), params={"seconds": 2.0}) for _ in range(2)
    )
    assert (one.digest, one.steps_digest) == (other.digest, other.steps_digest)

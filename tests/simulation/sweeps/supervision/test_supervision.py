"""Run each sweep of supervision with a few seeds. `make sweep` runs many more seeds."""

from __future__ import annotations

import pytest

from supervision.laboratory.simulation.knobs import Knobs
from supervision.laboratory.simulation.scenario import Scenario
from tests.laws.scenarios import simulate
from tests.simulation.sweeps.supervision.applications import applications
from tests.simulation.sweeps.supervision.dynamic import dynamic_supervisors
from tests.simulation.sweeps.supervision.nested import nested_supervisors
from tests.simulation.sweeps.supervision.partitions import partition_supervisors
from tests.simulation.sweeps.supervision.supervisors import supervisors
from tests.simulation.sweeps.supervision.tasks import streams, tasks

SWEEPS = [
    supervisors,
    dynamic_supervisors,
    partition_supervisors,
    tasks,
    streams,
    applications,
    nested_supervisors,
]


@pytest.mark.parametrize("scenario", SWEEPS, ids=lambda sweep: sweep.__name__)
def test_the_sweep_finds_nothing_in_a_few_worlds(scenario: Scenario) -> None:
    for seed in range(10):
        simulate(scenario, seed, knobs=Knobs().drawn(seed)).check()

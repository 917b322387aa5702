"""In random worlds, the public functions of `actors` agree with their models."""

from __future__ import annotations

import pytest

from supervision.laboratory.simulation.scenario import Scenario
from supervision.laboratory.simulation.search.sweep import sweep
from tests.simulation.sweeps.crowds import agents, crowds
from tests.simulation.sweeps.registries import registries
from tests.simulation.sweeps.runtime import processes
from tests.simulation.sweeps.runtimes import runtimes
from tests.simulation.sweeps.servers import servers
from tests.simulation.sweeps.state_machines import state_machines
from tests.simulation.sweeps.timers import timers

# Ordinary test runs use few seeds. `make sweep` runs thousands.
SEEDS = 5
ALL = (processes, servers, timers, state_machines, registries, crowds, agents, runtimes)


@pytest.mark.parametrize("scenario", ALL, ids=lambda each: each.__name__)
def test_the_runtime_agrees_with_its_model(scenario: Scenario) -> None:
    for result in sweep(scenario, range(SEEDS), jobs=0, check=0):
        assert result.passed, f"seed {result.seed}: {result.problem}"
        # Check the number of steps, because a sweep in which nothing happens would pass too.
        assert result.steps > 50

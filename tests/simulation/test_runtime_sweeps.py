"""The public functions of `actors` do what their models say, in random worlds."""

from __future__ import annotations

import pytest

from supervision.simulation.scenario import Scenario
from supervision.simulation.search.sweep import sweep
from tests.simulation.sweeps.crowds import agents, crowds
from tests.simulation.sweeps.registries import registries
from tests.simulation.sweeps.runtime import processes
from tests.simulation.sweeps.servers import servers
from tests.simulation.sweeps.state_machines import state_machines
from tests.simulation.sweeps.timers import timers

# `make sweep` runs thousands of seeds.
SEEDS = 5
ALL = (processes, servers, timers, state_machines, registries, crowds, agents)


@pytest.mark.parametrize("scenario", ALL, ids=lambda each: each.__name__)
def test_the_runtime_agrees_with_its_model(scenario: Scenario) -> None:
    for result in sweep(scenario, range(SEEDS), jobs=0, check=0):
        assert result.passed, f"seed {result.seed}: {result.problem}"
        # A sweep in which nothing happens would pass too.
        assert result.events > 50

"""The public functions of `actors` do what their models say, in random worlds."""

from __future__ import annotations

import pytest

from supervision.simulation.scenario import Scenario
from supervision.simulation.search.sweep import sweep
from tests.simulation.sweeps.runtime import processes

SEEDS = 15


@pytest.mark.parametrize("scenario", [processes], ids=lambda each: each.__name__)
def test_the_runtime_agrees_with_its_model(scenario: Scenario) -> None:
    reached: dict[str, bool] = {}
    for result in sweep(scenario, range(SEEDS), jobs=0, check=0):
        assert result.passed, f"seed {result.seed}: {result.problem}"
        for name, held in result.sometimes.items():
            reached[name] = reached.get(name, False) or held
    # A sweep that reaches nothing would pass too.
    assert all(reached.values()), reached

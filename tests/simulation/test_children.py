"""An endpoint with processes of its own in a simulated world."""

from __future__ import annotations

import json

import pytest

from supervision.simulation import simulate
from tests.simulation.children_scenario import COUNTER, counting


@pytest.mark.parametrize("seed", range(5))
def test_the_children_of_a_simulated_endpoint_run_crash_and_restart(seed: int) -> None:
    outcome = simulate(counting, seed)
    outcome.check()
    events = [json.loads(line) for line in outcome.trace]
    kinds = [event["kind"] for event in events if event.get("path") == COUNTER]
    assert [kind for kind in kinds if kind in ("spawned", "exited")][:3] == [
        "spawned",
        "exited",
        "spawned",
    ]
    assert simulate(counting, seed).digest == outcome.digest

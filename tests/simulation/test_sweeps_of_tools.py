"""The sweeps of pollers, recorders, observers and zombies pass on a healthy tree, and reach their rare states."""

from __future__ import annotations

import os
from typing import Any

import pytest

from supervision.laboratory.simulation.knobs import Knobs
from tests.laws.scenarios import simulate
from tests.simulation.sweeps.channels.observing import observed_program, observer_rows
from tests.simulation.sweeps.channels.socket_pairs import transports
from tests.simulation.sweeps.supervision.recording import recording
from tests.simulation.sweeps.zombies import zombies

DEEP = os.environ.get("HYPOTHESIS_PROFILE") == "deep"
# The rare states that the seeds of each sweep must reach.
RARE: dict[Any, set[str]] = {
    transports: {"an out-buffer overflows", "the backlog gives up a client"},
    recording: {"a ring was full", "a capsule was written"},
    observer_rows: {"messages wait below a group", "internal processes are a group"},
    observed_program: {
        "a page with open internal processes was compared",
        "a page with closed internal processes was compared",
    },
    zombies: {"a zombie held something"},
}


@pytest.mark.parametrize("sweep", RARE, ids=lambda sweep: sweep.__name__)
def test_a_sweep_passes_on_a_healthy_tree_and_reaches_its_rare_states(sweep: Any) -> None:
    reached: set[str] = set()
    for seed in range(1000 if DEEP else 15):
        outcome = simulate(sweep, seed, knobs=Knobs().drawn(seed))
        outcome.check()
        reached |= {name for name, holds in outcome.sometimes.items() if holds}
    assert reached >= RARE[sweep]

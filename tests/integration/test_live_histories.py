"""A live experiment with real sockets checks the history of its clients as a simulated run does."""

from __future__ import annotations

import math

from channels.testing import LiveNetwork
from examples.scenarios.cells import Cells, busy_clients, check_cells
from supervision.chaos import Phases, ServiceLimits, run_live
from supervision.histories import NotExplained
from supervision.laboratory.chaos.settings import settings_of
from supervision.simulation import World, scenario
from tests.simulation.test_histories import WritesBoth

ANY_SERVICE = ServiceLimits(
    max_late_share=1.0, max_wait_share=1.0, max_load=math.inf, min_in_time=0.0
)
"""Limits that every run meets. These tests run on busy machines, so they must not depend on speed."""


def test_a_live_experiment_checks_the_history_of_its_clients() -> None:
    for cells in (Cells, WritesBoth):

        @scenario(params={"clients": 4, "pushes": 8, "seconds": 3})
        async def experiment(world: World, cells: type[Cells] = cells) -> None:
            await check_cells(world, cells=cells)

        outcome = run_live(
            experiment,
            seed=1,
            seconds=2.0,
            faults=settings_of(busy_clients).faults if cells is Cells else (),
            network=LiveNetwork(),
            phases=Phases(before=0.1, after=0.1),
            limits=ANY_SERVICE,
        )
        if cells is Cells:
            assert outcome.error is None
        else:
            assert isinstance(outcome.error, NotExplained)
            assert any("|- " in problem for problem in outcome.problems), outcome.problems

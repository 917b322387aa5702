"""Hypothesis strategies for seeds, schedules and plans of faults.

    from hypothesis import given
    from supervision.laboratory.simulation.strategies import worlds

    @given(worlds(Storm(["/top/*"], count=3)))
    def test_every_child_comes_back(world):
        world.simulate(scenario).check()

Hypothesis draws everything before the run begins. It shrinks failures itself, towards no faults, early faults and the
canonical schedule. Use these strategies for scenarios whose input is more than a seed, and beside other Hypothesis
tests. For a wide search, use `sweep`.

This is the only module that needs the package `hypothesis`.
"""

from __future__ import annotations

from typing import Any

from attrs import evolve, field, frozen
from hypothesis import currently_in_test_context, reject
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from supervision.laboratory.chaos.faults.kinds import (
    FAULTS,
    ConnectionFault,
    DiskFault,
    Fault,
    KillNode,
    MessageFault,
)
from supervision.laboratory.chaos.faults.moments import OPERATIONS, At, On
from supervision.laboratory.chaos.faults.plan import Storm
from supervision.laboratory.chaos.faults.report import InertPlan
from supervision.laboratory.simulation.knobs import Knobs
from supervision.laboratory.simulation.outcome import Outcome
from supervision.laboratory.simulation.scheduling.deviations import Tape
from supervision.laboratory.simulation.simulate import Scenario, simulate

__all__ = ["SimulatedWorld", "faults", "plans", "tapes", "worlds"]

_STEP = 0.05
_MOST_FIRST = 7


@frozen(kw_only=True)
class SimulatedWorld:
    """One example: the input of a run.

    Attributes:
        seed: the seed. It decides everything except the order of tasks and the faults.
        faults: the fault plan.
        tape: the order of tasks.
        knobs: the settings of the world.
    """

    seed: int = 0
    faults: tuple[Fault, ...] = ()
    tape: Tape = field(factory=lambda: Tape(()))
    knobs: Knobs = field(factory=Knobs)

    def simulate(self, scenario: Scenario, **options: Any) -> Outcome:
        """Run a scenario in this world.

            world.simulate(scenario, params={"rooms": 3}).check()

        Args:
            scenario: as for `simulate`.
            **options: other arguments of `simulate`.

        Returns:
            The outcome of the run.

        In a Hypothesis test, this method rejects the example if no fault of the plan was applied, as
        `hypothesis.assume` does.
        """
        outcome = simulate(
            scenario,
            self.seed,
            knobs=evolve(self.knobs, policy="canonical"),
            faults=self.faults,
            deviations=self.tape,
            **options,
        )
        if isinstance(outcome.error, InertPlan) and currently_in_test_context():
            reject()
        return outcome


def worlds(
    storm: Storm | None = None,
    *,
    knobs: Knobs | None = None,
    seeds: SearchStrategy[int] | None = None,
    choices: int = 100,
) -> SearchStrategy[SimulatedWorld]:
    """Draw worlds for a scenario.

        @given(worlds(Storm(["/top/*"], kinds=["kill"], count=3, within=5.0)))

    Args:
        storm: the faults to draw from, and their maximal number; None for no faults.
        knobs: the settings of all worlds.
        seeds: the seeds, for delays and for the scenario's random numbers; None takes 0 to 9.
        choices: the number of rounds that may deviate from the canonical order. These are the first rounds of the run
            with a choice.

    Returns:
        A strategy for `given`.
    """
    return st.builds(
        SimulatedWorld,
        seed=st.integers(0, 9) if seeds is None else seeds,
        faults=st.just(()) if storm is None else plans(storm),
        tape=tapes(choices),
        knobs=st.just(knobs or Knobs()),
    )


def tapes(choices: int = 100) -> SearchStrategy[Tape]:
    """Draw schedules. A schedule selects the task that runs first in each of the first rounds with a choice.

        @given(tapes(50))

    Args:
        choices: the maximal number of these rounds.

    Returns:
        A strategy for tapes.
    """
    first = st.just(0) | st.integers(0, _MOST_FIRST)
    return st.lists(first, max_size=choices).map(lambda some: Tape(tuple(some)))


def plans(storm: Storm) -> SearchStrategy[tuple[Fault, ...]]:
    """Draw plans with the targets and kinds of a storm, and with at most `storm.count` faults.

        @given(plans(Storm(["/top/*"], kinds=["kill"], count=5)))

    Args:
        storm: the faults to draw from.

    Returns:
        A strategy for tuples of faults.
    """
    return st.lists(faults(storm), max_size=storm.count).map(tuple)


def faults(storm: Storm) -> SearchStrategy[Fault]:
    """Draw single faults with the targets and kinds of a storm.

        @given(faults(Storm(["/top/*"], kinds=["kill"])))

    Args:
        storm: the faults to draw from.

    Returns:
        A strategy for single faults.
    """
    return st.one_of([_faults(storm, FAULTS[kind]) for kind in dict.fromkeys(storm.kinds)])


def _faults(storm: Storm, kind: type[Any]) -> SearchStrategy[Any]:
    known = _fields(storm)
    fields = {name: known[name] for name in kind.__struct_fields__ if name in known}
    if issubclass(kind, ConnectionFault):
        fields["target"] = st.sampled_from(storm.connections)
    if issubclass(kind, DiskFault):
        fields["target"] = st.sampled_from(storm.files)
    waits = "target" in fields and not issubclass(kind, ConnectionFault)
    if kind is KillNode and storm.files:
        waits, fields["power"] = True, st.booleans()
    if waits and storm.callbacks:
        fields["when"] |= _callbacks(kind)
    if "one" in fields:
        pairs = [(one, other) for one in storm.hosts for other in storm.hosts if one != other]
        return st.sampled_from(pairs).flatmap(
            lambda pair: st.builds(
                kind, **{**fields, "one": st.just(pair[0]), "other": st.just(pair[1])}
            )
        )
    return st.builds(kind, **fields)


def _fields(storm: Storm) -> dict[str, SearchStrategy[Any]]:
    """Return the strategies for the fields of faults."""
    nodes = st.sampled_from(storm.nodes) if storm.nodes else st.none()
    return {
        "when": _times(storm.after, storm.within).map(At),
        "target": st.sampled_from(storm.targets or ("*",)),
        "seconds": _times(0.0, storm.longest),
        "latency": _times(0.0, storm.longest),
        "reason": st.sampled_from(("shutdown", "normal", "kill", "bored")),
        "messages": st.sampled_from((1, 10, 100)),
        "error": st.sampled_from(("EIO", "ENOSPC")),
        "pick": st.none() | st.sampled_from((0.0, 0.5)),
        "both": st.booleans(),
        "node": nodes,
        "reboot_after": st.none() | _times(0.0, storm.longest),
        "one": nodes,
        "other": nodes,
    }


def _callbacks(kind: type[Any]) -> SearchStrategy[On]:
    names: tuple[str, ...] = ("message", "init", "terminate")
    if issubclass(kind, DiskFault | KillNode):
        names = OPERATIONS
    elif issubclass(kind, MessageFault):
        names = ("message",)
    return st.builds(On, st.sampled_from(names), nth=st.integers(1, 5))


def _times(least: float, most: float) -> SearchStrategy[float]:
    """Draw seconds in readable steps. The earliest time is the simplest."""
    steps = max(0, int((most - least) / _STEP))
    return st.integers(0, steps).map(lambda step: round(least + step * _STEP, 6))

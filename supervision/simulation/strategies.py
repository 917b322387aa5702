"""Hypothesis as another way to search: strategies for seeds, schedules and plans of faults.

    from hypothesis import given
    from supervision.simulation.strategies import worlds

    @given(worlds(Storm(["/top/*"], count=3)))
    def test_everybody_comes_back(world):
        world.simulate(scenario).check()

Everything is drawn before the run begins, so that Hypothesis never has anything to say inside of it. It shrinks what
it finds towards no faults, early ones and the canonical schedule. To search widely, sweep over seeds: Hypothesis is
for a test among other tests of its kind, and for scenarios whose input is more than a seed.

The only module that needs the package `hypothesis`.
"""

from __future__ import annotations

from typing import Any

from attrs import evolve, field, frozen
from hypothesis import currently_in_test_context, reject
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from supervision.chaos.faults.kinds import FAULTS, ConnectionFault, Fault, MessageFault
from supervision.chaos.faults.moments import At, On
from supervision.chaos.faults.plan import Storm
from supervision.chaos.faults.report import InertPlan
from supervision.simulation.knobs import Knobs
from supervision.simulation.outcome import Outcome
from supervision.simulation.scheduling.deviations import Tape
from supervision.simulation.simulate import Scenario, simulate

__all__ = ["SimulatedWorld", "faults", "plans", "tapes", "worlds"]

_STEP = 0.05
_MOST_FIRST = 7


@frozen(kw_only=True)
class SimulatedWorld:
    """One example: what decides a run.

    Attributes:
        seed: of everything but the order of tasks.
        faults: the plan.
        tape: the order of tasks.
        knobs: settings of the world.
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
            **options: what else `simulate` takes.

        In a test, an example is rejected, as `hypothesis.assume` does it, if nothing of its plan was applied: it has
        shown nothing then.
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
    """Worlds in which a scenario may run.

        @given(worlds(Storm(["/top/*"], kinds=["kill"], count=3, within=5.0)))

    Args:
        storm: which faults there may be, and at most how many; None for none.
        knobs: settings of all worlds.
        seeds: of what is not drawn itself: delays, what the scenario draws. Few of them, unless told otherwise.
        choices: how many rounds of the scheduler, at most, may have another order than the canonical one, counted from
            the first in which there is a choice.
    """
    return st.builds(
        SimulatedWorld,
        seed=st.integers(0, 9) if seeds is None else seeds,
        faults=st.just(()) if storm is None else plans(storm),
        tape=tapes(choices),
        knobs=st.just(knobs or Knobs()),
    )


def tapes(choices: int = 100) -> SearchStrategy[Tape]:
    """Schedules: who runs first, for the first so many rounds in which there is a choice.

        @given(tapes(50))

    Args:
        choices: at most so many.
    """
    first = st.just(0) | st.integers(0, _MOST_FIRST)
    return st.lists(first, max_size=choices).map(lambda some: Tape(tuple(some)))


def plans(storm: Storm) -> SearchStrategy[tuple[Fault, ...]]:
    """Plans with the targets and kinds of a storm, and no more faults than it has.

        @given(plans(Storm(["/top/*"], kinds=["kill"], count=5)))

    Args:
        storm: what may be drawn.
    """
    return st.lists(faults(storm), max_size=storm.count).map(tuple)


def faults(storm: Storm) -> SearchStrategy[Fault]:
    """Single faults with the targets and kinds of a storm.

    @given(faults(Storm(["/top/*"], kinds=["kill"])))

    Args:
        storm: what may be drawn.
    """
    return st.one_of([_faults(storm, FAULTS[kind]) for kind in dict.fromkeys(storm.kinds)])


def _faults(storm: Storm, kind: type[Any]) -> SearchStrategy[Any]:
    known = _fields(storm)
    fields = {name: known[name] for name in kind.__struct_fields__ if name in known}
    if issubclass(kind, ConnectionFault):
        fields["target"] = st.sampled_from(storm.connections)
    if "target" in fields and not issubclass(kind, ConnectionFault) and storm.callbacks:
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
    """What may stand in the fields of faults."""
    nodes = st.sampled_from(storm.nodes) if storm.nodes else st.none()
    return {
        "when": _times(storm.after, storm.within).map(At),
        "target": st.sampled_from(storm.targets or ("*",)),
        "seconds": _times(0.0, storm.longest),
        "latency": _times(0.0, storm.longest),
        "reason": st.sampled_from(("shutdown", "normal", "kill", "bored")),
        "messages": st.sampled_from((1, 10, 100)),
        "pick": st.none() | st.sampled_from((0.0, 0.5)),
        "both": st.booleans(),
        "node": nodes,
        "reboot_after": st.none() | _times(0.0, storm.longest),
        "one": nodes,
        "other": nodes,
    }


def _callbacks(kind: type[Any]) -> SearchStrategy[On]:
    names = ("message",) if issubclass(kind, MessageFault) else ("message", "init", "terminate")
    return st.builds(On, st.sampled_from(names), nth=st.integers(1, 5))


def _times(least: float, most: float) -> SearchStrategy[float]:
    """Seconds, in steps that are easy to read; the earliest is the simplest."""
    steps = max(0, int((most - least) / _STEP))
    return st.integers(0, steps).map(lambda step: round(least + step * _STEP, 6))

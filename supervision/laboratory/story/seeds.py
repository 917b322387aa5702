"""The conversion of a recording to a simulated run, with the same scenario, seed and places of faults.

*pure*. A recording knows its scenario if it comes from `ashtree chaos`, or if its recorder got the scenario as an
option:

    FlightRecorder(runtime, about={"scenario": "shop.chaos:opening_day", "seed": 7, "params": {"clients": 5}})

A recording of any other program cannot become a simulation, because the recording has the messages of its clients but
not their code.
"""

from __future__ import annotations

from typing import Any

from attrs import frozen

from supervision.laboratory.chaos.faults.kinds import Fault, Kill, Raise
from supervision.laboratory.chaos.faults.moments import At
from supervision.laboratory.simulation.errors import SimulationError
from supervision.recording.reader.model import Incident, StoryModel

__all__ = ["SeedPlan", "plan_of"]


@frozen(kw_only=True)
class SeedPlan:
    """A simulated run that a recording suggests.

    Attributes:
        scenario: the scenario, as `module:function`.
        seed: its seed.
        params: its parameters.
        faults: the faults, with the process paths of the recording as targets.
        left_out: the faults of the recording that are not in the plan, each with the reason.
    """

    scenario: str
    seed: int
    params: dict[str, Any]
    faults: tuple[Fault, ...]
    left_out: tuple[str, ...]


def plan_of(story: StoryModel, *, began: float = 0.0) -> SeedPlan:
    """Return the simulated run that the story of a recording suggests.

    Args:
        story: the story.
        began: the time in the recording at which the plan of faults began, in seconds.

    Raises:
        SimulationError: the recording has no scenario, or no fault that a plan can express.
    """
    recording = story.recording
    scenario = None if recording is None else recording.get("scenario")
    if recording is None or scenario is None:
        raise SimulationError(
            "this recording is of a program and not of a scenario, so it cannot become a simulation: it has the "
            "messages of the clients, but not the code that sent them. Write the workload as a scenario, run it with "
            "`ashtree chaos --trace`, and tell that story"
        )
    faults: list[Fault] = []
    left_out: list[str] = []
    for incident in story.incidents:
        fault, reason = _fault_of(incident, began)
        if fault is not None:
            faults.append(fault)
        else:
            left_out.append(f"{incident.number}. {incident.fault.text}: {reason}")
    if not faults:
        raise SimulationError(
            f"a plan can repeat no fault of this recording of {scenario}: "
            + ("; ".join(left_out) if left_out else "it has no incident")
        )
    return SeedPlan(
        scenario=scenario,
        seed=recording.get("seed", 0),
        params=recording.get("params", {}),
        faults=tuple(faults),
        left_out=tuple(left_out),
    )


def _fault_of(incident: Incident, began: float) -> tuple[Fault | None, str]:
    """Return the planned fault for an incident, or None and the reason."""
    fault = incident.fault
    if fault.process is None:
        return None, "the recording does not say which process it affected"
    when, path = At(max(0.0, round(fault.t - began, 6))), fault.process.path
    kind = fault.fault_type if fault.kind == "fault" else fault.kind
    match kind:
        case "crash":
            return Raise(target=path, when=when), ""
        case "kill" | "killed" | "zombie":
            return Kill(target=path, when=when), ""
    return None, f"a plan from a recording can have kills and crashes, and this is {kind}"

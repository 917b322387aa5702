"""Simulated worlds: a seed decides a run of a program, with virtual time, a seeded scheduler and a virtual network.

Start with `simulate`. docs/topics/simulation.md lists the things that a seed decides.
"""

from supervision.laboratory.simulation.comparing.comparison import (
    Comparison,
    Policy,
    compare,
)
from supervision.laboratory.simulation.draws import Draw
from supervision.laboratory.simulation.errors import (
    BudgetSpent,
    Deadlock,
    Diverged,
    Escape,
    InvariantViolated,
    Livelock,
    NotReached,
    RunFileError,
    SimulationError,
    SimulationFailed,
)
from supervision.laboratory.simulation.forks import Fork, ForkedSeed
from supervision.laboratory.simulation.knobs import Knobs
from supervision.laboratory.simulation.outcome import Outcome
from supervision.laboratory.simulation.replaying.run_file import RunFile, load_run, replay, save_run
from supervision.laboratory.simulation.replaying.self_check import check_determinism, check_many
from supervision.laboratory.simulation.replaying.story import tell
from supervision.laboratory.simulation.scenario import ScenarioSettings, scenario, settings_of
from supervision.laboratory.simulation.scheduling.deviations import Deviation, Tape
from supervision.laboratory.simulation.search.corpus import Corpus, Replayed
from supervision.laboratory.simulation.search.report import Failures, SweepReport
from supervision.laboratory.simulation.search.searching import Search
from supervision.laboratory.simulation.search.sweep import SeedResult, sweep
from supervision.laboratory.simulation.shrinking.shrink import Shrunk, shrink
from supervision.laboratory.simulation.simulate import Scenario, simulate
from supervision.laboratory.simulation.world.disk import Disk, VirtualFile
from supervision.laboratory.simulation.world.network import (
    Network,
    VirtualConnection,
    VirtualListener,
    VirtualStream,
)
from supervision.laboratory.simulation.world.nodes import Node, Nodes
from supervision.laboratory.simulation.world.world import World

__all__ = [
    "BudgetSpent",
    "Comparison",
    "Corpus",
    "Deadlock",
    "Deviation",
    "Disk",
    "Diverged",
    "Draw",
    "Escape",
    "Failures",
    "Fork",
    "ForkedSeed",
    "InvariantViolated",
    "Knobs",
    "Livelock",
    "Network",
    "Node",
    "Nodes",
    "NotReached",
    "Outcome",
    "Policy",
    "Replayed",
    "RunFile",
    "RunFileError",
    "Scenario",
    "ScenarioSettings",
    "Search",
    "SeedResult",
    "Shrunk",
    "SimulationError",
    "SimulationFailed",
    "SweepReport",
    "Tape",
    "VirtualConnection",
    "VirtualFile",
    "VirtualListener",
    "VirtualStream",
    "World",
    "check_determinism",
    "check_many",
    "compare",
    "load_run",
    "replay",
    "save_run",
    "scenario",
    "settings_of",
    "shrink",
    "simulate",
    "sweep",
    "tell",
]

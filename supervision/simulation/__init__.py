"""Simulated worlds: a seed decides a run of a program, with virtual time, a seeded scheduler and a virtual network.

Start with `simulate`. docs/topics/simulation.md lists the things that a seed decides.
"""

from supervision.simulation.comparing.comparison import Comparison, PairLost, Policy, compare
from supervision.simulation.errors import (
    BudgetSpent,
    Deadlock,
    Diverged,
    Escape,
    InvariantViolated,
    Livelock,
    NodeError,
    NotReached,
    RunFileError,
    SimulationError,
    SimulationFailed,
)
from supervision.simulation.forks import Fork, ForkedSeed
from supervision.simulation.knobs import Knobs
from supervision.simulation.outcome import Outcome
from supervision.simulation.replaying.run_file import RunFile, load_run, replay, save_run
from supervision.simulation.replaying.self_check import check_determinism, check_many
from supervision.simulation.replaying.story import tell
from supervision.simulation.scenario import Settings, scenario, settings_of
from supervision.simulation.scheduling.deviations import Deviation, Tape
from supervision.simulation.search.corpus import Corpus, Replayed
from supervision.simulation.search.report import Failures, SweepReport
from supervision.simulation.search.sweep import SeedResult, sweep
from supervision.simulation.shrinking.shrink import Shrunk, shrink
from supervision.simulation.simulate import Scenario, simulate
from supervision.simulation.world.network import Connection, Network, VirtualListener, VirtualStream
from supervision.simulation.world.nodes import Node, Nodes
from supervision.simulation.world.world import World

__all__ = [
    "BudgetSpent",
    "Comparison",
    "Connection",
    "Corpus",
    "Deadlock",
    "Deviation",
    "Diverged",
    "Escape",
    "Failures",
    "Fork",
    "ForkedSeed",
    "InvariantViolated",
    "Knobs",
    "Livelock",
    "Network",
    "Node",
    "NodeError",
    "Nodes",
    "NotReached",
    "Outcome",
    "PairLost",
    "Policy",
    "Replayed",
    "RunFile",
    "RunFileError",
    "Scenario",
    "SeedResult",
    "Settings",
    "Shrunk",
    "SimulationError",
    "SimulationFailed",
    "SweepReport",
    "Tape",
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

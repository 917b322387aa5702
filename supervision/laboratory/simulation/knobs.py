"""The settings of a simulated world, besides its seed."""

from __future__ import annotations

from typing import Any, Literal

import attrs
from attrs import field, frozen

from actors.arguments import check_number, positive
from actors.runtime import DEFAULT_KILL_GRACE
from supervision.laboratory.entropy import Streams
from supervision.laboratory.simulation.scheduling.schedule import Policy

__all__ = ["Knobs"]

_EPOCH = 1_767_225_600.0  # 2026-01-01T00:00:00Z


def _share(_: object, attribute: attrs.Attribute[Any], value: float) -> None:
    check_number("Knobs", attribute.name, value, "a chance from 0 to 1", least=0, most=1)


def _not_negative(_: object, attribute: attrs.Attribute[Any], value: float) -> None:
    check_number("Knobs", attribute.name, value, "0 or a greater number", least=0)


@frozen(kw_only=True)
class Knobs:
    """The settings of a world. A run file contains them, so a replay has the same settings.

        simulate(scenario, seed=7, knobs=Knobs(quantum=0.02))

    Args:
        quantum: virtual time advances in multiples of this, in seconds. Tasks with deadlines close to each other then
            run in the same round, in any order. With 0, time is exact, and a simulation finds hardly any races.
        policy: the order of the tasks in each round. "seeded" shuffles each round. "pct" and "reshuffle" keep a random
            order for many rounds. "canonical" orders the tasks by age.
        change: the chance that a round changes the order of "pct" or "reshuffle".
        latency: the least and the greatest time that a piece of data travels, in seconds.
        segment: the maximal size of a piece in bytes.
        window: the number of bytes in transit or unread at which a sender must wait.
        connect_timeout: the seconds after which an attempt to connect fails.
        disk: "ordered" or "any", the mode of the disks; see `Disk`.
        max_seconds: the limit for the virtual time of the scenario, in seconds.
        max_steps: the limit for the number of steps of tasks.
        livelock_rounds: a run fails with `Livelock` after this many rounds of the scheduler in one moment.
        epoch: the result of `runtime.now()` at the beginning, in seconds since the epoch.
        messages: record messages in the trace.
        kill_grace: as for `open_runtime`.
        shutdown_deadline: as for `open_runtime`.
        checked: True makes the runtimes check the invariants of `open_runtime(debug=True)`.
        bare: True runs the program without instruments, to find failures that the instruments hide. The run checks no
            invariants, and its trace has no events of processes. The run omits each fault of the plan that waits for a
            callback or a message, or that changes one.
        invariants: the names of the built-in invariants to check in this run; `()` for none. "all" takes the invariants
            of the scenario. The default of a scenario is all built-in invariants.
    """

    quantum: float = field(default=0.005, validator=_not_negative)
    policy: Policy = "seeded"
    change: float = field(default=0.1, validator=_share)
    latency: tuple[float, float] = (0.001, 0.02)
    segment: int = field(default=1460, validator=positive)
    window: int = field(default=65536, validator=positive)
    connect_timeout: float = field(default=10.0, validator=positive)
    disk: Literal["ordered", "any"] = "ordered"
    max_seconds: float = field(default=3600.0, validator=positive)
    max_steps: int = field(default=20_000_000, validator=positive)
    livelock_rounds: int = field(default=50_000, validator=positive)
    epoch: float = field(default=_EPOCH, validator=_not_negative)
    messages: bool = True
    kill_grace: float = field(default=DEFAULT_KILL_GRACE, validator=_not_negative)
    shutdown_deadline: float = field(default=30.0, validator=_not_negative)
    checked: bool = False
    bare: bool = False
    invariants: Literal["all"] | tuple[str, ...] = "all"

    def drawn(self, seed: int) -> Knobs:
        """Return the settings with some of them drawn from a seed, for a search.

        These are quantum, latency, segment, window and change, and the policy if it is "seeded".

        Args:
            seed: a whole number. The same seed gives the same settings.
        """
        stream = Streams(seed).fresh("knobs")
        least = stream.choice((0.0, 0.001, 0.005))
        drawn = attrs.evolve(
            self,
            quantum=stream.choice((0.0, 0.001, 0.005, 0.02, 0.1)),
            latency=(least, least + stream.choice((0.0, 0.005, 0.02, 0.2))),
            segment=stream.choice((7, 64, 1460, 65536)),
            window=stream.choice((2048, 65536, 1 << 20)),
        )
        # The last draws, so that half of the seeds give the same runs as before these policies existed.
        policies: tuple[Policy, ...] = ("seeded", "seeded", "pct", "reshuffle")
        policy = stream.choice(policies)
        return attrs.evolve(
            drawn,
            policy=policy if self.policy == "seeded" else self.policy,
            change=stream.choice((0.1, 0.01, 0.001)),
        )

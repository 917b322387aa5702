"""The record of one key on its node, and the decisions about its process. *pure*: the time is an argument.

                  +--> (another node owns the key: no record)
                  |
    start --> STARTING --> RUNNING --> STOPPING --> (released: no record)
                  |           |  +---> MOVING ----> (transferred: no record)
                  |           |
                  +-----------+------> HELD ------> RELEASING --> (released: no record)

A crash leads from RUNNING to STARTING. Too many crashes or failed starts lead to HELD: the node owns the key without a
process, and refuses requests until the wait is over. Requests that arrive in STARTING, STOPPING, MOVING and RELEASING
wait in the record. Requests that arrive in RUNNING go to the mailbox.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from typing import Generic, TypeVar

import msgspec
import trio

from actors.exits import ExitReason
from actors.refs import ProcessLike
from actors.small_set import SmallSet
from channels.entities.errors import Failure
from channels.pubsub.adapter import Node
from supervision.backoff import Backoff, Delays
from supervision.strategy import RestartIntensity

__all__ = ["Limits", "Record", "State"]

R = TypeVar("R")


class State(enum.Enum):
    """The state of a key on its node."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    MOVING = "moving"
    HELD = "held"
    RELEASING = "releasing"


class Limits(msgspec.Struct, frozen=True):
    """The restart limits of each key.

    Attributes:
        max_restarts: restarts within `max_seconds`.
        max_seconds: the length of this window.
        backoff: the waits after too many restarts.
    """

    max_restarts: float
    max_seconds: float
    backoff: Backoff


class Record(Generic[R]):
    """One key on the node that owns it, or that tries to own it. `R` is the class of requests.

    Attributes:
        key: the key.
        state: the state.
        fence: the fence of the latest start; 0 before the first.
        process: the process; None while there is none.
        waiting: the requests that wait outside the mailbox, in order; an empty tuple if there are none, to save memory.
        open: the requests that the process has begun and not answered.
        popped: a request that the process took from its mailbox and did not begin.
        has_timeout: True if the process waits for the timeout of a `Within`.
        messages: the number of callbacks that the processes of this key have run.
        last: the time at which the keeper last saw that `messages` had grown. So no message needs a look at the clock.
        seen: the value of `messages` at that time.
        reason: the exit reason of the process, as far as the process knows it.
        failure: the reason why the start failed.
        owner: the node that owns the key, if the arbiter refused it to this node.
        move_to: the next owner, in MOVING.
        move_by: the time from which a move no longer waits for the answers that the process owes.
        transferred: the fence of the next owner, once the arbiter has transferred the key.
        handoff: the encoded state for the next owner, or from the previous owner. None if there is none.
        handoff_fence: the fence of the handover that has arrived for the next start; 0 if there is none.
        has_newer_handoff: True if the handover arrived after this start began, so that the arbiter may have named the
            previous owner.
        born: the time of day at which the latest process began to run; 0 before the first.
        arrived: the previous node and the time of day of the last handover to this node; None if there was none.
        arrival: set when the handover arrives for which the start waits.
        carried: the requests of the last handover to this node, until the next start.
        is_without_handover: True if the start no longer waits for the handover that belongs to its fence.
        is_loading: True from the moment at which the start no longer waits for a handover, until the process runs.
        is_released: True once the arbiter has taken the key back.
        held_until: the time from which a request may start the process again, in HELD.
        starts_again: True in HELD if the process starts again soon, also without a request.
    """

    __slots__ = (
        "_delays",
        "_intensity",
        "arrival",
        "arrived",
        "born",
        "carried",
        "failure",
        "fence",
        "handoff",
        "handoff_fence",
        "has_newer_handoff",
        "has_timeout",
        "held_until",
        "is_loading",
        "is_released",
        "is_without_handover",
        "key",
        "last",
        "messages",
        "move_by",
        "move_to",
        "open",
        "owner",
        "popped",
        "process",
        "reason",
        "seen",
        "starts_again",
        "state",
        "transferred",
        "waiting",
    )

    def __init__(self, key: str) -> None:
        self.key = key
        self.state = State.STARTING
        self.fence = 0
        self.process: ProcessLike | None = None
        self.waiting: list[R] | tuple[()] = ()
        self.open: SmallSet[R] = None
        self.popped: R | None = None
        self.messages = self.seen = 0
        self.last = -math.inf
        self.has_timeout = False
        self.reason: ExitReason = None
        self.failure: Failure | None = None
        self.owner: Node | None = None
        self.move_to: Node | None = None
        self.move_by = math.inf
        self.transferred: int | None = None
        self.handoff: bytes | None = None
        self.handoff_fence = 0
        self.has_newer_handoff = False
        self.born = 0.0
        self.carried: Sequence[R] = ()
        self.arrived: tuple[Node, float] | None = None
        self.arrival: trio.Event | None = None
        self.is_loading = False
        self.is_released = self.is_without_handover = False
        self.held_until = -math.inf
        self.starts_again = False
        self._intensity: RestartIntensity | None = None
        self._delays: Delays | None = None

    @property
    def in_mailbox(self) -> int:
        """The number of messages in the mailbox of the process, without the one that begins a stop or a move."""
        if self.process is None:
            return 0
        is_ending = self.state in {State.STOPPING, State.MOVING}
        return max(0, len(self.process.mailbox.queue) - is_ending)

    @property
    def has_arrived(self) -> bool:
        """True if the next start has a state that only this node has."""
        return self.handoff is not None or self.handoff_fence > self.fence

    def wait(self, request: R) -> None:
        """Let a request wait outside the mailbox."""
        if isinstance(self.waiting, tuple):
            self.waiting = []
        self.waiting.append(request)

    def take_waiting(self) -> list[R]:
        """Remove and return the requests that wait outside the mailbox."""
        waiting, self.waiting = self.waiting, ()
        return list(waiting)

    def wait_first(self, requests: list[R]) -> None:
        """Let requests wait before all others that wait outside the mailbox."""
        if requests:
            self.waiting = [*requests, *self.waiting]

    def begin_start(self) -> None:
        """Forget the latest process, before the start of the next."""
        self.state = State.STARTING
        self.reason = self.failure = self.owner = self.move_to = self.transferred = None
        self.move_by = math.inf
        self.is_loading = self.is_released = self.has_newer_handoff = self.starts_again = False

    def next_fence(self) -> int:
        """Return the smallest fence of the next start; 0 if any is good."""
        return self.fence + 1 if self.fence else 0

    def count_crash(self, limits: Limits, now: float) -> float:
        """Count a crash or a failed start. Return the seconds to wait before the next start; 0 if it may start now."""
        if self._intensity is None:
            self._intensity = RestartIntensity(limits.max_restarts, limits.max_seconds)
        if self._intensity.admit(now):
            return 0.0
        # The next start after the wait begins a new window. The waits grow until the process runs for long.
        self._intensity = None
        if self._delays is None:
            self._delays = Delays(limits.backoff)
        delay = self._delays.next(now)
        self.held_until = now + delay
        return delay

    def is_forgettable(self, limits: Limits, now: float) -> bool:
        """Return True if a record in HELD need not remember its failures any longer."""
        backoff = limits.backoff
        reset_after = backoff.maximum if backoff.reset_after is None else backoff.reset_after
        return self._delays is None or now >= self.held_until + reset_after

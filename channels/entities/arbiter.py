"""The contract of arbiters, which decide the owner of each key.

An arbiter grants a key to one *session* at a time. A session belongs to one start of a node and to one
`EntitySupervisor`. It ends for ever if its lease is lost. Then the node stops its entities and opens another session.

Each grant has a *fence*, a number that grows with each owner of the key. Storages refuse writes with a smaller fence.
So even an owner that does not notice the loss of its lease cannot damage the data of the next owner.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from channels.entities.lease import Lease
from channels.errors import ChannelsError
from channels.pubsub.adapter import Node
from channels.pubsub.workers.grants import Owned, OwnedBy
from supervision.child_spec import ChildSpec

__all__ = ["Arbiter", "ArbiterUnavailable", "Owned", "OwnedBy"]


class ArbiterUnavailable(ChannelsError):
    """The arbiter did not answer in time, or cannot grant keys now.

    Attributes:
        arbiter: the kind of arbiter, such as `"redis"`.
        problem: the reason.
        may_have_run: True if the arbiter may have carried out the request. An owner that gets this error from
            `release` or `transfer` may no longer own the key. It must `acquire` the key before it starts a process.
        retry_after: the seconds until the arbiter grants keys again, if it knows them; 0 otherwise.
    """

    def __init__(
        self, arbiter: str, problem: str, *, may_have_run: bool, retry_after: float = 0.0
    ) -> None:
        super().__init__(f"the {arbiter} arbiter of entities is not available: {problem}")
        self.arbiter = arbiter
        self.problem = problem
        self.may_have_run = may_have_run
        self.retry_after = retry_after


class Arbiter(Protocol):
    """The owner of each key, and the alarms of the keys, for one `EntitySupervisor` of one node.

    All methods run in the thread of the runtime. Each async method returns or raises within the time limit of the
    arbiter. It raises `ArbiterUnavailable` if the arbiter cannot answer, or if the session has ended.
    """

    @property
    def name(self) -> str:
        """The kind of arbiter, for logs and statistics: `"local"`, `"workers"` or `"redis"`."""
        ...

    @property
    def lease(self) -> Lease:
        """The lease of the present session. It is invalid before the first session.

        A router takes it again after each `open_session`, and checks `is_valid` before each message.
        """
        ...

    def start(
        self, supervisor: str, *, on_node_lost: Callable[[Node], None]
    ) -> Sequence[ChildSpec]:
        """Return the child specs of the processes that keep the session. Call it in the runtime of the entities.

        The supervisor starts the processes before the router and stops them after it.

        Args:
            supervisor: the name of the `EntitySupervisor`, the same on all nodes.
            on_node_lost: called when the arbiter learns that a node has ended, and that its keys are free. Must not
                block or raise. Only the arbiter of workers calls it, as soon as the parent has reaped a worker.
        """
        ...

    async def open_session(self, node: Node) -> Lease:
        """Open a new session of this node, and return its lease.

        The earlier session of this node ends, and its keys are free. So call this only after all entities of the
        earlier session have stopped.

        Args:
            node: this node, as `PubSub.node` has it.
        """
        ...

    async def close_session(self) -> None:
        """End the session, so that its keys are free at once. Call this after all entities have stopped.

        Does nothing if the lease is invalid.
        """
        ...

    async def acquire(self, key: str, *, at_least: int = 0) -> Owned | OwnedBy:
        """Own a key, or learn which node owns it.

        Each start of a process needs a fence of its own. So, if this session has started a process of the key before,
        pass its fence plus one, unless `release` or `transfer` has succeeded since. Otherwise the result may be the
        present fence again, because the first answer to an earlier call may have been lost.

        Args:
            key: the key.
            at_least: the smallest acceptable fence. If the present fence of the session is smaller, it gets a new one.

        Returns:
            The fence of this session, or the node that owns the key.
        """
        ...

    async def release(self, key: str, fence: int) -> bool:
        """Give up a key whose process has ended. Return False if the session does not own it with this fence.

        Args:
            key: the key.
            fence: the fence of the ownership.
        """
        ...

    async def transfer(self, key: str, fence: int, to: Node) -> int | None:
        """Pass a key on to the present session of another node, after the process of the key has ended.

        Returns:
            The fence of the new owner. It gets this fence from `acquire`, with `arrived=True`. None if the session does
            not own the key with this fence, or if the other node has no living session; then nothing changes.

        Args:
            key: the key.
            fence: the fence of the present ownership.
            to: the other node.
        """
        ...

    async def set_alarm(self, key: str, at: float | None, fence: int) -> bool:
        """Set the alarm of a key, or clear it with None. Return False if the session does not own the key so.

        A key has at most one alarm. It outlives the ownership, and stays until `clear_alarm`.

        Args:
            key: the key.
            at: the time of day in seconds since the epoch; None for no alarm.
            fence: the fence of the ownership.
        """
        ...

    async def due_alarms(self, now: float, limit: int) -> list[tuple[str, float]]:
        """Return keys whose alarm is due, with the times of the alarms, earliest first. The alarms stay.

        Args:
            now: the time of day in seconds since the epoch.
            limit: the most keys.
        """
        ...

    async def clear_alarm(self, key: str, at: float) -> None:
        """Clear an alarm that has fired, unless it was set to another time meanwhile.

        Args:
            key: the key.
            at: the time of the alarm that has fired, in seconds since the epoch.
        """
        ...

    async def owner(self, key: str) -> Node | None:
        """Return the node whose living session owns a key, or None.

        Args:
            key: the key.
        """
        ...

    def statistics(self) -> dict[str, Any]:
        """Return counters, such as the number of sessions."""
        ...

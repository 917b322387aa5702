"""The common part of the arbiters whose owners are in a `Grants` table: that of this program, or of the parent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from actors.runtime import current_runtime
from channels.entities.arbiter import ArbiterUnavailable
from channels.entities.lease import Lease
from channels.pubsub.adapter import Node
from channels.pubsub.workers import grants
from channels.pubsub.workers.grants import NoSession, Owned, OwnedBy, Request
from supervision.child_spec import ChildSpec

__all__ = ["TableArbiter"]


class TableArbiter:
    """An arbiter that sends requests to a `Grants` table. The base of `LocalArbiter` and `WorkersArbiter`.

    Attributes:
        name: the kind of arbiter.
        lease: the lease of the present session.
    """

    name = ""

    def __init__(self) -> None:
        self.lease = Lease(lambda: 0.0)
        self.lease.lose("no session was opened yet")
        self._supervisor = ""
        self._number = self._sessions = 0

    def start(
        self, supervisor: str, *, on_node_lost: Callable[[Node], None]
    ) -> Sequence[ChildSpec]:
        """Take note of the name. There are no processes."""
        self._supervisor = supervisor
        return ()

    async def open_session(self, node: Node) -> Lease:
        """Open a session. Its lease is valid until `lose` is called."""
        self.lease.lose("the node opened another session")
        clock = current_runtime().since_boot
        # Numbers of this node grow, also if a new arbiter follows an earlier one.
        self._number = max(self._number + 1, int(clock() * 1_000_000))
        # The lease begins before the request, so that it ends if the arbiter ends meanwhile.
        lease = self.lease = Lease(clock)
        try:
            await self._send(grants.Open, node)
        except BaseException:
            lease.lose("the session could not be opened")
            raise
        self._sessions += 1
        return lease

    async def close_session(self) -> None:
        """End the session."""
        if self.lease.is_valid:
            await self._send(grants.Close)
            self.lease.lose("the session was closed")

    async def acquire(self, key: str, *, at_least: int = 0) -> Owned | OwnedBy:
        """Own a key, or learn which node owns it."""
        answer: Owned | OwnedBy = await self._send(grants.Acquire, key, at_least)
        return answer

    async def release(self, key: str, fence: int) -> bool:
        """Give up a key."""
        return bool(await self._send(grants.Release, key, fence))

    async def transfer(self, key: str, fence: int, to: Node) -> int | None:
        """Pass a key on to another node."""
        answer: int | None = await self._send(grants.Transfer, key, fence, to)
        return answer

    async def set_alarm(self, key: str, at: float | None, fence: int) -> bool:
        """Set or clear the alarm of a key."""
        return bool(await self._send(grants.SetAlarm, key, at, fence))

    async def due_alarms(self, now: float, limit: int) -> list[tuple[str, float]]:
        """Return keys whose alarm is due."""
        answer: list[tuple[str, float]] = await self._send(grants.DueAlarms, now, limit)
        return answer

    async def clear_alarm(self, key: str, at: float) -> None:
        """Clear an alarm that has fired."""
        await self._send(grants.ClearAlarm, key, at)

    async def owner(self, key: str) -> Node | None:
        """Return the node that owns a key."""
        answer: Node | None = await self._send(grants.OwnerOf, key)
        return answer

    async def _send(self, kind: Callable[..., Request], *arguments: Any) -> Any:
        lease = self.lease
        if lease.is_valid:
            try:
                return await self._ask(kind(self._supervisor, self._number, *arguments))
            except NoSession:
                lease.lose("the arbiter does not know the session")
        problem = f"the session has ended: {lease.problem}"
        raise ArbiterUnavailable(self.name, problem, may_have_run=False)

    async def _ask(self, request: Request) -> Any:
        """Return the answer of the table. Raises NoSession and ArbiterUnavailable."""
        raise NotImplementedError

    def statistics(self) -> dict[str, Any]:
        """Return the number of sessions so far."""
        return {"sessions": self._sessions}

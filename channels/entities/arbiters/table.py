"""The common part of the arbiters whose owners are in a `Grants` table: that of this program, or of the parent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from actors.runtime import current_runtime
from channels.entities.arbiter import ArbiterUnavailable
from channels.entities.lease import Lease
from channels.pubsub.adapter import Node
from channels.pubsub.workers.grants import (
    Acquire,
    ClearAlarm,
    Close,
    DueAlarms,
    NoSession,
    Open,
    Owned,
    OwnedBy,
    OwnerOf,
    Release,
    Request,
    SetAlarm,
    Transfer,
)
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
            await self._send(Open(self._supervisor, self._number, node))
        except BaseException:
            lease.lose("the session could not be opened")
            raise
        self._sessions += 1
        return lease

    async def close_session(self) -> None:
        """End the session."""
        if self.lease.is_valid:
            await self._send(Close(self._supervisor, self._number))
            self.lease.lose("the session was closed")

    async def acquire(self, key: str, *, at_least: int = 0) -> Owned | OwnedBy:
        """Own a key, or learn which node owns it."""
        answer: Owned | OwnedBy = await self._send(
            Acquire(self._supervisor, self._number, key, at_least)
        )
        return answer

    async def release(self, key: str, fence: int) -> bool:
        """Give up a key."""
        return bool(await self._send(Release(self._supervisor, self._number, key, fence)))

    async def transfer(self, key: str, fence: int, to: Node) -> int | None:
        """Pass a key on to another node."""
        answer: int | None = await self._send(
            Transfer(self._supervisor, self._number, key, fence, to)
        )
        return answer

    async def set_alarm(self, key: str, at: float | None, fence: int) -> bool:
        """Set or clear the alarm of a key."""
        return bool(await self._send(SetAlarm(self._supervisor, self._number, key, at, fence)))

    async def due_alarms(self, now: float, limit: int) -> list[tuple[str, float]]:
        """Return keys whose alarm is due."""
        answer: list[tuple[str, float]] = await self._send(
            DueAlarms(self._supervisor, self._number, now, limit)
        )
        return answer

    async def clear_alarm(self, key: str, at: float) -> None:
        """Clear an alarm that has fired."""
        await self._send(ClearAlarm(self._supervisor, self._number, key, at))

    async def owner(self, key: str) -> Node | None:
        """Return the node that owns a key."""
        answer: Node | None = await self._send(OwnerOf(self._supervisor, self._number, key))
        return answer

    async def _send(self, request: Request) -> Any:
        lease = self.lease
        if not lease.is_valid:
            raise ArbiterUnavailable(
                self.name, f"the session has ended: {lease.problem}", may_have_run=False
            )
        try:
            return await self._ask(request)
        except NoSession:
            lease.lose("the arbiter does not know the session")
            raise ArbiterUnavailable(
                self.name, f"the session has ended: {lease.problem}", may_have_run=False
            ) from None

    async def _ask(self, request: Request) -> Any:
        """Return the answer of the table. Raises NoSession and ArbiterUnavailable."""
        raise NotImplementedError

    def statistics(self) -> dict[str, Any]:
        """Return the number of sessions so far."""
        return {"sessions": self._sessions}

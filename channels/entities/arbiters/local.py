"""The arbiter of a node without other nodes: a table in the memory of this program.

Nobody else can own a key, so the lease never ends, and no messages are exchanged. Alarms live as long as the arbiter,
so a restart of the program loses them. A program that needs its alarms after a restart uses Redis or Valkey.
"""

from __future__ import annotations

from typing import Any

import trio

from actors.runtime import current_runtime
from channels.entities.arbiters.table import TableArbiter
from channels.pubsub.workers.grants import Grants, Request

__all__ = ["LocalArbiter"]


class LocalArbiter(TableArbiter):
    """The arbiter of one program.

    Args:
        grants: the table, for several arbiters in one program, such as the nodes of a test. None makes one.
        holder: a number that differs between the arbiters of one table.
    """

    name = "local"

    def __init__(self, *, grants: Grants | None = None, holder: int = 0) -> None:
        super().__init__()
        self._grants = Grants() if grants is None else grants
        self._holder = holder

    async def _ask(self, request: Request) -> Any:
        await trio.lowlevel.checkpoint()
        now = int(current_runtime().now() * 1_000_000)
        return request.carry_out(self._grants, self._holder, now)

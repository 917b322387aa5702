"""The arbiter of the workers of one machine: a table in the memory of their parent.

The parent frees a key when its owner releases it, or when the process of its owner has ended and was reaped. So nothing
expires, a takeover needs no waiting, and a worker that hangs or is stopped keeps its keys. The lease of a worker is
valid while its line to the parent lives. If the parent ends, the workers stop their entities at once, and a new parent
waits until their processes have ended.

Alarms live as long as the parent. They outlive each worker, and are lost if the whole server stops. A server that needs
its alarms after a restart uses Redis or Valkey.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from actors.arguments import check_positive
from channels.entities.arbiter import ArbiterUnavailable
from channels.entities.arbiters.table import TableArbiter
from channels.pubsub.adapter import Node
from channels.pubsub.workers.grant_line import GrantClient, GrantsUnavailable, Watcher
from channels.pubsub.workers.grants import Request
from supervision.child_spec import ChildSpec

__all__ = ["WorkersArbiter"]


class WorkersArbiter(TableArbiter):
    """The arbiter of one worker.

    Args:
        client: the worker's end of the line to the parent. Its process belongs to the `WorkersAdapter`.
        timeout: seconds for each request.

    Raises:
        InvalidOption: the time is not positive.
    """

    name = "workers"

    def __init__(self, client: GrantClient, *, timeout: float = 3.0) -> None:
        check_positive("WorkersArbiter", "timeout", timeout)
        super().__init__()
        self._client = client
        self._timeout = timeout

    def start(
        self, supervisor: str, *, on_node_lost: Callable[[Node], None]
    ) -> Sequence[ChildSpec]:
        """Begin to follow the line. There are no processes."""

        def ended(problem: str) -> None:
            self.lease.lose(problem)

        self._client.watchers[supervisor] = Watcher(on_node_lost, ended)
        return super().start(supervisor, on_node_lost=on_node_lost)

    async def _ask(self, request: Request) -> Any:
        try:
            return await self._client.ask(request, timeout=self._timeout)
        except GrantsUnavailable as error:
            raise ArbiterUnavailable(
                self.name, error.problem, may_have_run=error.may_have_run
            ) from error

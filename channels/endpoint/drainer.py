"""The drainer, which closes clients before the server stops, so that they reconnect to another server.

The drainer is the endpoint's last child, so the endpoint stops it first. In `terminate`, the drainer first makes
readiness probes fail, and waits `Draining(notice=)` seconds. Then it asks open connections, batch by batch, to close
with 1012. After 1012, phoenix.js reconnects. Requests on new connections get 503. Requests in progress finish.

An endpoint also stops if its flusher or a poller ends too often. Then this loop no longer runs. So the drainer runs it
until all clients have closed. The clients get their waiting messages and 1012 at once. If the loop fails again, the
drainer logs the failure, and runs the loop again after a pause.

The drainer ends the sessions of polling clients first. Each session answers its open poll. The client's next request
finds no session.

When all clients have left, the drainer drains the endpoint's `EndpointChild` objects, in the reverse order of their
start. Their processes stop later, after the channels.

Source: Phoenix.Socket.PoolDrainer. Phoenix counts the channels in a batch. Ashtree counts clients, which are WebSockets
and polling sessions. So it also closes clients that have not joined any topic.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

import msgspec
import trio

from actors.arguments import check_not_negative, check_positive, check_whole
from actors.errors import CallExit
from actors.exits import ExitReason
from actors.links import monitor, trap_exits
from actors.messages import Down
from actors.process import receive, send
from actors.refs import Pid, Ref
from actors.runtime import current_runtime
from actors.servers.gen_server import GenServer
from actors.text import log_exception
from channels.connection.session_server import Drain
from channels.serving.services import EndpointChild, Services
from channels.telemetry import ENDPOINT_DRAIN
from channels.transports.out_buffer import Flusher
from channels.transports.poller import Poller
from supervision.dynamic_supervisor import DynamicSupervisor

__all__ = ["DrainerServer", "Draining"]

_logger = logging.getLogger("channels.endpoint")

# Seconds from the failure of a loop until the drainer runs it again. A loop that always fails writes few log lines.
_PAUSE = 1.0


class Draining(msgspec.Struct, frozen=True, kw_only=True):
    """Options of draining. Phoenix has the same defaults.

    Args:
        batch_size: clients in one batch.
        batch_interval: seconds between two batches.
        timeout: seconds for the whole drain, of clients and of children. After that, the endpoint cuts the open
            connections.
        notice: seconds from the moment when readiness probes get 503 to the first batch. In this time, the endpoint
            still accepts clients, and the load balancer can notice the failed probes. In development there is no
            notice.

    Raises:
        InvalidOption: a value is not a number above 0.
    """

    batch_size: int = 10_000
    batch_interval: float = 2.0
    timeout: float = 30.0
    notice: float = 0.0

    def __post_init__(self) -> None:
        check_whole("Draining", "batch_size", self.batch_size)
        check_positive("Draining", "batch_interval", self.batch_interval)
        check_positive("Draining", "timeout", self.timeout)
        check_not_negative("Draining", "notice", self.notice)

    @property
    def longest(self) -> float:
        """The seconds that the notice and the drain can take together."""
        return self.notice + self.timeout

    @property
    def shutdown_deadline(self) -> float:
        """The seconds that a program needs to stop: `longest`, and 30 for the processes that stop after the drain."""
        return self.longest + 30.0


class DrainerServer(GenServer[None]):
    """A process that drains the endpoint when the endpoint stops it."""

    async def init(
        self,
        services: Services,
        supervisors: Sequence[object],
        draining: Draining,
        children: Sequence[EndpointChild] = (),
    ) -> None:
        trap_exits()
        self.services = services
        self.supervisors = supervisors
        self.draining = draining
        self.children = children

    async def terminate(self, reason: ExitReason) -> None:
        admission = self.services.admission
        admission.leaving = True
        async with trio.open_nursery() as nursery:
            for loop in self.services.transports.loops:
                if not loop.is_running:
                    nursery.start_soon(_run, loop)
            if self.draining.notice and admission.accepting:
                await trio.sleep(self.draining.notice)
            admission.drain()
            with trio.move_on_after(self.draining.timeout):
                await self.services.http.drain()
                await self._drain()
                await self._drain_children()
            nursery.cancel_scope.cancel()

    async def _drain(self) -> None:
        pids = [pid for name in self.supervisors for pid in await _children_of(name)]
        # A browser has more connections than tabs, because it keeps those that have loaded the page. These end after
        # their request, and are no clients. The message is for those that become a client in the meantime.
        answering = self.services.admission.answering
        clients = [pid for pid in pids if pid not in answering]
        refs = {_close(pid) for pid in pids if pid in answering}
        size = self.draining.batch_size
        rounds = math.ceil(len(clients) / size)
        for index in range(rounds):
            if index:
                await trio.sleep(self.draining.batch_interval)
            batch = clients[index * size : (index + 1) * size]
            current_runtime().telemetry.execute(
                ENDPOINT_DRAIN,
                {"count": len(batch), "total": len(clients), "index": index + 1, "rounds": rounds},
                {"endpoint": self.services.endpoint, "interval": self.draining.batch_interval},
            )
            refs.update(map(_close, batch))
        # A connection ends within its close grace. The time limit of the caller also bounds this loop.
        while refs:
            down = await receive(lambda message: type(message) is Down)
            refs.discard(down.ref)

    async def _drain_children(self) -> None:
        for child in reversed(self.children):
            try:
                await child.drain()
            except trio.Cancelled:
                _logger.warning("the drain ended before %r had drained", child)
                raise
            except Exception as error:
                # Broad, because the children before this one must drain too.
                log_exception(_logger, "%r failed to drain", child, exception=error)


async def _run(loop: Flusher | Poller) -> None:
    """Run a loop that its supervisor no longer restarts. If it fails, run it again after a pause."""
    while True:
        try:
            await loop.main()
        except Exception as error:
            # Broad, because no failure may end the drain, in which the clients get 1012.
            log_exception(
                _logger,
                "the %s failed while the endpoint drains; running it again in %g s",
                type(loop).__name__.lower(),
                _PAUSE,
                exception=error,
            )
        await trio.sleep(_PAUSE)


def _close(pid: Pid) -> Ref:
    """Ask a connection to close. Return a monitor of its process."""
    ref = monitor(pid)
    send(pid, Drain())
    return ref


async def _children_of(supervisor: object) -> list[Pid]:
    try:
        children = await DynamicSupervisor.which_children(supervisor)
    except CallExit:
        # The endpoint has no supervisor of this name, or the supervisor crashed with all its children.
        return []
    return [child.pid for child in children if isinstance(child.pid, Pid)]

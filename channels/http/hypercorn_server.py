"""Hypercorn's server for one connection, without the ways in which it keeps a connection for ever.

`TCPServer` is not a public interface. Hypercorn's minor version is pinned, and `tests/channels/http/test_handover.py`
holds what is used of it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import h2.exceptions
import trio
from h2.errors import ErrorCodes
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.h2 import H2Protocol
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState

from channels.http.exchange import Exchanges
from channels.http.replay import ReplayStream
from channels.http.strict_http import StrictConnection

__all__ = ["HypercornServer"]

_logger = logging.getLogger("channels.http")


class HypercornServer(TCPServer):
    """One connection, which is over as soon as its peer has gone.

    Hypercorn's own server goes on waiting for another request until the time for that is over, and keeps the socket
    open meanwhile. It also takes the greeting of HTTP/2 for a request that never ends, so a client that sends nothing
    else keeps its connection.

    Args:
        app: serves the requests.
        config: Hypercorn's settings.
        context: tells when the endpoint drains.
        state: of the lifespan.
        stream: the connection. Becomes this object's.
        begins_with_http2: the first bytes are the greeting of HTTP/2.
        count: counts an event by its name.
    """

    def __init__(
        self,
        app: ASGIWrapper,
        config: Config,
        context: WorkerContext,
        state: ConnectionState,
        stream: ReplayStream,
        *,
        begins_with_http2: bool,
        count: Callable[[tuple[str, ...]], object],
    ) -> None:
        # The annotation of the class asks for TLS; the class itself finds out what it has got.
        connection: Any = stream
        super().__init__(app, config, context, state, connection)
        self._begins_with_http2 = begins_with_http2
        self._count = count
        self._peer_has_gone = False
        self._reading: trio.CancelScope | None = None
        self._exchanges: Exchanges | None = None

    async def serve(self) -> None:
        """Serve until the connection is over. When cancelled, close it at once."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._close_when_cancelled)
            await self.run()
            nursery.cancel_scope.cancel()

    async def _close_when_cancelled(self) -> None:
        """Close the stream on cancellation, even while Hypercorn writes to a peer that does not read.

        It writes in a shielded scope, where only the end of the stream ends the write.
        """
        try:
            await trio.sleep_forever()
        finally:
            if self._exchanges is not None:
                self._exchanges.cancel()
            await trio.aclose_forcefully(self.stream)

    async def _read_data(self) -> None:
        self._exchanges = Exchanges(self._task_group)
        wrapper, protocol = self.protocol, self.protocol.protocol
        # The wrapper's is for HTTP/2 that begins on a connection of HTTP/1.1.
        wrapper.task_group = protocol.task_group = self._exchanges
        if isinstance(protocol, H11Protocol):
            protocol.connection = StrictConnection(
                on_bad_request=lambda: self._count(("http", "bad_request"))
            )
        with trio.CancelScope() as self._reading:
            try:
                await super()._read_data()
            except OSError:
                raise
            except Exception as error:
                # Not the application's, which runs in other tasks. What clients can send and Hypercorn cannot read:
                # a thousand priorities of HTTP/2, a path that is not ASCII. It ends this connection and is no crash.
                await self._give_up(error)
        self._peer_has_gone = True
        protocol = wrapper.protocol
        if isinstance(protocol, H2Protocol):
            # Hypercorn has stopped to write by now, and would have an application that is at its answer wait for ever.
            for buffer in list(protocol.stream_buffers.values()):
                await buffer.close()
        await self.idle_task.stop()

    async def _give_up(self, error: Exception) -> None:
        self._count(("http", "unreadable"))
        _logger.debug("closed a connection that Hypercorn could not read", exc_info=error)
        protocol = self.protocol.protocol
        if isinstance(protocol, H2Protocol):
            try:
                protocol.connection.close_connection(ErrorCodes.PROTOCOL_ERROR)
                await protocol._flush()
            except h2.exceptions.ProtocolError:
                # The connection is over for HTTP/2 as well.
                pass
        # Its applications are cancelled: streams that Hypercorn has half begun cannot be told that it is over.
        nursery = self._task_group._nursery
        assert nursery is not None  # this runs in it
        nursery.cancel_scope.cancel()

    async def protocol_send(self, event: Event) -> None:
        """Carry out what Hypercorn's protocol has decided: write, close, or count the time as idle."""
        if isinstance(event, Updated) and (self._peer_has_gone or self._begins_with_http2):
            self._begins_with_http2 = False
            return
        try:
            # Shielded, because the protocol takes these bytes for written: an application that gives up its answer
            # here would leave out bytes in the middle of the connection. The stream bounds the write.
            with trio.CancelScope(shield=isinstance(event, RawData)):
                await super().protocol_send(event)
        except trio.BusyResourceError:
            # Another task is just closing the stream, because of what the client has sent meanwhile.
            await self.protocol.handle(Closed())
        if isinstance(event, Closed) and self._reading is not None:
            # A request that came in behind the one that was answered last is not served any more, and Hypercorn would
            # wait for its turn for ever.
            self._reading.cancel()

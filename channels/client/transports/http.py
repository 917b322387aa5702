"""An HTTP/1.1 client for one server: requests one after another, over a stream that is kept open between them.

The client uses h11, which Ashtree needs anyway, over any stream of Trio. A larger library would open its own sockets,
and could not run in a simulated network.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import h11
import trio
from attrs import frozen

from channels.client.transports.contract import LinkFailed, Opening, dial

__all__ = ["HttpClient", "Response"]

MAX_IDLE: Final = 1.0
"""Seconds without a request after which the client does not use a connection again."""

_GONE = (trio.BrokenResourceError, trio.ClosedResourceError, h11.RemoteProtocolError)


@frozen
class Response:
    """An answer.

    Attributes:
        status: the HTTP status.
        body: the whole body.
    """

    status: int
    body: bytes


class HttpClient:
    """One connection to a server, opened when it is needed.

    Args:
        opening: the address and the options. Its `max_message_bytes` limits a body.
    """

    def __init__(self, opening: Opening) -> None:
        self._opening = opening
        self._stream: trio.abc.Stream | None = None
        self._answered_at = 0.0
        self._http = h11.Connection(h11.CLIENT)

    async def request(
        self,
        method: str,
        target: str,
        headers: Sequence[tuple[bytes, bytes]],
        body: bytes = b"",
    ) -> Response:
        """Send a request, and return the answer. The caller bounds the time.

        It never sends a request twice, because the server may have handled it.

        Raises:
            LinkFailed: there is no server, or the connection ended before the answer.
        """
        try:
            # A server may close an idle connection just when a request is on its way.
            if self._stream is None or trio.current_time() > self._answered_at + MAX_IDLE:
                await self.aclose()
                self._stream = await dial(self._opening)
                self._http = h11.Connection(h11.CLIENT)
            response = await self._exchange(self._stream, method, target, headers, body)
            self._answered_at = trio.current_time()
            return response
        except _GONE as error:
            await self.aclose()
            raise LinkFailed(f"the connection ended before the answer: {error}") from error
        except BaseException:
            # The exchange is incomplete, so this stream cannot carry another request.
            await self.aclose()
            raise

    async def aclose(self) -> None:
        """Close the connection."""
        stream, self._stream = self._stream, None
        if stream is not None:
            await trio.aclose_forcefully(stream)

    async def _exchange(
        self,
        stream: trio.abc.Stream,
        method: str,
        target: str,
        headers: Sequence[tuple[bytes, bytes]],
        body: bytes,
    ) -> Response:
        fields = [(b"host", self._opening.address.authority.encode()), *headers]
        if method == "POST":
            fields.append((b"content-length", b"%d" % len(body)))
        http = self._http
        data = http.send(h11.Request(method=method, target=target, headers=fields)) or b""
        if body:
            data += http.send(h11.Data(data=body)) or b""
        data += http.send(h11.EndOfMessage()) or b""
        await stream.send_all(data)
        status, pieces, size = 0, [], 0
        while True:
            event = http.next_event()
            if event is h11.NEED_DATA:
                http.receive_data(bytes(await stream.receive_some()))
            elif isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                size += len(event.data)
                if size > self._opening.options.max_message_bytes:
                    raise h11.RemoteProtocolError(f"the answer has more than {size - 1} bytes")
                pieces.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                break
            elif isinstance(event, h11.ConnectionClosed | h11.PAUSED):
                raise h11.RemoteProtocolError("the server closed the connection")
        if http.our_state is h11.DONE and http.their_state is h11.DONE:
            http.start_next_cycle()
        else:
            await self.aclose()
        return Response(status, b"".join(pieces))

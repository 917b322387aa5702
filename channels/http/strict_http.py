r"""Reads the requests of one HTTP/1.1 connection as strictly as an endpoint reads the first one.

h11 accepts lines that end with a bare LF and headers that are folded over several lines. A proxy may see other
requests in the same bytes, and then a request can be smuggled past it. `StrictConnection` shows each head to
`HeadParser` before h11 sees it.

    connection = StrictConnection(on_bad_request=count)

A request with a chunked body is the last one of its connection. h11 is lenient about the trailers behind such a body,
so nothing that follows them is read as a request.

Source: RFC 9112, sections 2.2, 5.2, 6.1 and 7.1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import h11

from channels.upgrade.request import DEFAULT_MAX_HEAD_SIZE, BadRequest, HeadParser

__all__ = ["StrictConnection"]


class StrictConnection(h11.Connection):
    r"""The server's side of an HTTP/1.1 connection that refuses what `HeadParser` refuses.

        >>> connection = StrictConnection()
        >>> connection.receive_data(b"GET / HTTP/1.1\nHost: localhost\n\n")
        >>> connection.next_event()
        Traceback (most recent call last):
            ...
        h11._util.RemoteProtocolError: a line of the head ends without CR

    Args:
        on_bad_request: called once if a head is refused. Must not block.
    """

    def __init__(self, *, on_bad_request: Callable[[], object] = lambda: None) -> None:
        super().__init__(h11.SERVER, max_incomplete_event_size=DEFAULT_MAX_HEAD_SIZE)
        self._on_bad_request = on_bad_request
        self._is_last = False

    def next_event(self) -> Any:
        """Return the next event, as h11 does.

        Raises:
            h11.RemoteProtocolError: the head is not one that an endpoint accepts.
        """
        if self.their_state is h11.IDLE:
            data, ended = self.trailing_data
            head = HeadParser().feed(data) if data else None
            if isinstance(head, BadRequest):
                self._refuse(head)
            elif data and head is None:
                if not ended:
                    return h11.NEED_DATA
                self._refuse(BadRequest(status=400, problem="the request ends in its head"))
        event = super().next_event()
        if isinstance(event, h11.Request):
            self._is_last = any(name == b"transfer-encoding" for name, _ in event.headers)
        return event

    def _refuse(self, head: BadRequest) -> None:
        self._on_bad_request()
        raise h11.RemoteProtocolError(head.problem, error_status_hint=head.status)

    def send(self, event: Any) -> Any:
        """Serialize an event, as h11 does; the answer to a chunked request ends the connection."""
        if self._is_last and isinstance(event, h11.Response):
            event = h11.Response(
                status_code=event.status_code,
                headers=[*event.headers, (b"connection", b"close")],
                http_version=event.http_version,
                reason=event.reason,
            )
        return super().send(event)

"""A balancer for HTTP without any affinity: each request goes to the next server, whatever client it comes from."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.patience import PATIENCE

_OF_THE_CONNECTION = {"connection", "keep-alive", "transfer-encoding", "host"}


class AlternatingProxy:
    """A proxy on a free port, which passes each request to one of several servers in turn.

    Attributes:
        requests: the number of requests that each server has got, by its port.
    """

    def __init__(self, ports: Sequence[int]) -> None:
        self.requests: Counter[int] = Counter()
        self._turns = itertools.cycle(ports)
        self._lock = threading.Lock()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                """Keep quiet."""

            def pass_on(self) -> None:
                try:
                    proxy._pass_on(self)
                except (OSError, http.client.HTTPException):
                    # The client has left, or the server is not there: the client sees its connection end.
                    self.close_connection = True

            do_GET = do_POST = do_OPTIONS = pass_on  # noqa: N815 - these names are those of http.server

        class Listener(ThreadingHTTPServer):
            daemon_threads = True
            # Clients of 1.3 open hundreds of connections at once.
            request_queue_size = 1000

        self._server = Listener(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def socket_url(self) -> str:
        return f"ws://127.0.0.1:{self._server.server_address[1]}/socket"

    def close(self) -> None:
        """Accept nothing more."""
        self._server.shutdown()
        self._server.server_close()

    def _pass_on(self, request: BaseHTTPRequestHandler) -> None:
        with self._lock:
            port = next(self._turns)
            self.requests[port] += 1
        body = request.rfile.read(int(request.headers.get("content-length", 0)))
        server = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        headers = {
            name: value
            for name, value in request.headers.items()
            if name.lower() not in _OF_THE_CONNECTION
        }
        host = {"host": request.headers["host"]}
        with contextlib.closing(server):
            server.request(request.command, request.path, body or None, {**headers, **host})
            answer = server.getresponse()
            content = answer.read()
        request.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in _OF_THE_CONNECTION:
                request.send_header(name, value)
        request.end_headers()
        request.wfile.write(content)


@contextlib.contextmanager
def alternating(ports: Sequence[int]) -> Iterator[AlternatingProxy]:
    """A proxy in front of servers, for as long as the block runs."""
    proxy = AlternatingProxy(ports)
    try:
        yield proxy
    finally:
        proxy.close()

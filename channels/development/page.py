"""An ASGI application that serves the development page, and passes all other requests to the pages of the endpoint.

`Endpoint(development=True)` and `ashtree serve --reload` turn the page on. The page answers only browsers on this
machine: the client and the `Host` header must be local, and the request must not come through a proxy. All other
requests get the same answer as without the page.
"""

from __future__ import annotations

import ipaddress
import os
from importlib.resources import files
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import msgspec

from channels.development.catalogue import describe
from channels.development.crashes import Crashes
from channels.http.handover import not_found
from channels.transports.asgi_responses import page_headers, send_response
from channels.transports.asgi_stream import ASGIApplication, path_of

__all__ = ["PATH", "DevelopmentPage", "is_local"]

PATH: Final = "/_ashtree"
"""The path of the page."""

_FILES: Final = {
    "": ("page.html", "text/html; charset=utf-8"),
    "page.css": ("page.css", "text/css; charset=utf-8"),
    "page.js": ("page.js", "text/javascript; charset=utf-8"),
    "client.js": ("client.js", "text/javascript; charset=utf-8"),
}
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
_LOCAL_NAMES: Final = {"localhost", "127.0.0.1", "::1"}
# The beginnings of the headers that proxies add.
_OF_PROXIES: Final = ("forwarded", "via", "x-forwarded", "x-real-ip", "x-client-ip", "x-original-")


class Developed(Protocol):
    """The attributes of an endpoint that the page shows."""

    @property
    def sockets(self) -> Any: ...
    @property
    def observer(self) -> Any: ...
    @property
    def internal_address(self) -> tuple[str, int] | None: ...
    @property
    def load_problem(self) -> str | None: ...


def is_local(scope: Any) -> bool:
    """Return True if a request comes from a browser on this machine, and not from a page of another site.

        >>> headers = [(b"host", b"localhost:4000")]
        >>> is_local({"client": ("127.0.0.1", 50000), "headers": headers})
        True

    A browser on this machine may show a page of another site, and that page can send requests to this server. The
    `Origin` of these requests is the other site. If the host name of the other site resolves to this machine, the
    `Host` of the requests is that name.

    A proxy on this machine that adds no header, and sends a local name as `Host`, passes for a browser.
    """
    headers = {
        name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]
    }
    client = scope.get("client")
    if client is None or not _is_loopback(client[0]):
        return False
    if any(name.startswith(_OF_PROXIES) for name in headers):
        return False
    host = headers.get("host", "")
    origin = headers.get("origin")
    try:
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return False
        return urlsplit(f"//{host}").hostname in _LOCAL_NAMES
    except ValueError:
        # `Origin` or `Host` is malformed.
        return False


def _is_loopback(address: str) -> bool:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return found.is_loopback if mapped is None else mapped.is_loopback


class DevelopmentPage:
    """The ASGI application of the development page.

    Args:
        endpoint: the endpoint that the page shows.
        inner: the application for all other requests. With None, `/` redirects to the page, and all other requests get
            404.
        crashes: the latest crashes of the endpoint.
    """

    def __init__(
        self, endpoint: Developed, inner: ASGIApplication | None, crashes: Crashes
    ) -> None:
        self._endpoint = endpoint
        self._crashes = crashes
        self._has_pages = inner is not None
        self._inner = not_found if inner is None else inner

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve a request."""
        path = path_of(scope) if scope["type"] == "http" else ""
        if path == "/" and not self._has_pages:
            wanted: str | None = None
        elif path == PATH:
            wanted = None
        elif path.startswith(f"{PATH}/"):
            wanted = path[len(PATH) + 1 :]
        else:
            await self._inner(scope, receive, send)
            return
        if not is_local(scope):
            await self._inner(scope, receive, send)
        elif scope["method"] not in ("GET", "HEAD"):
            await _answer(scope, send, 405, b"This path serves GET.\n")
        elif wanted is None:
            # The location is relative, because the endpoint may be mounted below a prefix.
            await _answer(scope, send, 307, b"", location=f".{PATH}/")
        else:
            await self._serve(scope, receive, send, wanted)

    async def _serve(self, scope: Any, receive: Any, send: Any, wanted: str) -> None:
        if wanted in _FILES:
            name, kind = _FILES[wanted]
            # This read may block the event loop, because the files are small and only a developer requests them.
            body = (files(__package__) / "static" / name).read_bytes()
            await _answer(scope, send, 200, body, kind=kind)
        elif (facts := self._facts(wanted)) is not None:
            body = msgspec.json.encode(facts, enc_hook=str)
            await _answer(scope, send, 200, body, kind="application/json")
        else:
            await self._inner(scope, receive, send)

    def _facts(self, wanted: str) -> Any:
        """Return the content of a JSON file; None if there is no such file."""
        match wanted:
            case "endpoint.json":
                return self._description()
            case "status.json":
                return self._status()
            case "crashes.json":
                return self._crashes.latest()
        return None

    def _description(self) -> dict[str, Any]:
        observer, internal = self._endpoint.observer, self._endpoint.internal_address
        place = None if observer is None else getattr(observer, "path", None)
        if place is not None and internal is not None:
            place = observer.url(internal, tls=False)
        return describe(self._endpoint.sockets, observer=place)

    def _status(self) -> dict[str, Any]:
        return {
            "process": os.getpid(),
            "problem": self._endpoint.load_problem,
            "crashes": self._crashes.count,
        }


async def _answer(
    scope: Any,
    send: Any,
    status: int,
    body: bytes,
    *,
    kind: str = "text/plain; charset=utf-8",
    **more: str,
) -> None:
    headers = {"content-type": kind, **page_headers(_POLICY, frames="DENY"), **more}
    await send_response(send, status, body, headers, is_head=scope["method"] == "HEAD")

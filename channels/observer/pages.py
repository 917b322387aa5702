"""The observer page over HTTP: the page, its files, and the tickets of its socket.

Every request, even for a file, needs the token or must pass the check. The headers forbid caching, frames on other
sites, and access from other origins.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import msgspec

from channels.observer.access import Access, cookie_name
from channels.transports.asgi_responses import page_headers, send_response
from channels.transports.asgi_stream import ASGIApplication, path_of
from supervision.recording.reader.page import render_live_page

__all__ = ["ObserverPages"]

_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
}
_PAGE: Final = ("page.css", "page.js", "tree.js", "charts.js", "story.js", "past.js")
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; frame-src 'self'; "
    "frame-ancestors 'self'; base-uri 'none'; form-action 'none'"
)
_TIMELINE_POLICY: Final = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; "
    "frame-ancestors 'self'; base-uri 'none'; form-action 'none'"
)
_NOTHING_RECORDED: Final = (
    "The program records nothing. Write Observer(record=True), or open a recorder.\n"
)
_FORBIDDEN: Final = (
    "This page needs a token. Open the address that the server printed when it started.\n"
)


class ObserverPages:
    """The ASGI application of one observer, in front of the application of the endpoint.

    Args:
        path: the path of the page.
        access: the admission.
        phoenix_js: the file of phoenix.js, as an ES module.
        inner: the application for all other paths.
        facts: returns the settings that the page needs before it connects.
        timeline: returns a page with a copy of the newest records; None if the program records nothing.
    """

    def __init__(
        self,
        *,
        path: str,
        access: Access,
        phoenix_js: Path,
        inner: ASGIApplication,
        facts: Callable[[], Mapping[str, Any]],
        timeline: Callable[[], Awaitable[str | None]],
    ) -> None:
        self._path = path
        self._access = access
        self._phoenix_js = phoenix_js
        self._inner = inner
        self._facts = facts
        self._timeline = timeline

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve a request."""
        path = path_of(scope) if scope["type"] == "http" else ""
        if path == self._path or path.startswith(f"{self._path}/"):
            await self._serve(scope, send, path[len(self._path) :])
        else:
            await self._inner(scope, receive, send)

    async def _serve(self, scope: Any, send: Any, rest: str) -> None:
        if scope["method"] == "HEAD":
            send = _without_body(send)
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1")
            for name, value in scope["headers"]
        }
        query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
        if rest in ("", "/") and "token" in query:
            await self._log_in(send, rest, query["token"][0], secure=scope.get("scheme") == "https")
        elif not await self._access.admits(headers):
            await _answer(send, 403, _FORBIDDEN)
        elif rest == "":
            await _answer(send, 303, "", {"location": f"{self._path.rpartition('/')[2]}/"})
        elif rest in ("/timeline", "/live"):
            await self._send_timeline(send, rest)
        elif rest == "/ticket":
            await self._give_ticket(scope, send, headers)
        elif scope["method"] not in ("GET", "HEAD"):
            await _answer(send, 405, "This path serves GET.\n")
        else:
            await self._send_file(send, "page.html" if rest == "/" else rest[1:])

    async def _log_in(self, send: Any, rest: str, token: str, *, secure: bool) -> None:
        """Move the token from the address into a cookie."""
        if not self._access.takes_token(token):
            await _answer(send, 403, _FORBIDDEN)
            return
        last = self._path.rpartition("/")[2]
        # The cookie sets no path. So it belongs to the folder of this request, even if a proxy adds a prefix.
        cookie = f"{cookie_name(token)}={token}; HttpOnly; SameSite=Strict"
        # Use a relative address, because a proxy may have added a prefix.
        where = "./" if rest else f"{last}/"
        cookie += "; Secure" if secure else ""
        await _answer(send, 303, "", {"location": where, "set-cookie": cookie})

    async def _give_ticket(self, scope: Any, send: Any, headers: Mapping[str, str]) -> None:
        if scope["method"] != "POST" or not _is_own_page(headers):
            await _answer(send, 403, "A ticket is for the observer page alone.\n")
            return
        body = {"ticket": self._access.ticket(), **self._facts()}
        text = msgspec.json.encode(body).decode()
        await _answer(send, 200, text, {"content-type": "application/json"})

    async def _send_timeline(self, send: Any, rest: str) -> None:
        """Send a timeline page. `/timeline` has a copy of the newest records. The observer page fills `/live`."""
        text = render_live_page(title="Timeline") if rest == "/live" else await self._timeline()
        if text is None:
            await _answer(send, 404, _NOTHING_RECORDED)
            return
        kind = _TYPES[".html"]
        policy = {"content-security-policy": _TIMELINE_POLICY}
        await _answer(send, 200, text, {"content-type": kind, **policy})

    async def _send_file(self, send: Any, name: str) -> None:
        if name == "phoenix.mjs":
            # Blocking is acceptable here: the file is small, and read once for each page.
            text = self._phoenix_js.read_text("utf-8")
        elif name == "page.html" or name in _PAGE:
            text = (files(__package__) / "static" / name).read_text("utf-8")
        else:
            await _answer(send, 404, "The observer has no such page.\n")
            return
        kind = _TYPES[f".{name.rpartition('.')[2]}"]
        await _answer(send, 200, text, {"content-type": kind})


def _is_own_page(headers: Mapping[str, str]) -> bool:
    """Return True if a page of this origin sent the request. Browsers send at least one of these headers with POST."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc == headers.get("host")


def _without_body(send: Any) -> Any:
    async def send_head(message: Any) -> None:
        await send({**message, "body": b""} if "body" in message else message)

    return send_head


async def _answer(send: Any, status: int, text: str, more: Mapping[str, str] | None = None) -> None:
    headers = {
        "content-type": "text/plain; charset=utf-8",
        **page_headers(_POLICY, frames="SAMEORIGIN"),
        **(more or {}),
    }
    await send_response(send, status, text.encode(), headers)

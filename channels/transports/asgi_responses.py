"""Whole responses of ASGI applications, and the headers of the pages that Ashtree serves itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["page_headers", "send_response"]


async def send_response(
    send: Any, status: int, body: bytes, headers: Mapping[str, str], *, is_head: bool = False
) -> None:
    """Send a whole response. This adds its `content-length`.

    Args:
        send: the function of the ASGI server.
        status: the HTTP status.
        body: the body.
        headers: the headers, with names in lower case.
        is_head: True for a request with the method HEAD, whose response has no body.
    """
    every = {**headers, "content-length": str(len(body))}
    pairs = [(name.encode(), value.encode("latin-1")) for name, value in every.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": b"" if is_head else body})


def page_headers(policy: str, *, frames: str) -> dict[str, str]:
    """Return the headers of a page of Ashtree. They forbid caching, and access from other sites.

    Args:
        policy: the Content-Security-Policy.
        frames: the X-Frame-Options: `DENY` or `SAMEORIGIN`.
    """
    return {
        "cache-control": "no-store",
        "content-security-policy": policy,
        "x-content-type-options": "nosniff",
        "x-frame-options": frames,
        "referrer-policy": "no-referrer",
        "cross-origin-resource-policy": "same-origin",
    }

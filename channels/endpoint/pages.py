"""The pages of an endpoint: its development page, its static files and its ASGI application."""

from __future__ import annotations

from typing import Any

from channels.development.crashes import Crashes
from channels.development.page import DevelopmentPage
from channels.http.static import StaticFiles
from channels.transports.asgi_stream import ASGIApplication

__all__ = ["pages_of"]


def pages_of(endpoint: Any, crashes: Crashes | None) -> ASGIApplication | None:
    """Return the application for the pages of an endpoint; None if the endpoint has no pages.

    Args:
        endpoint: the endpoint. Its attributes `http` and `static` define the pages.
        crashes: the crashes that the development page shows; None adds no development page.
    """
    pages: ASGIApplication | None = endpoint.http
    if endpoint.static is not None:
        pages = StaticFiles(endpoint.static, pages)
    return pages if crashes is None else DevelopmentPage(endpoint, pages, crashes)

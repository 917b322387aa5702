"""The server of live reload. It serves the files of a folder, and has one topic for all pages."""

from __future__ import annotations

from pathlib import Path

from channels import Channel, Endpoint, Socket
from examples.phoenix_js import shared_folders
from supervision import process_spec

from .watching import watch

_HERE = Path(__file__).parent
EXAMPLE_PAGE = _HERE / "page"


class AssetsChannel(Channel):
    """The channel of one page. The page receives the broadcasts of the topic, and sends nothing."""


class PageSocket(Socket):
    """The socket of a page."""

    channels = {"assets": AssetsChannel}


def endpoint_for(folder: Path) -> Endpoint:
    """Return an endpoint that serves the pages in a folder. Use it only for development."""

    def tell(path: str) -> None:
        """Tell all pages that the style sheet with this URL path has changed."""
        endpoint.broadcast("assets", "css_changed", {"path": path})

    shared = shared_folders(_HERE)
    endpoint = Endpoint(
        sockets={"/live/socket": PageSocket},
        static={
            "/": folder,
            "/live": _HERE / "client",
            "/live/style": shared["/style"],
            "/live/phoenix": shared["/phoenix"],
        },
        children=[process_spec(watch, folder, tell)],
    )
    return endpoint

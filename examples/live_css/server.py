"""The server of live reload. It serves the files of a folder, and has one topic for all pages."""

from __future__ import annotations

from pathlib import Path

from channels import Channel, Endpoint, Socket
from examples.phoenix_js import shared_folders

_HERE = Path(__file__).parent
EXAMPLE_PAGE = _HERE / "page"


class AssetsChannel(Channel):
    """The channel of one page. The page receives the broadcasts of the topic, and sends nothing."""


class PageSocket(Socket):
    """The socket of a page."""

    channels = {"assets": AssetsChannel}


def endpoint_for(folder: Path) -> Endpoint:
    """Return an endpoint that serves the pages in a folder. Use it only for development."""
    shared = shared_folders(_HERE)
    return Endpoint(
        sockets={"/live/socket": PageSocket},
        static={
            "/": folder,
            "/live": _HERE / "client",
            "/live/style": shared["/style"],
            "/live/phoenix": shared["/phoenix"],
        },
    )

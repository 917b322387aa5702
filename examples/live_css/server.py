"""The server of live reload: a topic for all pages, and the files of a folder."""

from __future__ import annotations

from pathlib import Path

from channels import Channel, Endpoint, Socket
from examples.phoenix_js import shared_folders

_HERE = Path(__file__).parent
EXAMPLE_PAGE = _HERE / "page"


class AssetsChannel(Channel):
    """One page. It gets all broadcasts of the topic, and sends nothing."""


class PageSocket(Socket):
    """The socket of a page."""

    channels = {"assets": AssetsChannel}


def endpoint_for(folder: Path) -> Endpoint:
    """Return the server of a folder with pages. It is for development: it answers to this machine only."""
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

"""The command `ashtree observe`: the observer of a server in the terminal."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Annotated

import typer

from channels.cli.console import Headers, fail, pair
from channels.errors import MissingLibrary

__all__ = ["observe_command"]


def observe_command(
    url: Annotated[str, typer.Argument(metavar="URL", help="The address of the observer page.")],
    *,
    header: Headers = None,
) -> None:
    """Show the processes of the server at URL, live, in the terminal.

        $ ashtree observe 'http://localhost:4000/_ashtree/observer?token=...'

    The server prints the URL when it starts, if its endpoint has an observer.
    """
    if find_spec("textual") is None:
        raise MissingLibrary("the screens of ashtree observe", "textual")
    # Imported when this command runs, because a server must not load the client and Textual.
    from channels.observer.console.app import ObserveApp  # noqa: PLC0415

    app = ObserveApp(url, dict(pair(each, ":", "--header") for each in header or ()))
    try:
        # Checked before the screen opens, so that the command prints one sentence for a wrong address.
        app.remote.admit()
    except OSError as error:
        fail(f"there is no server at {app.remote.page}: {error}", 1)
    app.run()

"""The command `ashtree observe`: the observer of a server in the terminal."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Annotated

import typer

from channels.cli.console import fail
from channels.errors import MissingLibrary

__all__ = ["add_observe_command"]

_HELP = """Show the processes of the server at URL, live, in the terminal.

    $ ashtree observe 'http://localhost:4000/_ashtree/observer?token=...'

The server prints the URL when it starts, if its endpoint has an observer.
"""


def add_observe_command(app: typer.Typer) -> None:
    """Add the command `ashtree observe` to the application."""
    app.command("observe", help=_HELP)(_observe)


def _observe(
    url: Annotated[str, typer.Argument(metavar="URL", help="The address of the observer page.")],
    *,
    header: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME:VALUE", help="A header of the request. Repeat it for more."),
    ] = None,
) -> None:
    if find_spec("textual") is None:
        raise MissingLibrary("the screens of ashtree observe", "textual")
    # Imported when this command runs, because a server must not load the client and Textual.
    from channels.observer.console.app import ObserveApp  # noqa: PLC0415

    headers = {}
    for each in header or ():
        name, found, value = each.partition(":")
        if not found or not name.strip():
            raise typer.BadParameter(f"--header got {each!r}; write NAME:VALUE")
        headers[name.strip()] = value.strip()
    app = ObserveApp(url, headers)
    try:
        # Checked before the screen opens, so that the command prints one sentence for a wrong address.
        app.remote.admit()
    except OSError as error:
        fail(f"there is no server at {app.remote.page}: {error}", 1)
    app.run()

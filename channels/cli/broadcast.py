"""The command `ashtree broadcast`."""

from __future__ import annotations

import sys
from typing import Annotated

import msgspec
import typer

from channels.cli.console import variable
from channels.errors import EncodeError

__all__ = ["broadcast_command"]


def broadcast_command(
    topic: Annotated[str, typer.Argument(metavar="TOPIC", help="Such as room:lobby.")],
    event: Annotated[str, typer.Argument(metavar="EVENT", help="Such as new_msg.")],
    payload: Annotated[
        str, typer.Argument(metavar="JSON", help="An object. With '-', read from standard input.")
    ] = "{}",
    *,
    url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="The server, as the nodes write it. If it has a password, use --url-env, because everybody "
            "on this machine can see the command.",
        ),
    ] = None,
    url_env: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The environment variable that holds the URL."),
    ] = None,
    timeout: Annotated[
        float, typer.Option(min=0.001, metavar="SECONDS", help="The time to wait for the server.")
    ] = 5.0,
) -> None:
    """Send EVENT with the payload JSON to all clients of TOPIC, on every node.

        $ ashtree broadcast room:lobby new_msg '{"body": "hello"}' --url redis://127.0.0.1:6379

    The exit status is 0 when the server has the message, 1 if it could not be published, and 2 for wrong input.
    """
    # Imported here, because the other commands do not need the client of Redis.
    from channels.publishing import publish  # noqa: PLC0415

    if (url is None) == (url_env is None):
        raise typer.BadParameter("write either --url redis://host:6379 or --url-env NAME")
    server = url if url_env is None else variable(url_env)
    assert server is not None  # one of the two options is given
    text = sys.stdin.read() if payload == "-" else payload
    try:
        # Not `json`, which accepts NaN and turns 1e999 into infinity. JSON has neither, so both would arrive as null.
        value = msgspec.json.decode(text)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise typer.BadParameter(
            """the payload is not JSON; write an object in single quotes: '{"body": "hello"}'"""
        ) from None
    try:
        publish(server, topic, event, value, timeout=timeout, name="ashtree")
    except EncodeError as error:
        raise typer.BadParameter(str(error)) from None

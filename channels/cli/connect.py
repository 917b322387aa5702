"""The command `ashtree connect`: a client in the terminal, and in pipes."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer

from channels.cli.console import Headers, fail, pair, variable

__all__ = ["connect_command"]

REFUSED = 3
"""The exit status in a pipe if the server refused a push, or did not answer a push in time."""


def connect_command(
    url: Annotated[str, typer.Argument(metavar="URL", help="Such as wss://example.org/socket.")],
    topic: Annotated[str, typer.Argument(metavar="TOPIC", help="Such as room:lobby.")],
    *,
    join: Annotated[str, typer.Option(metavar="JSON", help="The payload of the join.")] = "{}",
    param: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="A parameter of the socket. Repeat it for more."),
    ] = None,
    auth_token_env: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The environment variable that holds the authToken."),
    ] = None,
    header: Headers = None,
    timeout: Annotated[
        float, typer.Option(min=0.001, metavar="SECONDS", help="For connecting and for replies.")
    ] = 10.0,
    longpoll: Annotated[bool, typer.Option("--longpoll", help="Use long polling.")] = False,
    stay: Annotated[
        bool, typer.Option("--stay", help="Go on after the end of the input, until Ctrl-C.")
    ] = False,
    count: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="End after N messages.")
    ] = None,
) -> None:
    """Join TOPIC of the socket at URL, print its messages, and send what you type.

        $ ashtree connect ws://localhost:4000/socket room:lobby --join '{"name": "ann"}'

    Type an event and its payload in one line: new_msg {"body": "hello"}. Ctrl-D ends it.

    In a pipe it prints one line of JSON for each message and each reply; all else goes to standard error.

    The exit status is 0 at the end of the input, 1 if there is no connection or no channel, and 2 for wrong input. In a
    pipe it is 3 if a push was refused or not answered.
    """
    # Imported here, because a server must not load the client.
    from channels.cli.conversation import Conversation  # noqa: PLC0415

    if not topic:
        raise typer.BadParameter("TOPIC is empty; write one, such as room:lobby")
    options = {
        "params": dict(pair(each, "=", "--param") for each in param or ()),
        "headers": [pair(each, ":", "--header") for each in header or ()],
        "auth_token": None if auth_token_env is None else variable(auth_token_env, "; export it"),
        "timeout": timeout,
        "connect_timeout": timeout,
        "transport": "longpoll" if longpoll else "websocket",
    }
    is_terminal = sys.stdout.isatty()
    talk = Conversation(
        topic, _json(join, "--join"), is_terminal=is_terminal, stay=stay, count=count
    )
    talk.run(url, options)
    if talk.problem is not None:
        fail(talk.problem, 1)
    # In a terminal the exit status is 0, because a person has seen the replies.
    raise SystemExit(REFUSED if talk.failures and not is_terminal else 0)


def _json(text: str, option: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise typer.BadParameter(
            f'{option} is not JSON; write an object in quotes: \'{{"name": "ann"}}\''
        ) from None

"""The commands `ashtree token sign` and `ashtree token verify`."""

from __future__ import annotations

import json
import os
import sys
from typing import Annotated, Any

import typer

from channels.errors import ChannelsError
from channels.tokens.token import DEFAULT_MAX_AGE, sign, verify

__all__ = ["add_token_commands"]

SALT = Annotated[str, typer.Option(help="What the token is for, such as 'user auth'.")]
SECRET_ENV = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME",
        help="The variable of the environment that holds the secret. Asked for if not given.",
    ),
]


def add_token_commands(app: typer.Typer, group: typer.Typer) -> None:
    """Put the commands into the group, and the group into the application."""
    group.command("sign", help="Print a token that holds DATA, which is JSON.")(_sign)
    group.command("verify", help="Print what a token holds, as JSON where that is possible.")(
        _verify
    )
    app.add_typer(group, name="token", help="Make and read tokens.")


def _sign(
    data: Annotated[str, typer.Argument(metavar="DATA", help="JSON, such as 7 or '\"ann\"'.")],
    salt: SALT,
    secret_env: SECRET_ENV = None,
    max_age: Annotated[
        float,
        typer.Option(min=0, metavar="SECONDS", help="How long it is good for; inf is for ever."),
    ] = DEFAULT_MAX_AGE,
) -> None:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise typer.BadParameter(
            "DATA is not JSON; write a number, or text in quotes within quotes: '\"ann\"'"
        ) from None
    # Phoenix signs whole seconds as whole numbers, so the same token comes out.
    age = int(max_age) if max_age.is_integer() else max_age
    typer.echo(sign(_secrets(secret_env), salt, value, max_age=age))


def _verify(
    token: Annotated[str, typer.Argument(metavar="TOKEN", help="As it was made.")],
    salt: SALT,
    secret_env: SECRET_ENV = None,
    max_age: Annotated[
        float | None,
        typer.Option(min=0, metavar="SECONDS", help="How old it may be, whatever it says itself."),
    ] = None,
) -> None:
    typer.echo(_shown(verify(_secrets(secret_env), salt, token, max_age=max_age)))


def _shown(data: Any) -> str:
    try:
        return json.dumps(data, ensure_ascii=False)
    except TypeError:
        return repr(data)


def _secrets(names: list[str] | None) -> list[str]:
    if not names:
        return [_asked()]
    missing = [name for name in names if not os.environ.get(name)]
    if missing:
        raise typer.BadParameter(
            f"the environment has no variable {missing[0]}; export it, or leave --secret-env out to be asked"
        )
    return [os.environ[name] for name in names]


def _asked() -> str:
    if sys.stdin.isatty():
        # On standard error, so that the output is the token alone.
        return str(typer.prompt("Secret", hide_input=True, err=True))
    secret = sys.stdin.readline().rstrip("\r\n")
    if not secret:
        raise ChannelsError(
            "there is nobody to ask for the secret; name a variable with --secret-env"
        )
    return secret

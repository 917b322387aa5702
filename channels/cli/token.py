"""The commands `ashtree token sign` and `ashtree token verify`."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer

from channels.cli.console import variable
from channels.errors import ChannelsError
from channels.tokens.token import DEFAULT_MAX_AGE, sign, verify

__all__ = ["sign_command", "verify_command"]

SALT = Annotated[str, typer.Option(help="The purpose of the token, such as 'user auth'.")]
SECRET_ENV = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME",
        help="The environment variable that holds the secret. Without it, the command asks.",
    ),
]


def sign_command(
    data: Annotated[str, typer.Argument(metavar="DATA", help="JSON, such as 7 or '\"ann\"'.")],
    salt: SALT,
    secret_env: SECRET_ENV = None,
    max_age: Annotated[
        float,
        typer.Option(min=0, metavar="SECONDS", help="Lifetime of the token; inf never expires."),
    ] = DEFAULT_MAX_AGE,
) -> None:
    """Print a token that holds DATA, a JSON value."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise typer.BadParameter(
            "DATA is not JSON; write a number, or a string with both kinds of quotes: '\"ann\"'"
        ) from None
    # Phoenix signs whole seconds as integers, so this makes the same token as Phoenix.
    age = int(max_age) if max_age.is_integer() else max_age
    typer.echo(sign(_secrets(secret_env), salt, value, max_age=age))


def verify_command(
    token: Annotated[str, typer.Argument(metavar="TOKEN", help="The token.")],
    salt: SALT,
    secret_env: SECRET_ENV = None,
    max_age: Annotated[
        float | None,
        typer.Option(
            min=0, metavar="SECONDS", help="Maximum age. Overrides the maximum age in the token."
        ),
    ] = None,
) -> None:
    """Print the data of a token, as JSON if possible."""
    typer.echo(_shown(verify(_secrets(secret_env), salt, token, max_age=max_age)))


def _shown(data: Any) -> str:
    try:
        return json.dumps(data, ensure_ascii=False)
    except TypeError:
        return repr(data)


def _secrets(names: list[str] | None) -> list[str]:
    if not names:
        return [_asked()]
    advice = "; export it, or enter the secret without --secret-env"
    return [variable(name, advice) for name in names]


def _asked() -> str:
    if sys.stdin.isatty():
        # The prompt goes to standard error, so that standard output contains only the token.
        return str(typer.prompt("Secret", hide_input=True, err=True))
    secret = sys.stdin.readline().rstrip("\r\n")
    if not secret:
        raise ChannelsError(
            "standard input has no secret; name an environment variable with --secret-env"
        )
    return secret

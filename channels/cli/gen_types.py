"""The command `ashtree gen types`, which writes the types of an endpoint for clients."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from channels.cli.program import load_endpoint
from channels.errors import ChannelsError

__all__ = ["types_command"]


def types_command(
    target: Annotated[
        str, typer.Argument(metavar="MODULE:ENDPOINT", help="Such as chat.endpoint:endpoint.")
    ],
    *,
    asyncapi: Annotated[
        bool, typer.Option("--asyncapi", help="Write an AsyncAPI 3.0 document, not TypeScript.")
    ] = False,
    openapi: Annotated[
        bool,
        typer.Option(
            "--openapi", help="Write an OpenAPI 3.1 document of Endpoint(publish=), not TypeScript."
        ),
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write to this file, not to standard output. Missing folders are created.",
        ),
    ] = None,
) -> None:
    """Write the types of an endpoint's channels for clients."""
    if asyncapi and openapi:
        raise typer.BadParameter("write either --asyncapi or --openapi")
    endpoint = load_endpoint(target)
    # Imported here, because a server in production does not write types.
    from channels.generators.asyncapi import asyncapi as document  # noqa: PLC0415
    from channels.generators.contract import contract_of  # noqa: PLC0415
    from channels.generators.openapi import openapi as requests  # noqa: PLC0415
    from channels.generators.typescript import RESERVED, typescript  # noqa: PLC0415

    taken = {*RESERVED, "Published", "Refused"} if openapi else RESERVED
    contract = contract_of(endpoint.sockets, taken=taken)
    if openapi:
        publish = endpoint.publish
        if publish is None:
            raise ChannelsError(f"{target} has no publish=HttpPublish(...), so it has no requests")
        found = requests(contract, title=target, path=publish.path, max_batch=publish.max_batch)
    if asyncapi:
        found = document(contract, title=target)
    if asyncapi or openapi:
        text = json.dumps(found, indent=2, ensure_ascii=False) + "\n"
    else:
        text = typescript(contract, source=target)
    if output is None:
        typer.echo(text, nl=False)
        return
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(text, "utf-8")
    except OSError as error:
        raise typer.BadParameter(f"cannot write {output}: {error.strerror or error}") from None
    typer.echo(f"Wrote {output}")

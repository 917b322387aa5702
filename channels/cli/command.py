"""The command `ashtree`. It lists its subcommands, and loads the modules of one only when it runs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated, Final, NoReturn

import typer

from actors.installation import find_clashes
from channels.cli.console import new_app, run_app

__all__ = ["APPS", "main", "make_app"]


def main() -> NoReturn:
    """Run the command `ashtree`."""
    # A distribution that has replaced a package of Ashtree has ended the import of this module.
    for clash in find_clashes():
        sys.stderr.write(f"Warning: {clash}\n")
    run_app(make_app())


def make_app() -> typer.Typer:
    """Return the command `ashtree`. Each subcommand passes its arguments on to one of the `APPS`."""
    app = new_app(help="Ashtree: actors, supervision and Phoenix Channels on Trio.")

    @app.callback(invoke_without_command=True)
    def ashtree(
        context: typer.Context,
        *,
        version: Annotated[
            bool,
            typer.Option(
                "--version",
                is_eager=True,
                callback=_show_version,
                help="Print the version, and exit.",
            ),
        ] = False,
    ) -> None:
        if context.invoked_subcommand is None:
            typer.echo(context.get_help())

    for make, commands in APPS.items():
        for name, summary in commands.items():
            _add_command(app, name, summary, make)
    return app


def _server_app() -> typer.Typer:
    """Return the command that serves an endpoint."""
    # Imported when a command runs, here and below, because no other command needs these modules.
    from channels.cli.serve import serve_command  # noqa: PLC0415

    app = new_app()
    # Without a callback, Typer would take the name of the only command for its argument.
    app.callback()(lambda: None)
    app.command("serve")(serve_command)
    return app


def _client_app() -> typer.Typer:
    """Return the commands that talk to a server, and those for tokens."""
    from channels.cli.broadcast import broadcast_command  # noqa: PLC0415
    from channels.cli.connect import connect_command  # noqa: PLC0415
    from channels.cli.token import sign_command, verify_command  # noqa: PLC0415
    from channels.cli.workers import workers_command  # noqa: PLC0415

    app = new_app()
    app.command("workers")(workers_command)
    app.command("connect")(connect_command)
    app.command("broadcast")(broadcast_command)
    token = new_app()
    token.command("sign")(sign_command)
    token.command("verify")(verify_command)
    app.add_typer(token, name="token", help="Make and read tokens.")
    return app


def _project_app() -> typer.Typer:
    """Return the commands that write the files of projects."""
    from channels.cli.gen_types import types_command  # noqa: PLC0415
    from channels.generators.commands import add_generators  # noqa: PLC0415

    app = new_app()
    gen = new_app()
    add_generators(app, gen)
    gen.command("types")(types_command)
    return app


def _test_app() -> typer.Typer:
    """Return the commands of the test tools."""
    # A server in production must not load them.
    from channels.laboratory.live_network import LiveNetwork  # noqa: PLC0415
    from supervision.laboratory.chaos.commands import add_chaos_command  # noqa: PLC0415
    from supervision.laboratory.simulation.tools.commands import add_simulation_commands  # noqa: PLC0415
    from supervision.laboratory.story.commands import add_story_command  # noqa: PLC0415

    app = new_app()
    add_story_command(app)
    add_simulation_commands(app)
    add_chaos_command(app, LiveNetwork)
    return app


APPS: Final = {
    _server_app: {"serve": "Serve an endpoint until Ctrl-C."},
    _client_app: {
        "workers": "Show the workers of this user's servers, or replace them.",
        "connect": "Join a topic, print its messages, and send yours.",
        "broadcast": "Send an event to all clients of a topic.",
        "token": "Make and read tokens.",
    },
    _project_app: {
        "new": "Create a project: a server, a channel, a page and tests.",
        "gen": "Create parts of a project, or types for clients.",
    },
    _test_app: {
        "simulate": "Run a scenario with many seeds, and show the failures.",
        "replay": "Repeat the run of a run file, byte for byte.",
        "compare": "Run a scenario under several policies, and compare.",
        "chaos": "Inject faults into a live system, and report the results.",
        "story": "Tell what happened in a recording, fault by fault.",
    },
}
"""The apps with the subcommands, each made by a function, and the help texts for `ashtree --help`."""


def _add_command(
    app: typer.Typer, name: str, summary: str, make: Callable[[], typer.Typer]
) -> None:
    """Add a command that makes another app, and passes its name and its arguments on to it."""

    def run(context: typer.Context) -> int | None:
        program = context.parent.info_name if context.parent is not None else None
        code: int | None = make()([name, *context.args], prog_name=program, standalone_mode=False)
        return code

    passed_on = {
        "allow_extra_args": True,
        "allow_interspersed_args": False,
        "ignore_unknown_options": True,
    }
    app.command(name, help=summary, add_help_option=False, context_settings=passed_on)(run)


def _show_version(asked: bool) -> None:
    if asked:
        # Imported here, because it loads the modules of email and zipfile.
        from importlib import metadata  # noqa: PLC0415

        typer.echo(f"ashtree {metadata.version('ashtree')}")
        raise typer.Exit

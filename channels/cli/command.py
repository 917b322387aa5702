"""The command `ashtree` and its subcommands. A subcommand of the test tools loads its modules only when it runs."""

from __future__ import annotations

import sys
from importlib import metadata
from typing import Annotated, NoReturn

import typer

from actors.installation import find_clashes
from channels.cli.broadcast import broadcast_command
from channels.cli.connect import connect_command
from channels.cli.console import new_app, run_app
from channels.cli.gen_types import types_command
from channels.cli.observe import observe_command
from channels.cli.serve import serve_command
from channels.cli.token import sign_command, verify_command
from channels.cli.workers import workers_command
from channels.generators.commands import add_generators

__all__ = ["main", "make_app", "make_test_app"]


def main() -> NoReturn:
    """Run the command `ashtree`."""
    # A distribution that has replaced a package of Ashtree has ended the import of this module.
    for clash in find_clashes():
        sys.stderr.write(f"Warning: {clash}\n")
    run_app(make_app())


def make_app() -> typer.Typer:
    """Return the command `ashtree`. Its test commands pass their arguments on to the app of `make_test_app`."""
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

    app.command("serve")(serve_command)
    app.command("workers")(workers_command)
    app.command("connect", short_help="Join a topic, print its messages, and send yours.")(
        connect_command
    )
    app.command("observe")(observe_command)
    app.command("broadcast", short_help="Send an event to all clients of a topic.")(
        broadcast_command
    )
    token = new_app()
    token.command("sign")(sign_command)
    token.command("verify")(verify_command)
    app.add_typer(token, name="token", help="Make and read tokens.")
    gen = new_app()
    add_generators(app, gen)
    gen.command("types")(types_command)
    for name, summary in _TEST_COMMANDS.items():
        app.command(
            name,
            help=summary,
            add_help_option=False,
            context_settings={
                "allow_extra_args": True,
                "allow_interspersed_args": False,
                "ignore_unknown_options": True,
            },
        )(_run_test_command)
    return app


_TEST_COMMANDS = {
    "simulate": "Run a scenario with many seeds, and show the failures.",
    "replay": "Repeat the run of a run file, byte for byte.",
    "compare": "Run a scenario under several policies, and compare.",
    "chaos": "Inject faults into a live system, and report the results.",
    "story": "Tell what happened in a recording, fault by fault.",
}
"""The commands of the test tools, with their help texts, so that `ashtree --help` does not load the tools."""


def make_test_app() -> typer.Typer:
    """Return the commands of the test tools."""
    # Imported when one of these commands runs, because a server in production must not load the test tools.
    from channels.laboratory.live_network import LiveNetwork  # noqa: PLC0415
    from supervision.laboratory.chaos.commands import add_chaos_command  # noqa: PLC0415
    from supervision.laboratory.simulation.tools.commands import add_simulation_commands  # noqa: PLC0415
    from supervision.laboratory.story.commands import add_story_command  # noqa: PLC0415

    app = new_app()
    add_story_command(app)
    add_simulation_commands(app)
    add_chaos_command(app, LiveNetwork)
    return app


def _run_test_command(context: typer.Context) -> int | None:
    """Run a command of the test tools, and return the exit code."""
    app = make_test_app()
    program = context.parent.info_name if context.parent is not None else None
    arguments = [str(context.info_name), *context.args]
    code: int | None = app(arguments, prog_name=program, standalone_mode=False)
    return code


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"ashtree {metadata.version('ashtree')}")
        raise typer.Exit

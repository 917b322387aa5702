"""The command `ashtree` and its subcommands. A subcommand of the test tools loads its modules only when it runs."""

from __future__ import annotations

import sys
from importlib import metadata
from typing import Annotated, NoReturn

import typer

from actors.installation import find_clashes
from channels.cli.broadcast import add_broadcast_command
from channels.cli.connect import add_connect_command
from channels.cli.console import new_app, run_app
from channels.cli.gen_types import add_types_command
from channels.cli.observe import add_observe_command
from channels.cli.serve import add_serve_command
from channels.cli.token import add_token_commands
from channels.cli.workers import add_workers_command
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

    add_serve_command(app)
    add_workers_command(app)
    add_connect_command(app)
    add_observe_command(app)
    add_broadcast_command(app)
    add_token_commands(app, new_app())
    gen = new_app()
    add_generators(app, gen)
    add_types_command(gen)
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

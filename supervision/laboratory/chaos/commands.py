"""The command `ashtree chaos`."""

from __future__ import annotations

import logging
import math
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Annotated

import msgspec
import typer

from actors.text import TextFormatter, printable
from supervision.applications.command_line.arguments import (
    check_folders,
    load_function,
    parse_params,
)
from supervision.applications.command_line.console import plain_console
from supervision.laboratory.chaos.errors import InvalidFault
from supervision.laboratory.chaos.faults.kinds import Fault, plan_from_json
from supervision.laboratory.chaos.faults.moments import At
from supervision.laboratory.chaos.faults.plan import draw_plan
from supervision.laboratory.chaos.invariants.built_in import choose
from supervision.laboratory.chaos.live.experiment import Phases
from supervision.laboratory.chaos.live.outcome import LiveOutcome
from supervision.laboratory.chaos.live.run import LiveScenario, run_live
from supervision.laboratory.chaos.live.service import ServiceLimits
from supervision.laboratory.chaos.live.world import Network
from supervision.laboratory.chaos.reports.journal import toolkit_journal
from supervision.laboratory.chaos.reports.table import print_report
from supervision.laboratory.chaos.settings import settings_of
from supervision.recording.trace import write_lines

__all__ = ["add_chaos_command"]

_PHASES = {
    "before": "Waiting for the steady state ...",
    "during": "Steady. Applying faults for {seconds:g} s (Ctrl-C ends it early) ...",
    "after": "Faults are over. Waiting for the steady state ...",
}

_EXIT_CODES = {"held": 0, "failed": 1, "overloaded": 3, "error": 4}
INTERRUPTED = 130  # the exit code of a program that Ctrl-C ended


def add_chaos_command(app: typer.Typer, network: Callable[[], Network]) -> None:
    """Add the command to the application.

    Args:
        app: the application.
        network: creates the network for `world.listen` and `world.connect`.
    """
    command = app.command(
        help="Apply faults to a live system, and report the effects.",
        context_settings={"obj": network},
    )
    command(chaos)


def chaos(
    context: typer.Context,
    target: Annotated[
        str, typer.Argument(metavar="MODULE:SCENARIO", help="Such as shop.chaos:opening_day.")
    ],
    *,
    seed: Annotated[int, typer.Option(min=0, help="The seed, which decides the faults.")] = 1,
    seconds: Annotated[
        float, typer.Option("--for", metavar="SECONDS", help="How long to apply faults.")
    ] = 60.0,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a page with the timeline.")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the figures as JSON.")
    ] = None,
    journal: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the report as a Chaos Toolkit journal."),
    ] = None,
    trace: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write every event as a line of JSON.")
    ] = None,
    faults: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A plan as JSON. It replaces the scenario's plan."),
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="The parameter `port` of the scenario.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="The parameter `workers` of the scenario.")
    ] = None,
    nodes: Annotated[
        int | None, typer.Option(min=1, help="The parameter `nodes` of the scenario.")
    ] = None,
    params: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE", help="A parameter of the scenario. The value is JSON or text."
        ),
    ] = None,
    steady_for: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            help="How long the steady state must hold, before and after.",
        ),
    ] = 5.0,
    recover_within: Annotated[
        float,
        typer.Option(metavar="SECONDS", help="The time limit for the return to the steady state."),
    ] = 15.0,
    exact_times: Annotated[
        bool,
        typer.Option(
            "--exact-times",
            help="Keep the times of the plan, which is otherwise spread over --for.",
        ),
    ] = False,
    late_after: Annotated[
        float,
        typer.Option(metavar="SECONDS", help="The lag above which the event loop counts as late."),
    ] = 0.05,
    max_late_share: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            metavar="SHARE",
            help="The share of time for which the event loop may be late, without overload.",
        ),
    ] = 0.1,
    max_wait_share: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            metavar="SHARE",
            help="The share of time for which the run may wait for a processor, without overload.",
        ),
    ] = 0.2,
    max_load: Annotated[
        float,
        typer.Option(
            metavar="LOAD",
            help="The load average per core that is no overload.",
        ),
    ] = 2.0,
    answer_within: Annotated[
        float, typer.Option(metavar="SECONDS", help="The time limit for an answer to a client.")
    ] = 1.0,
    min_in_time: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            metavar="SHARE",
            help="The share of requests and of clients that must be answered in time.",
        ),
    ] = 0.5,
    log_level: Annotated[
        str, typer.Option(help="Log this level and above. Crashes are errors.")
    ] = "critical",
) -> None:
    """Run `ashtree chaos`.

    The exit code is 0 if the run went well, 1 if it failed, 2 for wrong input, 3 if the machine was overloaded, and
    4 if the scenario raised an exception. 4 takes precedence over 3, and 3 over 1.
    """
    _check_amounts(max_load, seconds, steady_for, recover_within, late_after, answer_within)
    check_folders(html, json_file, journal, trace)
    scenario = load_function(
        target, "scenario, which is an async function of one argument, the world"
    )
    options = {"port": port, "workers": workers, "nodes": nodes}
    given = parse_params(params or ())
    given |= {name: value for name, value in options.items() if value is not None}
    _log(log_level)
    plan = _checked_plan(target, scenario, faults, seed)
    try:
        outcome = run_live(
            scenario,
            seed,
            seconds=seconds,
            faults=plan,
            params=given,
            phases=Phases(before=steady_for, after=steady_for, recover_within=recover_within),
            network=context.obj(),
            limits=ServiceLimits(
                late_after=late_after,
                max_late_share=max_late_share,
                max_wait_share=max_wait_share,
                max_load=max_load,
                answer_within=answer_within,
                min_in_time=min_in_time,
            ),
            spread_plan=not exact_times,
            log=True,
            on_phase=lambda name: _say(_PHASES[name].format(seconds=seconds)),
        )
    except KeyboardInterrupt:
        # A second Ctrl-C ended the run without an outcome, so there is no report.
        raise SystemExit(INTERRUPTED) from None
    _write(outcome, html=html, json_file=json_file, journal=journal, trace=trace)
    _mention_late_faults(outcome, seconds)
    raise SystemExit(_EXIT_CODES[outcome.verdict])


def _check_amounts(max_load: float, *seconds: float) -> None:
    if not min(seconds) > 0:
        raise typer.BadParameter(
            "--for, --steady-for, --recover-within, --late-after and --answer-within must be more than 0 seconds"
        )
    if not max_load > 0:
        raise typer.BadParameter("--max-load must be more than 0")


def _write(
    outcome: LiveOutcome,
    *,
    html: Path | None,
    json_file: Path | None,
    journal: Path | None,
    trace: Path | None,
) -> None:
    print_report(outcome, plain_console())
    if html is not None:
        outcome.write_page(html)
        _say(f"The page is in {html}")
    if json_file is not None:
        json_file.write_bytes(outcome.to_json())
    if journal is not None:
        content = toolkit_journal(outcome, node=platform.node(), platform=platform.platform())
        journal.write_bytes(msgspec.json.format(msgspec.json.encode(content), indent=2))
    if trace is not None:
        write_lines(trace, outcome.trace)


def _mention_late_faults(outcome: LiveOutcome, seconds: float) -> None:
    plan = outcome.faults
    if outcome.interrupted or not outcome.fault_reports:
        return
    times = [fault.when.seconds for fault in plan if isinstance(fault.when, At)]
    late = [time for time in times if time >= seconds]
    if late:
        _say(
            f"{len(late)} of {len(plan)} planned faults are due after {seconds:g} s, so the run did not apply them; "
            f"write --for {math.floor(max(late)) + 1} to apply all of them"
        )


def _plan(file: Path) -> tuple[Fault, ...]:
    try:
        return plan_from_json(file.read_bytes())
    except OSError as error:
        raise typer.BadParameter(
            f"--faults {file}: {error.strerror or error}; name a file with a plan in JSON"
        ) from None
    except InvalidFault as error:
        raise typer.BadParameter(
            f"--faults {file} is not a plan: {error.advice if error.kind == 'plan' else error}; write a list such as "
            '[{"type": "kill", "target": "/top/store", "when": {"type": "at", "seconds": 0.5}}]'
        ) from None


def _checked_plan(
    target: str, scenario: LiveScenario, file: Path | None, seed: int
) -> tuple[Fault, ...] | None:
    """Return the plan in the file; None without a file. Refuse a plan or invariants that the run cannot use."""
    settings = settings_of(scenario)
    plan = None if file is None else _plan(file)
    try:
        draw_plan(settings.faults if plan is None else plan, Random(seed))
        choose(settings.invariants)
    except (InvalidFault, ValueError) as error:
        raise typer.BadParameter(f"{target}: {error}") from None
    return plan


def _log(level: str) -> None:
    known = logging.getLevelNamesMapping()
    if level.upper() not in known:
        raise typer.BadParameter(
            f"--log-level {level}: write debug, info, warning, error or critical"
        )
    handler = logging.StreamHandler()
    handler.setFormatter(TextFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler])


def _say(words: str) -> None:
    sys.stdout.write(f"{printable(words, lines=True)}\n")
    sys.stdout.flush()

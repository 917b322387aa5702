"""The commands `ashtree simulate`, `ashtree replay` and `ashtree compare`."""

from __future__ import annotations

import os
import re
import shlex
import signal
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, NoReturn

import msgspec
import typer

from actors.errors import InvalidOption
from actors.text import printable
from supervision.applications.command_line.arguments import (
    check_folders,
    confirm_import,
    load_function,
    params_as_options,
    parse_params,
)
from supervision.laboratory.chaos.settings import settings_of
from supervision.laboratory.simulation.comparing.comparison import Comparison
from supervision.laboratory.simulation.comparing.comparison import compare as comparison_of
from supervision.laboratory.simulation.errors import SimulationError
from supervision.laboratory.simulation.replaying.command import replay_file
from supervision.laboratory.simulation.replaying.run_file import load_run
from supervision.laboratory.simulation.scenario import Scenario
from supervision.laboratory.simulation.search.corpus import DEFAULT_CORPUS, Corpus
from supervision.laboratory.simulation.search.report import FORKS
from supervision.laboratory.simulation.search.searching import Strategy
from supervision.laboratory.simulation.search.sweep import BARE
from supervision.laboratory.simulation.search.terminal import Sweeping
from supervision.laboratory.simulation.search.workers import cores

__all__ = ["add_simulation_commands"]

Target = Annotated[
    str, typer.Argument(metavar="MODULE:SCENARIO", help="Such as shop.scenarios:opening_day.")
]
Seeds = Annotated[str, typer.Option(metavar="SEEDS", help="Such as 7, 1-1000, or 1-10,40.")]
Jobs = Annotated[
    int | None,
    # More processes do not help, and a typing error must not overload a machine.
    typer.Option(
        min=0, max=256, help="The number of processes; the default is one per core. 0 uses none."
    ),
]
Swarm = Annotated[bool, typer.Option(help="Draw the settings of the world anew for each seed.")]
Params = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=VALUE", help="A parameter of the scenario. The value is JSON or text."
    ),
]
JsonFile = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="Also write the figures as JSON.")
]

INTERRUPTED = 130  # the exit code of shells for Ctrl-C
TERMINATED = 143  # the exit code of shells for SIGTERM

_SPAN = re.compile(r"(\d{1,18})(?:-(\d{1,18}))?")
_MOST_SEEDS = 10_000_000


def add_simulation_commands(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command(help="Run a scenario with many seeds, and show the failures.")(simulate)
    app.command(help="Repeat the run of a run file, byte for byte.")(replay)
    app.command(help="Run a scenario under several policies, and compare the results.")(compare)


def simulate(
    target: Target,
    *,
    seeds: Seeds = "1-100",
    jobs: Jobs = None,
    swarm: Swarm = True,
    shrink: Annotated[bool, typer.Option(help="Shrink each kind of failure.")] = True,
    corpus: Annotated[
        Path, typer.Option(metavar="DIR", help="The folder for the run files of failures.")
    ] = DEFAULT_CORPUS,
    params: Params = None,
    stop_after: Annotated[
        int, typer.Option(min=0, metavar="N", help="Stop after this many failures; 0 never stops.")
    ] = 20,
    forks: Annotated[
        int, typer.Option(min=0, metavar="N", help="The number of runs from each rare state.")
    ] = FORKS,
    strategy: Annotated[
        Strategy,
        typer.Option(help="The order of tasks in each round. auto draws it from the seed."),
    ] = "auto",
    deviations: Annotated[
        int, typer.Option(min=0, metavar="N", help="The most reordered rounds, for exhaustive.")
    ] = 1,
    limit: Annotated[
        int, typer.Option(min=1, metavar="N", help="The most schedules, for exhaustive.")
    ] = 10_000,
    bare: Annotated[
        float, typer.Option(min=0, max=1, help="The share of runs without instruments.")
    ] = BARE,
    check: Annotated[
        float,
        typer.Option(min=0, max=1, help="The share of passing runs to repeat in a fresh process."),
    ] = 0.01,
    real_seconds: Annotated[
        float, typer.Option(metavar="SECONDS", help="The real time that a run may take.")
    ] = 60.0,
    json_file: JsonFile = None,
) -> None:
    """Run `ashtree simulate`. The exit code is 0 if all runs pass, 1 if one fails, 2 for wrong input."""
    if not real_seconds > 0:
        raise typer.BadParameter("--real-seconds must be more than 0 seconds")
    _check_corpus(corpus)
    check_folders(json_file)
    scenario, given = _load_scenario(target), parse_params(params or ())
    _check_params(target, scenario, given)
    sweeping = Sweeping(
        scenario=scenario,
        seeds=_parse_seeds(seeds),
        jobs=cores() if jobs is None else jobs,
        swarm=swarm,
        shrink=shrink,
        corpus=Corpus(corpus),
        params=given,
        stop_after=stop_after,
        forks=forks,
        strategy=strategy,
        deviations=deviations,
        limit=limit,
        bare=bare,
        check=check,
        real_seconds=real_seconds,
        json_file=json_file,
    )
    try:
        with _terminable():
            passed = sweeping.run()
    except KeyboardInterrupt:
        sweeping.interrupted()
        raise SystemExit(INTERRUPTED) from None
    except SimulationError as error:
        _fail(str(error), 1)
    raise SystemExit(0 if passed else 1)


def replay(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A run file.")],
    *,
    trace: Annotated[bool, typer.Option("--trace", help="Print every event as JSON.")] = False,
    pdb: Annotated[
        bool, typer.Option("--pdb", help="Open the debugger where the run failed.")
    ] = False,
    at: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="Open the debugger at event number N of the trace."),
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a page with the timeline.")
    ] = None,
    imports: Annotated[
        bool,
        typer.Option("--import", help="Import the module that the file names, without asking."),
    ] = False,
) -> None:
    """Run `ashtree replay`. The exit code is 0 if the run passes, 1 if it fails, 2 for wrong input."""
    # The program may import from the current folder, as with `python -m`.
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    check_folders(html)
    try:
        run = load_run(file)
        if not imports:
            confirm_import(run.scenario, file)
        passed = replay_file(run, trace=trace, debug=pdb, at=at, html=html)
    except SimulationError as error:
        _fail(str(error), 2)
    raise SystemExit(0 if passed else 1)


def compare(
    target: Target,
    *,
    policy: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME:KEY=VALUE",
            help="A policy: a name and parameters, separated by spaces. Give two or more.",
        ),
    ] = None,
    seeds: Seeds = "1-100",
    jobs: Jobs = None,
    swarm: Swarm = True,
    params: Params = None,
    svg: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write a picture.")] = None,
    json_file: JsonFile = None,
) -> None:
    """Run `ashtree compare`. The exit code is 0 for success, 1 if a run was lost, 2 for wrong input."""
    policies = _parse_policies(policy or ())
    scenario, chosen = _load_scenario(target), _parse_seeds(seeds)
    given = parse_params(params or ())
    _check_params(target, scenario, *({**given, **own} for own in policies.values()))
    check_folders(svg, json_file)
    try:
        with _terminable():
            comparison = comparison_of(
                policies, scenario, seeds=chosen, params=given, swarm=swarm, jobs=jobs
            )
    except SimulationError as error:
        _fail(str(error), 1)
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
    sys.stdout.write(f"{printable(str(comparison), lines=True)}\n")
    for name, own in policies.items():
        _say_failed(comparison, name, {**given, **own})
    if svg is not None:
        svg.write_text(comparison.to_svg())
    if json_file is not None:
        json_file.write_bytes(msgspec.json.format(msgspec.json.encode(comparison.as_data())))


def _say_failed(comparison: Comparison, policy: str, params: dict[str, Any]) -> None:
    failed = [
        seed
        for seed, run in zip(comparison.seeds, comparison.runs, strict=True)
        if run[policy]["failed"]
    ]
    if failed:
        words = ["ashtree", "simulate", comparison.scenario, "--seeds", str(failed[0])]
        sys.stdout.write(
            f"{policy}: {len(failed)} of {len(comparison.seeds)} runs failed; repeat the first with: "
            f"{shlex.join([*words, *params_as_options(params)])}\n"
        )


def _check_corpus(corpus: Path) -> None:
    # Check this before the sweep, because the first failure may come hours later.
    place = corpus.absolute()
    while not place.exists():
        place = place.parent
    if not place.is_dir():
        raise typer.BadParameter(f"--corpus {corpus}: {place} is a file; name a folder")
    if not os.access(place, os.W_OK):
        raise typer.BadParameter(f"--corpus {corpus}: {place} is not writable; name another folder")


@contextmanager
def _terminable() -> Iterator[None]:
    """Raise SystemExit on SIGTERM in this block, so that the worker processes end too."""

    def leave(number: int, frame: FrameType | None) -> NoReturn:
        raise SystemExit(TERMINATED)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _fail(sentence: str, code: int) -> NoReturn:
    sys.stderr.write(f"{printable(sentence, lines=True)}\n")
    raise SystemExit(code)


# Arguments


def _load_scenario(target: str) -> Scenario:
    """Import the scenario `module:function`, as `python -m` would.

    Raises:
        typer.BadParameter: the module has no such scenario. The text lists its scenarios.
    """
    scenario: Scenario = load_function(
        target, "scenario, which is an async function of one argument, the world"
    )
    return scenario


def _check_params(target: str, scenario: Scenario, *params: Mapping[str, Any]) -> None:
    """Refuse parameters out of bounds, and warn of those that a scenario does not declare: most are typing errors.

    This is only a warning, because a scenario may read parameters that it does not declare.
    """
    settings = settings_of(scenario)
    names = dict.fromkeys(name for each in params for name in each)
    known = settings.params
    unknown = [name for name in names if known and name not in known]
    if unknown:
        sys.stderr.write(
            f"{target} does not declare the parameter {', '.join(map(repr, unknown))}; it declares {', '.join(known)}\n"
        )
    try:
        for each in params:
            settings.check_params("--params", each)
    except InvalidOption as error:
        raise typer.BadParameter(str(error)) from None


def _parse_seeds(text: str) -> Sequence[int]:
    """Parse seeds such as `7`, `1-1000` or `1-10,40,50-60`.

    Raises:
        typer.BadParameter: the text has another form.
    """
    spans = []
    for part in text.split(","):
        match = _SPAN.fullmatch(part.strip())
        if match is None:
            raise typer.BadParameter(
                f"{part.strip()!r} is not a seed; write a number, a range such as 1-1000, or several with commas"
            )
        first = int(match[1])
        last = int(match[2] or first)
        if last < first:
            raise typer.BadParameter(f"{part.strip()} ends before it begins; write {last}-{first}")
        spans.append(range(first, last + 1))
    if sum(map(len, spans)) > _MOST_SEEDS:
        raise typer.BadParameter(f"{text} has more than {_MOST_SEEDS} seeds; sweep them in parts")
    if len(spans) == 1:
        return spans[0]
    return list(dict.fromkeys(seed for span in spans for seed in span))


def _parse_policies(texts: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Parse two or more policies with different names, such as `NAME: KEY=VALUE KEY=VALUE`.

    Without `NAME:`, the whole text is the name.

    Raises:
        typer.BadParameter: there are fewer than two policies, two have the same name, or a part is not a parameter.
    """
    policies: dict[str, dict[str, Any]] = {}
    names = []
    for text in texts:
        name, colon, rest = text.partition(":")
        if not colon or "=" in name:
            name = rest = text
        names.append(name.strip())
        policies[name.strip()] = parse_params(rest.split())
    if 2 <= len(policies) < len(names):
        raise typer.BadParameter(
            f"two of the policies {', '.join(map(repr, names))} have the same name; give them different names"
        )
    if len(policies) < 2:
        raise typer.BadParameter(
            "a comparison needs two policies; write --policy '3 restarts: max_restarts=3' two or more times, with "
            "different names"
        )
    return policies

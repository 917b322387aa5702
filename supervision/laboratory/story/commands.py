"""The command `ashtree story`."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import msgspec
import typer

from actors.errors import InvalidArgument
from actors.text import printable
from supervision.applications.command_line.arguments import (
    check_folders,
    confirm_import,
    load_module,
)
from supervision.laboratory.histories import models
from supervision.laboratory.histories.check import Verdict, check_linearizable
from supervision.laboratory.histories.reading import IncompleteRecording, operations_in
from supervision.laboratory.simulation.errors import SimulationError
from supervision.laboratory.simulation.replaying.run_file import find_scenario, save_run
from supervision.laboratory.simulation.simulate import simulate
from supervision.laboratory.story.mermaid import write_mermaid
from supervision.laboratory.story.seeds import SeedPlan, plan_of
from supervision.laboratory.story.svg import draw_figures
from supervision.laboratory.story.text import write_text
from supervision.recording.reader.figures import figures_of
from supervision.recording.reader.merging import UnrelatedRecordings, merge
from supervision.recording.reader.model import StoryModel
from supervision.recording.reader.page import write_page
from supervision.recording.reader.story import tell_story
from supervision.recording.trace import DamagedTrace, InvalidTraceFile, read_recording

__all__ = ["add_story_command"]

Files: TypeAlias = Annotated[
    list[Path],
    typer.Argument(
        metavar="FILE...",
        help="A recording, a capsule, or the trace of a run; several recordings of workers or nodes become one story.",
    ),
]


def _output(name: str, summary: str) -> Any:
    return typer.Option(name, metavar="FILE", help=summary)


def add_story_command(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("story", help="Tell the story of a recording: each fault, and its consequences.")(
        story
    )


def story(
    files: Files,
    *,
    lines: Annotated[int, typer.Option(min=5, help="The most lines of one incident.")] = 40,
    figures: Annotated[bool, typer.Option(help="Print the recovery figures too.")] = False,
    json_file: Annotated[Path | None, _output("--json", "Write the story as JSON.")] = None,
    mermaid: Annotated[Path | None, _output("--mermaid", "Write Markdown with diagrams.")] = None,
    html: Annotated[Path | None, _output("--html", "Write a page with the timeline.")] = None,
    svg: Annotated[Path | None, _output("--svg", "Write histograms of the recovery.")] = None,
    csv: Annotated[Path | None, _output("--csv", "Write the figures of each incident.")] = None,
    jsonl: Annotated[
        Path | None, _output("--jsonl", "The same as lines of JSON, for Parquet tools.")
    ] = None,
    check: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Check that the operations are linearizable: a model such as register, or module:class.",
        ),
    ] = None,
    of: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN", help="With --check, the topics and the paths of servers to check."
        ),
    ] = None,
    seed: Annotated[
        Path | None,
        _output("--seed", "Simulate the scenario with these faults, and write a run file."),
    ] = None,
    imports: Annotated[
        bool,
        typer.Option(
            "--import", help="With --seed, import the module that the file names, without asking."
        ),
    ] = False,
) -> None:
    """Run `ashtree story`. The exit code is 0 for success, 1 if a check fails or no seed exists, 2 for wrong input."""
    check_folders(json_file, mermaid, html, svg, csv, jsonl, seed)
    if check is not None and len(files) > 1:
        raise typer.BadParameter(
            "--check needs one recording: two operations of different processes may have no order that the messages "
            "between them show, so a verdict about several files could be wrong"
        )
    found, told = _read(files)
    title = files[0].name if len(files) == 1 else f"{files[0].name} and {len(files) - 1} more"
    verdict = None if check is None else _checked(found, check, of or [])
    if json_file is not None:
        json_file.write_bytes(told.to_json())
    if mermaid is not None:
        mermaid.write_text(write_mermaid(told))
    if html is not None:
        problems = [str(verdict)] if verdict is not None and not verdict.ok else []
        write_page(found, html, title=title, problems=problems)
    if svg is not None:
        svg.write_text(draw_figures(figures_of(told), title=title))
    if csv is not None:
        csv.write_text(figures_of(told).to_csv())
    if jsonl is not None:
        jsonl.write_bytes(figures_of(told).to_json_lines())
    _say(write_text(told, lines=lines))
    if figures:
        _say("")
        _say(figures_of(told).table())
    if seed is not None:
        _write_seed(told, found, seed, source=None if imports else files[0])
    if verdict is not None:
        _say(f"\n{verdict}")
        if not verdict.ok:
            raise SystemExit(1)


def _read(files: Sequence[Path]) -> tuple[list[bytes], StoryModel]:
    read = {str(file): _read_one(file) for file in files}
    if len(files) == 1:
        found, damaged = read[str(files[0])]
        return found, tell_story(found, damaged=damaged)
    if len(read) < len(files):
        raise typer.BadParameter("one file is there twice; name each file once")
    try:
        # A killed process leaves a damaged file behind, and `merge` knows its end from the other files.
        found = merge({name: lines for name, (lines, _) in read.items()})
    except UnrelatedRecordings as error:
        raise typer.BadParameter(str(error)) from None
    return found, tell_story(found)


def _read_one(file: Path) -> tuple[list[bytes], bool]:
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", DamagedTrace)
            found = read_recording(file)
    except InvalidTraceFile as error:
        raise typer.BadParameter(str(error)) from None
    except OSError as error:
        raise typer.BadParameter(
            f"{file}: {error.strerror or error}; name a recording, such as a file of `ashtree serve --record`"
        ) from None
    for warning in caught:
        sys.stderr.write(f"Warning: {printable(str(warning.message))}\n")
    return found


def _checked(found: list[bytes], name: str, targets: list[str]) -> Verdict:
    """Check the operations of a recording with the model `name`, which is one of Ashtree's or `module:class`."""
    module: Any = models
    model = next((each for each in models.__all__ if each.lower() == name.lower()), None)
    if ":" in name:
        module, model = load_module(name, "MODEL", "channels.testing:DurableTopic")
    made = getattr(module, model or "", None)
    if not (isinstance(made, type) and issubclass(made, models.Model)):
        raise typer.BadParameter(
            f"{name} is not a model; write {', '.join(models.__all__)}, or module:class"
        )
    try:
        return check_linearizable(operations_in(found, *targets), made())
    except (IncompleteRecording, InvalidArgument, TypeError) as error:
        # A TypeError comes from values that the model cannot keep or compare. Its notes name them.
        notes = getattr(error, "__notes__", ())
        raise typer.BadParameter(". ".join((str(error), *notes))) from None


def _write_seed(told: StoryModel, found: list[bytes], path: Path, *, source: Path | None) -> None:
    """Simulate the scenario of a recording. With `source`, first ask whether to import what this file names."""
    try:
        plan = plan_of(told, began=_plan_began(found))
        if source is not None:
            confirm_import(plan.scenario, source)
        outcome = simulate(
            find_scenario(plan.scenario), plan.seed, params=plan.params, faults=plan.faults
        )
        save_run(outcome, path)
    except SimulationError as error:
        sys.stderr.write(f"No seed: {printable(str(error), lines=True)}\n")
        raise SystemExit(1) from None
    _say("")
    _report_seed(plan, told, tell_story(outcome.trace), path)


def _plan_began(found: list[bytes]) -> float:
    """Return the time at which an experiment began to apply its faults; 0 for any other recording."""
    for line in found:
        if b'"kind":"phase"' in line:
            event = msgspec.json.decode(line)
            if event["phase"] == "during":
                return float(event["t"])
    return 0.0


def _report_seed(plan: SeedPlan, told: StoryModel, again: StoryModel, path: Path) -> None:
    _say(f"{plan.scenario} with seed {plan.seed} and {len(plan.faults)} faults is in {path}")
    for each in plan.left_out:
        _say(f"  not in the plan: {each}")
    then, now = _ended(told), _ended(again)
    missing = sorted(then - now)
    if missing:
        _say(
            f"  these processes ended in the recording, and not in the simulation: {', '.join(missing)}"
        )
    if now - then:
        _say(
            f"  these ended in the simulation, and not in the recording: {', '.join(sorted(now - then))}"
        )
    _say(f"Repeat it with: ashtree replay {path}")


def _ended(told: StoryModel) -> set[str]:
    return {death.process.path for incident in told.incidents for death in incident.deaths}


def _say(text: str) -> None:
    sys.stdout.write(f"{printable(text, lines=True)}\n")

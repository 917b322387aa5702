"""The command `ashtree story`."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import msgspec
import typer

from actors.text import printable
from supervision.applications.command_line.arguments import check_folders, confirm_import
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
    """Run `ashtree story`. The exit code is 0 for success, 1 if there is no seed, 2 if the file cannot be read."""
    check_folders(json_file, mermaid, html, svg, csv, jsonl, seed)
    found, told = _read(files)
    title = files[0].name if len(files) == 1 else f"{files[0].name} and {len(files) - 1} more"
    if json_file is not None:
        json_file.write_bytes(told.to_json())
    if mermaid is not None:
        mermaid.write_text(write_mermaid(told))
    if html is not None:
        write_page(found, html, title=title)
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

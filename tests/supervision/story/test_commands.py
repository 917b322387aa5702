"""The command `ashtree story`: its outputs, its errors, and seeds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
import typer
from typer.testing import CliRunner

from actors import GenServer, cast, current_runtime
from actors.instrumentation.logger import printable
from supervision import Supervisor, child_spec
from supervision.recording.flight import FlightRecorder
from supervision.recording.trace import write_lines
from supervision.simulation import World, simulate
from supervision.simulation.replaying.run_file import load_run, replay
from supervision.story.commands import add_story_command
from supervision.story.incidents import tell_story
from supervision.story.seeds import NoSeed, plan_of
from tests.supervision.story.staged import play


class Fragile(GenServer[None]):
    async def handle_cast(self, message: Any) -> None:
        if message == "break":
            raise RuntimeError("broken")


async def workload(world: World) -> None:
    """A scenario that this test records and simulates."""
    await Supervisor.start_link(
        [child_spec(Fragile, id="fragile", kwargs={"name": "fragile"})], label="top"
    )
    for _ in range(10):
        cast("fragile", "hello")
        await trio.sleep(0.5)


def record(about: dict[str, Any]) -> list[bytes]:
    """Record the scenario, with a crash that comes from outside of it."""
    found: list[bytes] = []

    async def scenario(world: World) -> None:
        recorder = FlightRecorder(current_runtime(), about=about)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(workload, world)
            await trio.sleep(1.2)
            cast("fragile", "break")
        found.extend(recorder.lines())
        recorder.close()

    simulate(scenario, 1).check()
    return found


def run(*arguments: str) -> Any:
    app = typer.Typer()
    add_story_command(app)
    return CliRunner().invoke(app, list(arguments))


def saved(path: Path, lines: list[bytes]) -> str:
    write_lines(path, lines)
    return str(path)


def test_every_output_is_written(tmp_path: Path) -> None:
    file = saved(tmp_path / "run.jsonl", play("channel_crash"))
    names = ("json", "mermaid", "html", "svg", "csv", "jsonl")
    options = [part for name in names for part in (f"--{name}", str(tmp_path / f"out.{name}"))]
    result = run(file, "--figures", *options)
    assert result.exit_code == 0, result.output
    assert "ann was joined to room:lobby again, 1 s after the fault" in result.output
    assert "fault to joined again" in result.output
    assert all((tmp_path / f"out.{name}").stat().st_size > 100 for name in names)


def test_a_story_has_no_control_characters_of_clients(tmp_path: Path) -> None:
    hostile = "\x1b[2J\x9b31m\u202e"
    text = json.dumps(hostile)[1:-1].encode()
    lines = [
        line.replace(b'"ann"', b'"ann%b"' % text)
        .replace(b"room:lobby", b"room:lobby%b" % text)
        .replace(b"the room is broken", b"broken%b" % text)
        for line in play("channel_crash")
    ]
    result = run(saved(tmp_path / "run.jsonl", lines), "--figures")
    assert result.exit_code == 0, result.output
    assert r"ann\x1b[2J\x9b31m\u202e" in result.stdout
    assert r"broken\x1b[2J" in result.stdout
    assert printable(result.stdout, lines=True) == result.stdout


def test_a_damaged_file_gives_one_warning(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    saved(path, play("handler_raises"))
    path.write_bytes(path.read_bytes()[:-20])
    result = run(str(path))
    assert result.exit_code == 0
    assert result.stderr.count("Warning:") == 1
    assert "The file is cut off" in result.stdout


@pytest.mark.parametrize("content", [None, b"not a trace\n"])
def test_a_file_that_cannot_be_read_gives_exit_code_2(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "x"
    if content is not None:
        path.write_bytes(content)
    assert run(str(path)).exit_code == 2


def test_a_recording_of_a_program_has_no_seed_and_the_command_says_why(tmp_path: Path) -> None:
    file = saved(tmp_path / "run.jsonl", play("handler_raises"))
    result = run(file, "--seed", str(tmp_path / "seed.json"))
    assert result.exit_code == 1
    assert "not the code that sent them" in result.stderr
    assert not (tmp_path / "seed.json").exists()


def test_a_recording_of_a_scenario_becomes_a_run_with_the_fault_at_its_place(
    tmp_path: Path,
) -> None:
    about = {"scenario": f"{__name__}:workload", "seed": 7, "params": {}}
    file = saved(tmp_path / "run.jsonl", record(about))
    seed = tmp_path / "seed.json"
    result = run(file, "--seed", str(seed))
    assert result.exit_code == 0, result.output
    saved_run = load_run(seed)
    (fault,) = saved_run.faults or ()
    assert msgspec.to_builtins(fault) == {
        "type": "crash",
        "target": "/top/fragile",
        "when": {"type": "at", "seconds": 1.2},
    }
    assert saved_run.seed == 7
    again = tell_story(replay(seed, scenario=workload).trace)
    assert [death.process.path for incident in again.incidents for death in incident.deaths] == [
        "/top/fragile"
    ]
    assert "and not in the" not in result.output


def test_faults_that_a_plan_cannot_have_are_named() -> None:
    story = tell_story(play("mailbox_full"))
    assert story.recording is not None
    known = msgspec.structs.replace(
        story, recording={**story.recording, "scenario": "shop:day", "seed": 1}
    )
    with pytest.raises(NoSeed, match="this is mailbox"):
        plan_of(known)

"""The command `ashtree story`: its outputs, its errors, and seeds."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
import typer
from typer.testing import CliRunner

from actors import GenServer, cast, current_runtime
from actors.text import printable
from supervision import Supervisor, child_spec
from supervision.laboratory.simulation.replaying.run_file import load_run, replay
from supervision.laboratory.story.commands import add_story_command
from supervision.laboratory.story.seeds import plan_of
from supervision.recording.flight import FlightRecorder
from supervision.recording.reader.story import tell_story
from supervision.recording.trace import write_lines
from supervision.simulation import SimulationError, World
from tests.laws.scenarios import simulate
from tests.supervision.laboratory.story.staged import play
from tests.supervision.recording.reader.test_merging import note, recording, spawned, young


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


def with_change(lines: list[bytes], number: int, name: str, value: object) -> list[bytes]:
    """Return the lines, with another value in one field of one event."""
    event = {**msgspec.json.decode(lines[number]), name: value}
    return [*lines[:number], msgspec.json.encode(event), *lines[number + 1 :]]


def index_of(lines: list[bytes], kind: str) -> int:
    return next(index for index, line in enumerate(lines) if b'"kind":"%b"' % kind.encode() in line)


@pytest.mark.parametrize("back", [0, -3])
@pytest.mark.parametrize("kind", ["exited", "signal", "crash", "sent", "spawned"])
def test_an_event_that_an_event_after_it_caused_ends_the_story(
    tmp_path: Path, kind: str, back: int
) -> None:
    lines = play("channel_crash")
    number = index_of(lines, kind)
    changed = with_change(lines, number, "cause", msgspec.json.decode(lines[number])["n"] - back)
    file = saved(tmp_path / "run.jsonl", changed)
    result = run(file, "--html", str(tmp_path / "page.html"), "--figures")
    assert result.exit_code == 0, result.output
    assert f"damaged in line {number + 2}: its cause" in result.stderr


def test_a_process_that_is_its_own_ancestor_ends_the_story(tmp_path: Path) -> None:
    lines = play("channel_crash")
    number = index_of(lines, "spawned")
    pid = msgspec.json.decode(lines[number])["pid"]
    result = run(saved(tmp_path / "run.jsonl", with_change(lines, number, "parent", pid)))
    assert result.exit_code == 0
    assert "its parent" in result.stderr


@pytest.mark.parametrize("place", ["header", "event"])
def test_json_that_is_nested_too_deeply_is_one_sentence(tmp_path: Path, place: str) -> None:
    deep = b'{"n":0,"t":0,"kind":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n"
    path = tmp_path / "run.jsonl"
    saved(path, play("handler_raises"))
    path.write_bytes(deep + path.read_bytes() if place == "header" else path.read_bytes() + deep)
    result = run(str(path))
    assert result.exit_code == (2 if place == "header" else 0)
    assert isinstance(result.exception, SystemExit | None)


DEEP = os.environ.get("HYPOTHESIS_PROFILE") == "deep"
WRONG: tuple[object, ...] = (None, True, -1, 2**70, 1.5, 1e300, "x", [], [None], {}, {"x": [1]})


def test_a_wrong_value_in_a_file_never_raises(tmp_path: Path) -> None:
    dice = random.Random(1)
    found = {name: play(name) for name in ("channel_crash", "rest_for_one", "call_timeout")}
    for _ in range(3000 if DEEP else 60):
        lines = dice.choice(list(found.values()))
        number = dice.randrange(len(lines))
        name = dice.choice(list(msgspec.json.decode(lines[number])))
        file = saved(tmp_path / "run.jsonl", with_change(lines, number, name, dice.choice(WRONG)))
        outputs = [
            f"--{each}={tmp_path / each}" for each in ("json", "html", "mermaid", "svg", "csv")
        ]
        result = run(file, "--figures", *outputs)
        assert result.exit_code == 0, result.output


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
    refused = run(file, "--seed", str(seed))
    assert refused.exit_code == 2
    assert "--import" in refused.stderr
    assert not seed.exists()
    result = run(file, "--import", "--seed", str(seed))
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
    with pytest.raises(SimulationError, match="this is mailbox"):
        plan_of(known)


def recordings(folder: Path) -> list[str]:
    """Write the recordings of two nodes, of which one was killed."""
    killed = recording(note("sent", 1.0, leaves="m"), spawned(1.5))
    lost = {"kind": "node_lost", "name": "a", "incarnation": "1", "why": "silent", "t": 4.0}
    witness = recording(note("received", 2.0, arrives="m"), lost, name="b")
    paths = [folder / "run.1.jsonl", folder / "run.2.jsonl"]
    for path, lines in zip(paths, (killed, witness), strict=True):
        write_lines(path, lines)
    return list(map(str, paths))


def test_the_recordings_of_several_processes_become_one_story(tmp_path: Path) -> None:
    done = run(*recordings(tmp_path), "--html", str(tmp_path / "page.html"))
    assert done.exit_code == 0
    assert "Merged from 2 files by the messages between them: a, b" in done.output
    assert "1. the node a was killed" in done.output
    assert "run.1.jsonl and 1 more" in (tmp_path / "page.html").read_text()


def test_the_story_names_the_file_of_a_node_that_was_killed_before_it_had_a_name(
    tmp_path: Path,
) -> None:
    file = tmp_path / "run.3.jsonl"
    write_lines(file, young())
    done = run(*recordings(tmp_path), str(file))
    assert done.exit_code == 0
    assert "Merged from 2 files" in done.output
    assert f"Left out: {file}, because the node was killed" in done.output


def test_files_that_do_not_belong_together_give_exit_code_2_and_a_sentence(tmp_path: Path) -> None:
    first, _ = recordings(tmp_path)
    write_lines(tmp_path / "other.jsonl", recording(name="c"))
    done = run(first, str(tmp_path / "other.jsonl"))
    assert done.exit_code == 2
    assert "do not belong together" in done.output


def test_the_operations_of_several_files_are_not_checked(tmp_path: Path) -> None:
    done = run(*recordings(tmp_path), "--check", "register")
    assert done.exit_code == 2
    assert "--check needs one recording" in done.output


def test_a_file_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    first, _ = recordings(tmp_path)
    done = run(first, first)
    assert done.exit_code == 2
    assert "one file is there twice" in done.output

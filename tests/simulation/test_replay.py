"""Replay: the same run, the debugger in it, and reports of a run that has changed."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import trio

from actors import GenServer, cast
from supervision.laboratory.simulation.errors import RunFileError
from supervision.laboratory.simulation.knobs import Knobs
from supervision.laboratory.simulation.replaying.command import replay_file
from supervision.laboratory.simulation.replaying.run_file import load_run, replay, save_run
from supervision.laboratory.simulation.world.world import World
from tests.laws.scenarios import simulate
from tests.simulation.scenarios import crashing_tree

SMALL = {"groups": 2, "workers": 4, "rounds": 5}


class Adder(GenServer[int]):
    """A server that adds numbers."""

    async def init(self) -> None:
        self.state = 0

    async def handle_cast(self, message: Any) -> None:
        self.state += message


async def adds(world: World) -> None:
    """A sum that is too large."""
    adder = await Adder.start()
    for number in (1, 20, 300):
        cast(adder, number)
        await trio.sleep(1)
    world.check(world.params.get("fine"), "the sum is too great")


async def waits_for_nobody(world: World) -> None:
    """A deadlock."""
    cast(await Adder.start(), 1)
    await trio.sleep_forever()


async def does_not_wait(world: World) -> None:
    """An invariant that breaks."""
    world.invariant("short", lambda: None if world.seconds < 1 else "it takes too long")
    await trio.sleep(5)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "run.json"


def typing_in(monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in lines)))


def event(trace: list[bytes], **wanted: Any) -> int:
    events: list[dict[str, Any]] = [json.loads(line) for line in trace]
    found = (e for e in events if wanted.items() <= e.items())
    return int(next(found)["n"])


def test_the_debugger_opens_where_the_program_is_about_to_do_an_event(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = simulate(adds, 1)
    save_run(outcome, file)
    number = event(outcome.trace, kind="sent", via="cast", message="20")
    typing_in(monkeypatch, "p number", "continue")
    assert replay(file, at=number).digest == outcome.digest
    out = capsys.readouterr().out
    assert f"event {number} is about to happen" in out
    assert "test_replay.py" in out
    assert "cast(adder, number)" in out
    assert "(Pdb) 20" in out


def test_the_debugger_continues_from_the_event(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = simulate(adds, 1)
    save_run(outcome, file)
    number = event(outcome.trace, kind="sent", via="cast", message="300")
    typing_in(monkeypatch, "next", "p number + 1", "continue")
    assert replay(file, at=number).digest == outcome.digest
    out = capsys.readouterr().out
    assert "-> await trio.sleep(1)" in out
    assert "(Pdb) 301" in out


def test_a_replay_from_the_command_line_stops_at_an_event_and_can_quit(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save_run(simulate(adds, 1), file)
    typing_in(monkeypatch, "quit")
    assert not replay_file(load_run(file), at=0)
    assert "the same run, to the byte" in capsys.readouterr().out


@pytest.mark.parametrize("scenario", [waits_for_nobody, does_not_wait])
def test_a_failure_without_a_line_of_the_program_is_debugged_at_the_last_event(
    scenario: Any, file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = simulate(scenario, 1)
    assert outcome.failed_at is not None
    save_run(outcome, file)
    typing_in(monkeypatch, "continue")
    assert not replay_file(load_run(file), debug=True)
    out = capsys.readouterr().out
    assert f"event {outcome.failed_at[0] - 1} is about to happen" in out


def test_a_run_that_no_longer_fails_is_reported(file: Path) -> None:
    save_run(simulate(adds, 1, params={"fine": 0}), file)
    file.write_text(file.read_text().replace('"fine": 0', '"fine": 1'))
    with pytest.raises(
        RunFileError,
        match=r"it failed with invariant check in line 7 of adds when it was saved, and passed now",
    ):
        replay(file)


def test_a_changed_scenario_file_is_distinguished_from_an_unchanged_one(file: Path) -> None:
    save_run(simulate(crashing_tree, 1, params=SMALL), file)
    run = load_run(file)
    assert run.source is not None
    other = file.read_text().replace('"seed": 1', '"seed": 2')
    file.write_text(other)
    with pytest.raises(RunFileError, match="so is the file of the scenario"):
        replay(file)
    file.write_text(other.replace(run.source, "0" * 64))
    with pytest.raises(RunFileError, match=r"the file of the scenario, tests.*, has changed"):
        replay(file)


def test_a_run_file_of_another_version_names_the_version_that_wrote_it(file: Path) -> None:
    file.write_text('{"format": "ashtree-run/9", "versions": {"ashtree": "7.1"}}')
    with pytest.raises(RunFileError, match=r"'ashtree-run/9', written by Ashtree 7\.1"):
        replay(file)


def test_a_run_file_without_newer_fields_is_read_and_repeated(file: Path) -> None:
    outcome = simulate(crashing_tree, 3, params=SMALL)
    canonical = simulate(
        crashing_tree,
        3,
        params=SMALL,
        knobs=Knobs(policy="canonical"),
        deviations=outcome.deviations,
    )
    save_run(canonical, file)
    run = json.loads(file.read_text())
    assert len(run["deviations"]) > 3
    del run["named"], run["source"]
    file.write_text(json.dumps(run))
    assert replay(file).steps_digest == outcome.steps_digest


def test_the_error_for_a_missing_scenario_gives_advice(file: Path) -> None:
    save_run(simulate(adds, 1), file)
    file.write_text(file.read_text().replace(":adds", ":subtracts"))
    with pytest.raises(RunFileError, match=r"cannot be imported.*subtracts.*PYTHONPATH"):
        replay(file)

"""A small key-value channel in a world: its history is checked, and ten planted bugs are found with a picture."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import trio
import typer
from typer.testing import CliRunner

from actors import Reply as Answer
from actors import Sender, call, current_pid, open_runtime, send_after
from channels import Channel, PushReply, handle_in
from examples.scenarios.cells import CellChannel, Cells, busy_clients, check_cells
from supervision.histories import (
    NotExplained,
    OperationHistory,
    Register,
    check_linearizable,
    lanes,
    read_operations,
)
from supervision.laboratory.simulation.replaying.story import tell
from supervision.laboratory.story.commands import add_story_command
from supervision.recording.trace import read_lines, write_lines
from supervision.simulation import World, scenario, simulate

# Stale


class CachedReads(CellChannel):
    """The channel remembers a value that it read for a second."""

    until = -1.0

    @handle_in("read")
    async def read(self, payload: Any) -> PushReply:
        if trio.current_time() > self.until:
            self.known = await call("cells", ("read", self.topic))
            self.until = trio.current_time() + 1
        return PushReply({"value": self.known})


class ReadsFromReplica(Cells):
    """A replica answers the reads. It gets each write a moment later."""

    async def init(self) -> None:
        self.state, self.replica = {}, dict[str, Any]()

    async def handle_call(self, request: Any, sender: Sender) -> Answer:
        if request[0] == "read":
            return Answer(self.replica.get(request[1]))
        answer = await super().handle_call(request, sender)
        send_after(current_pid(), dict(self.state), 0.1)
        return answer

    async def handle_info(self, message: Any) -> None:
        self.replica = message


class OldSnapshotsAfterRestart(Cells):
    """A restarted server begins with the values of an earlier checkpoint."""

    checkpoint: dict[str, Any]

    async def init(self) -> None:
        self.state = {"cell:a": 4, "cell:b": 4}


# Lost


class CheckThenAct(CellChannel):
    """The channel compares and sets in two steps."""

    @handle_in("compare_and_set")
    async def compare_and_set(self, payload: Any) -> PushReply:
        matches = await call("cells", ("read", self.topic)) == payload["old"]
        if matches:
            await trio.sleep(0.2)
            await call("cells", ("write", self.topic, payload["new"]))
        return PushReply({"done": matches})


class AnswersBeforeWriting(Cells):
    """The server acknowledges a write, and loses it if another one comes within 50 ms."""

    async def handle_call(self, request: Any, sender: Sender) -> Answer:
        if request[0] != "write":
            return await super().handle_call(request, sender)
        self.waiting = request
        send_after(current_pid(), request, 0.05)
        return Answer(None)

    async def handle_info(self, message: Any) -> None:
        if message is self.waiting:
            self.state[message[1]] = message[2]


class IgnoresFalse(Cells):
    """The server takes the value 0 for a missing one, and keeps the value before it."""

    async def handle_call(self, request: Any, sender: Sender) -> Answer:
        if request[0] == "write" and not request[2]:
            return Answer(None)
        return await super().handle_call(request, sender)


class SetsNothing(Cells):
    """The server answers that it has set a value, although only every third time it has."""

    count = 0

    async def handle_call(self, request: Any, sender: Sender) -> Answer:
        if request[0] == "compare_and_set" and self.state.get(request[1]) == request[2]:
            self.count += 1
            if self.count % 3:
                return Answer(True)
        return await super().handle_call(request, sender)


# Doubled


class WritesAgain(Cells):
    """The server repeats each write after a moment, as a retry without a key does."""

    async def handle_call(self, request: Any, sender: Sender) -> Answer:
        if request[0] == "write":
            send_after(current_pid(), request, 0.3)
        return await super().handle_call(request, sender)

    async def handle_info(self, message: Any) -> None:
        self.state[message[1]] = message[2]


class WritesBoth(Cells):
    """A write to one cell reaches the other one too."""

    async def handle_call(self, request: Any, sender: Sender) -> Answer:
        if request[0] == "write":
            self.state = {"cell:a": request[2], "cell:b": request[2]}
            return Answer(None)
        return await super().handle_call(request, sender)


class SetsTwice(CellChannel):
    """The channel repeats a compare-and-set that did not match, with the value that it found."""

    @handle_in("compare_and_set")
    async def compare_and_set(self, payload: Any) -> PushReply:
        request = ("compare_and_set", self.topic, payload["old"], payload["new"])
        done = await call("cells", request)
        if not done:
            found = await call("cells", ("read", self.topic))
            await call("cells", ("compare_and_set", self.topic, found, payload["new"]))
        return PushReply({"done": done})


PLANTED: list[type[Channel | Cells]] = [
    CachedReads,
    ReadsFromReplica,
    OldSnapshotsAfterRestart,
    CheckThenAct,
    AnswersBeforeWriting,
    IgnoresFalse,
    SetsNothing,
    WritesAgain,
    WritesBoth,
    SetsTwice,
]


@pytest.mark.parametrize("seed", range(1, 11))
def test_clients_of_a_correct_channel_leave_a_linearizable_history(seed: int) -> None:
    simulate(busy_clients, seed).check()


@pytest.mark.parametrize("planted", PLANTED, ids=lambda planted: planted.__name__)
def test_a_planted_bug_of_a_channel_is_found_and_shown_as_lanes(
    planted: type[Channel | Cells],
) -> None:
    @scenario(params={"clients": 4, "pushes": 8, "seconds": 3})
    async def wrong(world: World) -> None:
        if issubclass(planted, Channel):
            await check_cells(world, channel=planted)
        else:
            await check_cells(world, cells=planted)

    for seed in range(1, 21):
        outcome = simulate(wrong, seed)
        if outcome.error is not None:
            break
    assert isinstance(outcome.error, NotExplained)
    verdict = outcome.error.verdict
    assert verdict.ok is False
    story = tell(outcome)
    print(seed, story)
    for line in lanes(verdict.window).splitlines():
        assert line in story


def test_the_trace_of_a_run_gives_the_same_verdict_as_the_history_in_it(tmp_path: Path) -> None:
    @scenario(params={"clients": 4, "pushes": 8, "seconds": 3})
    async def wrong(world: World) -> None:
        await check_cells(world, cells=WritesBoth)

    for of_run, passes in ((busy_clients, True), (wrong, False)):
        outcome = simulate(of_run, 1)
        assert outcome.passed is passes
        path = tmp_path / "run.jsonl"
        write_lines(path, outcome.trace)
        history = read_operations(path, "cell:*")
        assert len(history) > 20
        verdict = check_linearizable(history, Register())
        assert verdict.ok is passes
        of_calls = check_linearizable(
            read_operations(path, "*/cells", describe=as_calls), Register()
        )
        assert of_calls.ok is passes


def as_calls(server: str, request: Any) -> tuple[str, tuple[Any, ...], str]:
    name, topic, *values = request
    return name, tuple(values), topic


def test_the_command_story_checks_the_history_of_a_recording(tmp_path: Path) -> None:
    @scenario(params={"clients": 4, "pushes": 8, "seconds": 3})
    async def wrong(world: World) -> None:
        await check_cells(world, cells=WritesBoth)

    app = typer.Typer()
    add_story_command(app)
    path, page = tmp_path / "run.jsonl", tmp_path / "run.html"

    def check(model: str, *more: str) -> Any:
        return CliRunner().invoke(app, [str(path), "--check", model, *more])

    write_lines(path, simulate(busy_clients, 1).trace)
    result = check("register", "--of", "cell:*")
    assert result.exit_code == 0, result.output
    assert "operations are linearizable" in result.output
    write_lines(path, simulate(wrong, 1).trace)
    result = check("register", "--of", "cell:*", "--html", str(page))
    assert result.exit_code == 1
    assert "not linearizable: no " in result.output
    assert re.search(r"client \d +\|-", result.output)
    assert "not linearizable: no " in page.read_text()
    lists = [re.sub(rb"'value': (\d)", rb"'value': [\1]", line) for line in read_lines(path)]
    write_lines(path, lists)
    for model, more, problem in [
        ("Jump", (), "Jump is not a model; write Counter"),
        ("channels.testing:DurableTopic", ("--of", "cell:*"), "has no operation"),
        ("register", ("--of", "room:*"), "no operation of room:*"),
        ("register", ("--of", "cell:*"), "A state must be hashable"),
    ]:
        result = check(model, *more)
        assert result.exit_code == 2
        assert problem in " ".join(result.output.replace("│", " ").split())


async def test_an_exception_of_describe_leaves_the_block_and_not_the_call(
    autojump_clock: trio.testing.MockClock,
) -> None:
    def wrong(server: str, request: Any) -> Any:
        raise KeyError("key")

    answers = []
    async with open_runtime(log=False):
        await Cells.start_link(name="cells")
        with (
            pytest.raises(KeyError, match="key") as caught,
            OperationHistory().recording(describe=wrong),
        ):
            answers.append(await call("cells", ("write", "a", 1)))
    assert answers == [None]
    assert caught.value.__notes__ == ["describe got 'cells' and ('write', 'a', 1)"]

"""The state of a recorder besides the lines that it writes."""

import pytest
import trio
from msgspec.json import decode

from actors import Runtime, send, spawn
from supervision.recording import recorder as module
from supervision.recording.recorder import Recorder
from supervision.recording.trace import Trace
from tests.supervision.workers import settle


async def nothing() -> None:
    await trio.lowlevel.checkpoint()


async def test_the_number_of_remembered_ends_is_bounded(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 3)
    recorder = Recorder(runtime, Trace(lambda: (0.0, 0, 0)), 0, messages=True)
    pids = []
    for _ in range(5):
        pids.append(spawn(nothing))
        await settle()
    assert list(recorder.ended) == pids[2:]


async def test_the_kind_of_a_message_is_shortened(runtime: Runtime) -> None:
    trace = Trace(lambda: (0.0, 0, 0))
    Recorder(runtime, trace, 0, messages=True)
    send(spawn(trio.sleep_forever), "x" * 100)
    assert [
        event["message_kind"] for event in map(decode, trace.lines) if event["kind"] == "sent"
    ] == ["x" * 40]

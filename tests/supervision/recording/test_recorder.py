"""The state of a recorder besides the lines that it writes."""

import gc
from sys import getrefcount
from typing import Any

import pytest
import trio
from msgspec.json import decode

from actors import GenServer, NoProcess, Reply, Runtime, call, receive, send, set_label, spawn
from supervision import Supervisor
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


@pytest.mark.parametrize("inner", [1, [1]])
async def test_a_message_is_described_as_it_was_when_it_was_sent(
    runtime: Runtime, inner: object
) -> None:
    trace = Trace(lambda: (0.0, 0, 0))
    Recorder(runtime, trace, 0, messages=True)
    message = {"n": inner}
    send(spawn(trio.sleep_forever), message)
    message["n"] = 2
    assert [event["message"] for event in recorded(trace, "sent")] == [f"{{'n': {inner}}}"]


@pytest.mark.parametrize("shape", ["plain", "tuple", "dict"])
async def test_a_trace_keeps_no_long_data_of_a_message(runtime: Runtime, shape: str) -> None:
    trace = Trace(lambda: (0.0, 0, 0))
    Recorder(runtime, trace, 0, messages=True)
    data = bytes(10_000)
    held = getrefcount(data)
    messages: dict[str, Any] = {"plain": data, "tuple": ("data", data), "dict": {"data": data}}

    async def take() -> None:
        await receive()

    send(spawn(take), messages[shape])
    messages.clear()
    await settle()
    gc.collect()
    assert getrefcount(data) == held
    assert len(recorded(trace, "sent")) == 1


class Echo(GenServer[None]):
    """A server that returns each request as its answer."""

    async def handle_call(self, request: Any, sender: Any) -> Reply:
        return Reply(request)


def recorded(trace: Trace, kind: str) -> list[dict[str, Any]]:
    return [event for event in map(decode, trace.lines) if event["kind"] == kind]


async def test_the_end_of_a_call_has_its_request_and_its_answer(runtime: Runtime) -> None:
    trace = Trace(lambda: (0.0, 0, 0))
    Recorder(runtime, trace, 0, messages=True)
    echo = await Echo.start()
    await call(echo, {"password": "x", "name": "ann"})
    (sent,), (ended,) = recorded(trace, "sent"), recorded(trace, "call_ended")
    assert ended["sent"] == sent["n"]
    assert (ended["how"], ended["answer"]) == (
        "answered",
        "{'password': [FILTERED], 'name': 'ann'}",
    )


async def test_a_call_without_a_process_is_recorded(runtime: Runtime) -> None:
    trace = Trace(lambda: (0.0, 0, 0))
    Recorder(runtime, trace, 0, messages=True)
    gone = spawn(nothing)
    await settle()
    with pytest.raises(NoProcess):
        await call(gone, "anybody?")
    (refused,) = recorded(trace, "call_refused")
    assert (refused["to_pid"], refused["message"]) == (gone.number, "'anybody?'")


async def test_a_dead_letter_has_its_sender(runtime: Runtime) -> None:
    trace = Trace(lambda: (0.0, 0, 0))
    Recorder(runtime, trace, 0, messages=True)
    gone = spawn(nothing)
    await settle()

    async def writes() -> None:
        send(gone, "hello")
        await trio.lowlevel.checkpoint()

    sender = spawn(writes)
    await settle()
    assert [each["pid"] for each in recorded(trace, "dead_letter")] == [sender.number]


async def test_a_message_of_ashtree_itself_is_marked(runtime: Runtime) -> None:
    trace = Trace(lambda: (0.0, 0, 0))
    top = await Supervisor.start([])
    Recorder(runtime, trace, 0, messages=True)
    await Supervisor.count_children(top)
    send(spawn(trio.sleep_forever), "hello")
    assert [each.get("internal", False) for each in recorded(trace, "sent")] == [True, False]


async def test_a_new_label_is_recorded(runtime: Runtime) -> None:
    trace = Trace(lambda: (0.0, 0, 0))
    Recorder(runtime, trace, 0, messages=True)

    async def labels() -> None:
        set_label("order 17")
        await trio.lowlevel.checkpoint()

    pid = spawn(labels)
    await settle()
    assert [(each["pid"], each["label"]) for each in recorded(trace, "labelled")] == [
        (pid.number, "order 17")
    ]

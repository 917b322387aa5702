"""A recording of a server has the events of its clients: connections, joins, frames, final frames and closes."""

from __future__ import annotations

import gc
import json
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any
from weakref import ref

import msgspec
import pytest
import trio

from actors import Pid, Runtime, current_runtime, kill, wait_exit
from actors.masking import FILTERED
from actors.runtime import open_runtime
from channels import Channel, Endpoint, PushReply, Socket, handle_in
from channels.recording import record_channels
from channels.recording.clients import RecordedSession, trace_clients
from channels.telemetry import SESSION_STARTED
from channels.testing import JoinsAnswered, open_channel_test
from supervision.laboratory.chaos.invariants.base import Watch
from supervision.recording.flight import FlightRecorder
from supervision.recording.recorder import Recorder
from supervision.recording.trace import Trace
from supervision.story import tell_story
from tests.channels.conftest import Serve
from tests.laws.memberships import MembershipsEnd
from tests.supervision.recording.test_schema import check


class Room(Channel):
    async def join(self, topic: str, payload: Any) -> None:
        if topic == "room:broken":
            raise RuntimeError("no")

    @handle_in("echo")
    async def echo(self, payload: Any) -> PushReply:
        return PushReply(payload)

    @handle_in("boom")
    async def boom(self, payload: Any) -> None:
        raise RuntimeError("boom")


class User(Socket):
    channels = {"room:*": Room}

    def id(self) -> str | None:
        return self.assigns.get("name")

    async def connect(self, params: Any, info: Any) -> None:
        self.assigns["name"] = params.get("name")


@pytest.fixture
def endpoint() -> Endpoint:
    return Endpoint(sockets={"/socket": User}, filter_parameters=["nick"])


def events(recorder: FlightRecorder, kind: str) -> list[dict[str, Any]]:
    decoded = [msgspec.json.decode(line) for line in recorder.lines()]
    for event in decoded:
        check(event)
    return [event for event in decoded if event["kind"] == kind]


async def test_what_a_client_does_and_sees_is_recorded(
    endpoint: Endpoint, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_runtime(log=False), open_channel_test(endpoint) as case:
        recorder = FlightRecorder(current_runtime())
        record_channels(recorder)
        client = await case.connect("/socket", {"name": "ann"})
        _, room = await client.subscribe_and_join("room:lobby")
        await room.assert_reply(room.push("echo", {"body": "hello"}), "ok")
        room.push("boom")
        await trio.sleep(1)
        await client.join("room:broken")
        await client.disconnect()
        await trio.sleep(1)
        (connected,) = events(recorder, "client_connected")
        (joined,) = events(recorder, "joined")
        assert (connected["client"], connected["socket"]) == ("ann", "User")
        assert (joined["client"], joined["topic"], joined["result"]) == ("ann", "room:lobby", "ok")
        assert joined["connection_pid"] == connected["pid"] == client.pid.number
        told = events(recorder, "client_told")
        assert [(each["topic"], each["event"]) for each in told] == [
            ("room:lobby", "phx_error"),
            ("room:broken", "join crashed"),
        ]
        assert told[0]["channel"] == joined["pid"]
        assert {each["direction"] for each in events(recorder, "frame")} == {"out"}
        assert len(events(recorder, "client_closed")) == 1
        recorder.close()


async def test_the_filter_of_the_endpoint_holds_for_recorded_contents(
    endpoint: Endpoint, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_runtime(log=False), open_channel_test(endpoint) as case:
        recorder = FlightRecorder(current_runtime(), contents=True)
        record_channels(recorder)
        client = await case.connect("/socket", {})
        _, room = await client.subscribe_and_join("room:lobby", {"nickname": "secret1"})
        ref = room.push("echo", {"nick": "secret2", "password": "secret3", "body": "shown"})
        await room.assert_reply(ref, "ok")
        whole = b"".join(recorder.lines()).decode()
        assert "shown" in whole
        assert FILTERED in whole
        assert "secret" not in whole
        recorder.close()


async def test_a_killed_channel_and_its_client_are_connected_in_the_recording(
    endpoint: Endpoint, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_runtime(log=False), open_channel_test(endpoint) as case:
        recorder = FlightRecorder(current_runtime())
        record_channels(recorder)
        client = await case.connect("/socket", {})
        _, room = await client.subscribe_and_join("room:lobby")
        pid = room.pid
        assert pid is not None
        recorder.fault("kill", pid)
        kill(pid)
        await trio.sleep(1)
        (told,) = events(recorder, "client_told")
        assert told["channel"] == pid.number
        assert "client" not in events(recorder, "joined")[0]
        recorder.close()


async def test_the_trace_of_an_experiment_tells_what_each_client_saw(
    endpoint: Endpoint, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_runtime(log=False), open_channel_test(endpoint) as case:
        trace = Trace(lambda: (trio.current_time(), 0, 0))
        trace_clients(Recorder(current_runtime(), trace, 0, messages=True))
        client = await case.connect("/socket", {"name": "ann"})
        _, room = await client.subscribe_and_join("room:lobby")
        room.push("boom")
        await trio.sleep(2)
        await client.subscribe_and_join("room:lobby")
        await client.disconnect()
        await trio.sleep(1)
    for line in trace.lines:
        check(msgspec.json.decode(line))
    (incident,) = tell_story(trace.lines).incidents
    (ann,) = incident.clients
    assert (ann.client, ann.topic) == ("ann", "room:lobby")
    assert ann.away == pytest.approx(2.0, abs=0.01)
    kinds = [msgspec.json.decode(line)["kind"] for line in trace.lines]
    assert "client_closed" in kinds
    assert "frame" not in kinds


async def test_an_invariant_sees_the_answers_of_a_session_that_is_recorded_too(
    endpoint: Endpoint, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_runtime(log=False), open_channel_test(endpoint) as case:
        runtime = current_runtime()
        trace = Trace(lambda: (trio.current_time(), 0, 0))
        trace_clients(Recorder(runtime, trace, 0, messages=True))
        watch = Watch(runtime, [JoinsAnswered(), MembershipsEnd()])
        client = await case.connect("/socket", {})
        await client.join("room:broken")
        _, room = await client.subscribe_and_join("room:lobby")
        room.push("boom")
        for _ in range(3):
            await trio.sleep(1)
            assert watch.at_rest() is None
        kinds = [msgspec.json.decode(line)["kind"] for line in trace.lines]
        assert kinds.count("client_told") == 2
        watch.close()


async def test_the_frames_of_a_stream_are_recorded_until_the_recorder_closes(
    endpoint: Endpoint, runtime: Runtime, serve: Serve
) -> None:
    recorder = FlightRecorder(runtime)
    record_channels(recorder)
    server = await serve(endpoint)
    client = await server.connect()
    await client.join("room:a")
    push = ("1", "2", "room:a", "echo", {"body": "hello"})
    await client.exchange(push)
    (sent,) = (each for each in events(recorder, "sent") if each["message_kind"] == "echo")
    assert sent["size"] == len(json.dumps(push))
    frames = events(recorder, "frame")
    # The answers to the upgrade, the join and the push.
    assert [each["direction"] for each in frames].count("out") == 3
    assert [each["direction"] for each in frames].count("in") == 2
    assert client.process is not None
    assert {each["pid"] for each in frames} == {client.process.number}
    recorder.close()
    before = recorder.statistics()
    assert len(await client.exchange(("1", "3", "room:a", "echo", {"body": "hello"}))) == 1
    assert recorder.statistics() == before


async def test_without_frames_only_the_messages_of_clients_are_recorded(
    endpoint: Endpoint, runtime: Runtime, serve: Serve
) -> None:
    recorder = FlightRecorder(runtime, frames=False)
    record_channels(recorder)
    server = await serve(endpoint)
    client = await server.connect()
    await client.join("room:a")
    await client.exchange(("1", "2", "room:a", "echo", {"body": "hello"}))
    assert events(recorder, "frame") == []
    assert "echo" in {each["message_kind"] for each in events(recorder, "sent")}
    recorder.close()


async def test_two_recorders_see_the_same_frames_and_messages(
    endpoint: Endpoint, runtime: Runtime, serve: Serve
) -> None:
    recorders = [FlightRecorder(runtime) for _ in range(2)]
    for recorder in recorders:
        record_channels(recorder)
    server = await serve(endpoint)
    client = await server.connect()
    await client.join("room:a")
    await client.exchange(("1", "2", "room:a", "echo", {"body": "hello"}))
    first, second = (
        [(each["direction"], each["size"]) for each in events(recorder, "frame")]
        for recorder in recorders
    )
    assert first == second
    assert len(first) == 5
    for recorder in recorders:
        kinds = [each["message_kind"] for each in events(recorder, "sent")]
        assert kinds.count("echo") == 1
        recorder.close()


class Servers(list[Any]):
    """The servers of the connections that have started."""

    def __init__(self, runtime: Runtime) -> None:
        runtime.telemetry.attach(SESSION_STARTED, self._started)

    def _started(self, event: object, measured: object, about: Mapping[str, Any]) -> None:
        self.append(about["server"])


async def test_a_recorder_that_closes_without_clients_leaves_the_flusher(
    endpoint: Endpoint, runtime: Runtime, serve: Serve
) -> None:
    servers = Servers(runtime)
    server = await serve(endpoint)
    for _ in range(3):
        recorders = [FlightRecorder(runtime) for _ in range(2)]
        for recorder in recorders:
            record_channels(recorder)
        for _ in range(2):
            client = await server.connect()
            await client.join("room:a")
            pid = client.process
            assert pid is not None
            client.close()
            await wait_exit(pid)
        flusher = servers[-1].services.transports.flusher
        assert len(flusher.on_written) == 2
        for recorder in recorders:
            assert recorder.connections == {}
            recorder.close()
        assert flusher.on_written == ()


@pytest.mark.parametrize("first", [0, 1])
async def test_a_closed_recorder_leaves_a_living_connection(
    endpoint: Endpoint, runtime: Runtime, serve: Serve, first: int
) -> None:
    servers = Servers(runtime)
    recorders = [FlightRecorder(runtime) for _ in range(2)]
    for recorder in recorders:
        record_channels(recorder)
    server = await serve(endpoint)
    client = await server.connect()
    await client.join("room:a")
    out = servers[0].out
    flusher = servers[0].services.transports.flusher
    one, other = recorders.pop(first), recorders.pop()
    one.close()
    assert (len(out.on_write), len(flusher.on_written)) == (1, 1)
    assert set(one.connections) == set(other.connections) != set()
    before = len(events(other, "frame"))
    await client.exchange(("1", "2", "room:a", "echo", {"body": "hello"}))
    directions = [each["direction"] for each in events(other, "frame")[before:]]
    assert "out" in directions
    other.close()
    assert (out.on_write, flusher.on_written) == ((), ())
    assert servers[0].tap is None


async def test_a_session_drops_a_recorder_that_has_closed(runtime: Runtime) -> None:
    class Recording:
        def add(self, kind: str, pid: Pid, fields: dict[str, Any]) -> None:
            pass

    recording = Recording()
    living = ref(recording)
    session = RecordedSession(SimpleNamespace(receive=None), Pid(1, runtime), recording.add)
    del recording
    gc.collect()
    assert living() is not None
    session.end()
    gc.collect()
    assert living() is None

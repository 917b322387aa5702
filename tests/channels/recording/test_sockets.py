"""A recording has the frames that the flusher writes to clients on plain sockets."""

from __future__ import annotations

from typing import Any

import msgspec

from actors import Runtime
from channels import Channel, Endpoint, PushReply, Socket, handle_in
from channels.recording import record_channels
from supervision.recording.flight import FlightRecorder
from tests.channels.conftest import Serve
from tests.channels.support import TcpClient

REAL_CLOCK = True


class Room(Channel):
    @handle_in("echo")
    async def echo(self, payload: Any) -> PushReply:
        return PushReply(payload)

    @handle_in("say")
    async def say(self, payload: Any) -> None:
        self.broadcast("said", payload)


class User(Socket):
    channels = {"room:*": Room}


async def test_each_client_of_a_broadcast_has_a_frame_of_its_own(
    runtime: Runtime, serve: Serve
) -> None:
    endpoint = Endpoint(sockets={"/socket": User})
    recorder = FlightRecorder(runtime)
    record_channels(recorder)
    await serve(endpoint)
    clients = [await TcpClient.connect(endpoint) for _ in range(5)]
    for client in clients:
        await client.join("room:a")
    before = len(frames(recorder))
    ((_, _, topic, event, payload),) = await clients[0].exchange(
        "1", "2", "room:a", "say", {"body": "hello"}
    )
    assert (topic, event, payload) == ("room:a", "said", {"body": "hello"})
    for client in clients[1:]:
        await client.frames()
    further = frames(recorder)[before:]
    assert [each["direction"] for each in further] == ["in"] + ["out"] * 5
    assert {each["pid"] for each in further[1:]} == {pid.number for pid in recorder.connections}
    assert len({each["size"] for each in further[1:]}) == 1
    recorder.close()
    assert await clients[0].exchange("1", "3", "room:a", "echo", {}) != []
    assert len(frames(recorder)) == before + 6
    for client in clients:
        await client.close()


def frames(recorder: FlightRecorder) -> list[dict[str, Any]]:
    decoded = [msgspec.json.decode(line) for line in recorder.lines()]
    return [event for event in decoded if event["kind"] == "frame"]

"""The frames of clients in the trace of a simulated run."""

from __future__ import annotations

from functools import partial
from typing import Any

import msgspec
import pytest

from channels import Channel, Endpoint, PushReply, Socket, handle_in
from channels.client import open_socket
from channels.messages import Message
from channels.recording.clients import trace_clients
from channels.recording.contents import message_of
from channels.wire.websocket import frame
from supervision.simulation import World
from tests.laws.scenarios import simulate


class Room(Channel):
    """A room that broadcasts each message to all its clients."""

    async def join(self, topic: str, payload: Any) -> None:
        self.endpoint_topic = topic

    @handle_in("say")
    async def say(self, payload: Any) -> PushReply:
        self.broadcast("said", payload)
        return PushReply({"token": "t0psecret"})


class Guest(Socket):
    """A socket with rooms."""

    channels = {"room:*": Room}


async def one_push(world: World) -> None:
    """Join a room and say something."""
    endpoint = Endpoint(sockets={"/socket": Guest}, listen=world.network.open)
    await endpoint.start_link(host="server", port=80)
    connect = partial(world.network.connect, source="phone")
    async with (
        open_socket("ws://server/socket", connect=connect) as socket,
        socket.channel("room:b:") as room,
    ):
        await room.push("say", {"text": "hello", "password": "t0psecret"})


def events(kind: str) -> list[dict[str, Any]]:
    decoded = map(msgspec.json.decode, simulate(one_push, 1).check().trace)
    return [event for event in decoded if event["kind"] == kind]


def test_a_trace_has_the_contents_of_all_frames_of_clients_and_masks_secrets() -> None:
    found = [
        (each["direction"], each["event"], each["payload"], each.get("status"))
        for each in events("frame")
        if each.get("topic") == "room:b:" and each["event"] not in ("phx_leave", "phx_close")
    ]
    assert found[:5] == [
        ("in", "phx_join", "{}", None),
        ("out", "phx_reply", "{}", "ok"),
        ("in", "say", "{'text': 'hello', 'password': [FILTERED]}", None),
        ("out", "said", "{'text': 'hello', 'password': [FILTERED]}", None),
        ("out", "phx_reply", "{'token': [FILTERED]}", "ok"),
    ]


def test_a_trace_has_the_label_of_a_channel_and_the_host_of_its_client() -> None:
    assert [each["label"] for each in events("labelled")] == ["Room 'room:b:'"]
    assert len(events("serves")) == len(events("client_connected")) == 1
    assert [each["result"] for each in events("joined")] == ["ok"]


def test_the_clients_of_a_live_run_are_recorded_once() -> None:
    async def live(world: World) -> None:
        trace_clients(world.recorders[0])
        await one_push(world)

    decoded = [msgspec.json.decode(line) for line in simulate(live, 1).check().trace]
    kinds = [event["kind"] for event in decoded]
    assert kinds.count("client_connected") == 1
    assert "frame" not in kinds


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (frame(b'["1","2","room:a","say",{}]'), Message("1", "2", "room:a", "say", {})),
        (b'["1","2","room:a","say",{}]', Message("1", "2", "room:a", "say", {})),
        (
            b'{"topic":"room:a","event":"say","payload":{},"ref":"2"}',
            Message(None, "2", "room:a", "say", {}),
        ),
        (frame(b'["1","2","room:a","say",{"t":"' + b"x" * 200 + b'"}]'), "long"),
        (b"\x88\x02\x03\xe8", None),
        (b"\x82\x03abc", None),
        (b"[1,2]", None),
        (b"[1,", None),
        (b"", None),
    ],
)
def test_the_text_message_in_a_frame_is_found(data: bytes, expected: Any) -> None:
    found = message_of(data)
    if expected == "long":
        assert found is not None
        assert found.event == "say"
    else:
        assert found == expected

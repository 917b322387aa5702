"""The events of channels: their metadata, which they build only if a handler is attached."""

from __future__ import annotations

from typing import Any

import trio

from actors import Crash, Telemetry
from channels import Channel, Endpoint, Mount, PushReply, handle_in
from channels.serializers.serializer import DEFAULT_SERIALIZERS
from channels.telemetry import (
    CHANNEL_CRASHED,
    CHANNEL_HANDLED_IN,
    CHANNEL_JOINED,
    CONNECTION_CLOSED,
    SOCKET_CONNECTED,
)
from tests.channels.conftest import Serve
from tests.channels.polling import Poller
from tests.channels.rooms import Room, UserSocket
from tests.channels.support import settle

ENDPOINT = {"/socket": UserSocket}


async def test_a_connect_executes_an_event_with_all_of_phoenix_s_metadata(serve: Serve) -> None:
    server = await serve(Endpoint(sockets={"/socket": Mount(UserSocket, longpoll=True)}))
    heard = server.listen(SOCKET_CONNECTED)
    await server.connect()
    await Poller(server, query="vsn=1.0.0&token=deny").ask("GET")
    (_, yes), (_, no) = heard
    for about, path in ((yes, "/socket/websocket"), (no, "/socket/longpoll")):
        assert isinstance(about.pop("socket"), UserSocket)
        assert about.pop("connect_info").path == path
    assert yes == {
        "endpoint": server.endpoint,
        "transport": "websocket",
        "user_socket": UserSocket,
        "params": {"vsn": "2.0.0"},
        "vsn": "2.0.0",
        "serializer": DEFAULT_SERIALIZERS[1][0],
        "log": "info",
        "result": "ok",
        "reason": None,
    }
    assert no == {
        **yes,
        "transport": "longpoll",
        "params": {"vsn": "1.0.0", "token": "deny"},
        "vsn": "1.0.0",
        "serializer": DEFAULT_SERIALIZERS[0][0],
        "result": "error",
        "reason": "token",
    }


async def test_a_join_executes_an_event_with_its_duration_and_result(serve: Serve) -> None:
    server = await serve(Endpoint(sockets=ENDPOINT))
    heard = server.listen(CHANNEL_JOINED)
    client = await server.connect()
    client.send(
        ("1", "1", "room:a", "phx_join", {"sleep": 2}),
        ("2", "2", "room:b", "phx_join", {"sleep": 3, "refuse": {}}),
    )
    await trio.sleep(4)
    (good, yes), (bad, no) = heard
    assert (good, bad) == ({"duration": 2.0}, {"duration": 3.0})
    assert isinstance(yes.pop("channel"), Room)
    assert yes.pop("connection") is no.pop("connection") is client.process
    assert yes == {"endpoint": server.endpoint, "params": {"sleep": 2}, "result": "ok"}
    assert no.pop("channel").topic == "room:b"
    assert no == {
        "endpoint": server.endpoint,
        "params": {"sleep": 3, "refuse": {}},
        "result": "error",
    }


async def test_a_join_that_crashes_emits_no_joined_event(serve: Serve) -> None:
    server = await serve(Endpoint(sockets=ENDPOINT))
    heard = server.listen(CHANNEL_JOINED)
    client = await server.connect()
    await client.exchange(("1", "1", "room:a", "phx_join", {"crash": True}))
    assert heard == []


async def test_a_channel_that_crashes_executes_an_event_and_one_that_is_left_none(
    serve: Serve,
) -> None:
    server = await serve(Endpoint(sockets=ENDPOINT))
    heard = server.listen(CHANNEL_CRASHED)
    client = await server.connect()
    await client.join("room:a")
    await client.exchange(("1", "2", "room:a", "phx_leave"))
    assert heard == []
    await client.join("room:b", "3")
    await client.exchange(("3", "4", "room:b", "boom"))
    ((measured, about),) = heard
    assert measured == {}
    assert isinstance(about.pop("reason"), Crash)
    assert about == {
        "endpoint": server.endpoint,
        "channel": Room,
        "topic": "room:b",
        "connection": client.process,
    }


async def test_a_handled_push_executes_an_event_unless_it_crashes(serve: Serve) -> None:
    server = await serve(Endpoint(sockets=ENDPOINT))
    client = await server.connect()
    await client.join()
    heard = server.listen(CHANNEL_HANDLED_IN)
    client.send(
        ("1", "2", "room:a", "sleep", {"seconds": 4}),
        ("1", "3", "room:a", "phx_leave"),
    )
    await trio.sleep(5)
    await client.join(ref="4")
    await client.exchange(("4", "5", "room:a", "boom"))
    ((measured, about),) = heard
    assert measured == {"duration": 4.0}
    assert isinstance(about.pop("channel"), Room)
    assert about == {
        "endpoint": server.endpoint,
        "event": "sleep",
        "ref": "2",
        "params": {"seconds": 4},
    }


async def test_the_end_of_a_connection_executes_one_event(serve: Serve) -> None:
    server = await serve(Endpoint(sockets=ENDPOINT))
    heard = server.listen(CONNECTION_CLOSED)
    client = await server.connect()
    await client.join()
    client.end()
    await settle()
    assert heard == [
        (
            {},
            {
                "endpoint": server.endpoint,
                "pid": client.process,
                "code": None,
                "cause": "",
                "topics": ["room:a"],
            },
        )
    ]


async def test_events_without_a_handler_are_not_executed(serve: Serve, monkeypatch: Any) -> None:
    class Plain(Channel):
        @handle_in("echo")
        async def echo(self, payload: Any) -> PushReply:
            return PushReply(payload)

    class PlainSocket(UserSocket):
        channels = {"room:*": Plain}

    executed: list[Any] = []
    execute = Telemetry.execute

    def spy(self: Telemetry, event: Any, *about: Any) -> None:
        executed.append(event)
        execute(self, event, *about)

    server = await serve(Endpoint(sockets={"/socket": PlainSocket}))
    # Detach the log of the endpoint, so that no event has a handler.
    for event in (SOCKET_CONNECTED, CHANNEL_JOINED, CHANNEL_HANDLED_IN, CONNECTION_CLOSED):
        while server.runtime.telemetry.handlers(event):
            server.runtime.telemetry._detach(event, server.runtime.telemetry.handlers(event)[0])
    monkeypatch.setattr(Telemetry, "execute", spy)
    client = await server.connect()
    await client.join()
    await client.exchange(("1", "2", "room:a", "echo"), ("1", "3", "room:a", "phx_leave"))
    client.close()
    await settle()
    assert executed == []


async def test_a_handler_that_raises_does_not_affect_the_channel(serve: Serve, caplog: Any) -> None:
    server = await serve(Endpoint(sockets=ENDPOINT))

    def broken(event: Any, measurements: Any, metadata: Any) -> None:
        raise RuntimeError("listener")

    server.runtime.telemetry.attach(CHANNEL_HANDLED_IN, broken)
    client = await server.connect()
    await client.join()
    for ref in ("2", "3"):
        got = await client.exchange(("1", ref, "room:a", "echo"))
        assert [frame[1] for frame in got] == [ref]
    assert caplog.text.count("was detached") == 1

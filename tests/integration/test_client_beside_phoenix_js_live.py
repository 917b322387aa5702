"""The client and phoenix.js side by side on one live server, behind one proxy that gives both the same faults.

One program runs on both. The proxy applies each fault at a moment of the protocol, so both meet the same faults at the
same frames, whichever of them is quicker. In the end both must have gone through the same states, and must have
exchanged the same frames up to refs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Protocol

import pytest
import trio

from channels.client import ClientChannel, ClientPush, ClientSocket, RetryTable, open_socket
from channels.client import protocol as protocol_module
from channels.client import socket as socket_module
from channels.client.events import TELEMETRY, ConnectFailed, Lost
from channels.client.protocol import Protocol as ClientProtocol
from channels.client.records import ChannelRecord
from tests.integration.phoenix_js import PhoenixJs
from tests.integration.scripted_proxy import (
    At,
    CloseWith,
    Corrupt,
    Cut,
    Pass,
    Refuse,
    ScriptedProxy,
    Stall,
    Step,
    Unavailable,
    scripted_proxy,
    without_refs,
)
from tests.integration.servers import Server
from tests.patience import PATIENCE, until

HEARTBEAT = 0.7
"""Seconds. Only the stalled connection lives long enough to send one."""

LOST = 0.2
"""Seconds for a push whose answer never comes."""

RETRY = 0.02


def answers(number: int) -> Callable[[list[Any]], bool]:
    """The moment at which the server answers an echo."""
    return lambda message: message[3] == "phx_reply" and message[4]["response"] == {"n": number}


def sends(event: str, number: int) -> Callable[[list[Any]], bool]:
    """The moment at which one side sends an event."""
    return lambda message: message[3] == event and message[4] == {"n": number}


SCRIPT: tuple[Step, ...] = (
    Pass((At("down", answers(2), Cut()),)),
    Refuse(),
    Unavailable(),
    Pass((At("down", answers(4), CloseWith(1012)),), is_held=True),
    Pass((At("down", answers(5), CloseWith(1000)),)),
    # A reserved bit in the header; text that is not UTF-8; JSON without its last bracket.
    Pass((At("down", answers(6), Corrupt(at=0, mask=0x40)),)),
    Pass((At("down", answers(7), Corrupt(at=-3, mask=0x80)),)),
    Pass((At("down", sends("pushed", 8), Corrupt(at=-1, mask=1)), At("down", answers(9), Cut(5)))),
    # Without its mask the server does not take it.
    Pass((At("up", sends("echo", 10), Corrupt(at=1, mask=0x80)),)),
    Pass((At("down", answers(11), Stall()),)),
    Pass(),
)


class Side(Protocol):
    """A client with what it has gone through.

    Attributes:
        name: of the client.
        connection: the states of its connection.
        closes: the close codes that it was told.
        channels: the states of each channel, by topic.
        results: the status of each push, by its number.
        messages: topic, event and payload of each message.
    """

    name: str
    connection: list[str]
    closes: list[int]
    channels: dict[str, list[str]]
    results: dict[int, str]
    messages: list[tuple[str, str, Any]]

    def read(self) -> None:
        """Note what has happened since."""
        ...

    async def join(self, topic: str) -> None:
        """Join with a payload that counts the joins."""
        ...

    def push(self, topic: str, event: str, number: int, timeout: float) -> None:
        """Push `{"n": number}`."""
        ...

    async def leave(self, topic: str) -> None:
        """Leave."""
        ...


class Theirs:
    """phoenix.js in Node."""

    name = "phoenix.js"

    def __init__(self, client: PhoenixJs) -> None:
        self.connection: list[str] = []
        self.closes: list[int] = []
        self.channels: dict[str, list[str]] = {}
        self.results: dict[int, str] = {}
        self.messages: list[tuple[str, str, Any]] = []
        self.exceptions: list[str] = []
        self._client = client

    def read(self) -> None:
        for seen in self._client.take(
            "connection", "close", "state", "reply", "message", "exception"
        ):
            match seen:
                case {"kind": "connection", "state": state}:
                    self.connection.append(state)
                case {"kind": "close", "code": code}:
                    self.closes.append(code)
                case {"kind": "state", "topic": topic, "state": state}:
                    self.channels.setdefault(topic, []).append(state)
                case {"kind": "reply", "id": number, "status": status}:
                    self.results[number] = status
                case {"kind": "message", "event": str() as event} if not event.startswith("phx_"):
                    self.messages.append((seen["topic"], event, seen["payload"]))
                case {"kind": "exception", "message": message}:
                    self.exceptions.append(message)

    async def join(self, topic: str) -> None:
        self._client.tell("join", topic=topic, payload={}, counted=True)

    def push(self, topic: str, event: str, number: int, timeout: float) -> None:
        milliseconds = round(timeout * 1000)
        self._client.tell(
            "push", id=number, topic=topic, event=event, payload={"n": number}, timeout=milliseconds
        )

    async def leave(self, topic: str) -> None:
        self._client.tell("leave", topic=topic)


class Ours:
    """The client of this project."""

    name = "ours"

    def __init__(self, socket: ClientSocket) -> None:
        protocol = socket._protocol
        assert isinstance(protocol, WatchedProtocol)
        self.connection = protocol.states
        self.closes: list[int] = []
        self.channels: dict[str, list[str]] = {}
        self.results: dict[int, str] = {}
        self.messages: list[tuple[str, str, Any]] = []
        self._socket = socket
        for kind in (Lost, ConnectFailed):
            socket.telemetry.attach(TELEMETRY[kind], self._lost)
        self._joined: dict[str, ClientChannel] = {}
        self._pushes: dict[int, ClientPush] = {}

    @property
    def malformed(self) -> int:
        """The number of messages that were none."""
        return self._socket.statistics().malformed

    def read(self) -> None:
        for number, push in self._pushes.items():
            if push.status is not None:
                self.results[number] = push.status

    def _lost(self, name: Any, numbers: Any, about: Any) -> None:
        # A browser has this code for a connection that did not open.
        self.closes.append(getattr(about["event"], "code", 1006))

    async def join(self, topic: str) -> None:
        joins = iter(range(1000))
        channel = self._socket.channel(topic, lambda: {"n": next(joins)}, wait=False)
        assert isinstance(channel.record, WatchedRecord)
        self.channels[topic] = channel.record.states
        self._joined[topic] = channel
        channel.listen(
            "pushed", lambda payload, _: self.messages.append((topic, "pushed", payload))
        )
        await channel.__aenter__()

    def push(self, topic: str, event: str, number: int, timeout: float) -> None:
        channel = self._joined[topic]
        self._pushes[number] = channel.push_nowait(event, {"n": number}, timeout=timeout)

    async def leave(self, topic: str) -> None:
        await self._joined[topic].leave()


class WatchedRecord(ChannelRecord):
    """A channel that keeps all states that it enters."""

    states: list[str]

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "state":
            if not hasattr(self, "states"):
                self.states = []
            elif value != self.state:
                self.states.append(value)
        super().__setattr__(name, value)


class WatchedProtocol(ClientProtocol):
    """A protocol that keeps all states that its connection enters."""

    states: list[str]

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "state":
            if not hasattr(self, "states"):
                self.states = []
            elif value != self.state:
                self.states.append(value)
        super().__setattr__(name, value)


async def program(side: Side, proxy: ScriptedProxy) -> None:
    """Everything that one client does. It waits for states and never for a time."""

    async def seen(holds: Callable[[], bool]) -> None:
        def read_and_ask() -> bool:
            side.read()
            return holds()

        await until(read_and_ask, lambda: f"{side.name}: {side.channels}, {side.results}")

    async def joined(times: int) -> None:
        await seen(lambda: side.channels.get("room:lobby", []).count("joined") >= times)

    async def answered(number: int) -> None:
        await seen(lambda: number in side.results)
        assert side.results[number] == "ok"

    def events_of(topic: str) -> list[str]:
        down = proxy.connections[side.name][-1].down
        return [event for _, _, each, event, _ in down if each == topic]

    async def echo(number: int) -> None:
        side.push("room:lobby", "echo", number, PATIENCE)
        await answered(number)

    await side.join("room:lobby")
    await joined(1)
    await echo(1)
    side.push("room:lobby", "push", 100, LOST)
    await seen(lambda: bool(side.messages))
    side.push("room:lobby", "echo", 2, LOST)
    # The proxy cuts, refuses twice, and holds the next connection while pushes gather.
    await until(lambda: proxy.is_holding(side.name))
    side.push("room:lobby", "echo", 3, PATIENCE)
    side.push("room:lobby", "echo", 4, PATIENCE)
    proxy.release(side.name)
    await answered(3)
    await answered(4)
    await joined(3)
    await echo(5)
    await joined(4)
    side.push("room:lobby", "echo", 6, LOST)
    await joined(5)
    side.push("room:lobby", "echo", 7, LOST)
    await joined(6)
    side.push("room:lobby", "push", 8, LOST)
    side.push("room:lobby", "boom", 101, LOST)
    await joined(7)
    side.push("room:lobby", "echo", 9, LOST)
    await joined(8)
    side.push("room:lobby", "echo", 10, LOST)
    await joined(9)
    side.push("room:lobby", "echo", 11, LOST)
    await joined(10)
    await echo(12)
    await side.join("room:deny")
    await seen(lambda: side.channels.get("room:deny", []).count("errored") == 3)
    await side.leave("room:deny")
    # One answer for each join, and one for the leave.
    await until(lambda: events_of("room:deny").count("phx_reply") == 4)
    await side.leave("room:lobby")
    await until(lambda: events_of("room:lobby")[-1] == "phx_close")
    side.read()


@asynccontextmanager
async def both(server: Server) -> AsyncIterator[tuple[ScriptedProxy, Theirs, Ours]]:
    milliseconds = [round(RETRY * 1000)]
    # Two rejoins of a refused channel, and no third.
    options: dict[str, Any] = {
        "reconnectAfter": milliseconds,
        "rejoinAfter": [*milliseconds * 2, 600_000],
    }
    rejoin = RetryTable(steps=(RETRY, RETRY), then=600.0)
    async with scripted_proxy(server, SCRIPT, (Theirs.name, Ours.name)) as proxy:
        with PhoenixJs(
            proxy.socket_url(Theirs.name),
            states=True,
            heartbeatIntervalMs=HEARTBEAT * 1000,
            **options,
        ) as client:
            client.tell("connect")
            async with open_socket(
                proxy.socket_url(Ours.name),
                heartbeat_interval=HEARTBEAT,
                reconnect=RetryTable(steps=(), then=RETRY),
                rejoin=rejoin,
                timeout=PATIENCE,
            ) as socket:
                yield proxy, Theirs(client), Ours(socket)
            client.tell("disconnect")
            client.expect("disconnected")


async def test_both_clients_go_through_the_same_faults_with_the_same_states_and_frames(
    conformance: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol_module, "ChannelRecord", WatchedRecord)
    monkeypatch.setattr(socket_module, "Protocol", WatchedProtocol)
    with trio.fail_after(PATIENCE):
        async with both(conformance) as (proxy, theirs, ours), trio.open_nursery() as nursery:
            nursery.start_soon(program, theirs, proxy)
            nursery.start_soon(program, ours, proxy)
    theirs.read()
    ours_met, theirs_met = (without_refs(proxy.connections[each.name]) for each in (ours, theirs))
    for number, (mine, their) in enumerate(zip(ours_met, theirs_met, strict=True)):
        assert mine == their, f"connection {number}"
    assert ours.connection == theirs.connection
    assert ours.channels == theirs.channels
    assert ours.results == theirs.results
    assert ours.messages == theirs.messages
    # For an invalid frame, our client names the code that it closes with, and a browser does not.
    assert theirs.closes[:10] == [1006, 1006, 1006, 1012, 1000, 1006, 1006, 1006, 1002, 1006]
    assert ours.closes == [1006, 1006, 1006, 1012, 1000, 1002, 1007, 1006, 1002, 1006]
    # Every fault of the script was met, and the frame that is not JSON has cost nothing else.
    assert [one.step for one in proxy.connections[ours.name]] == list(SCRIPT)
    assert [one["faults"] for one in ours_met] == [
        [moment.fault for moment in step.faults] if isinstance(step, Pass) else []
        for step in SCRIPT
    ]
    assert len(theirs.exceptions) == ours.malformed == 1

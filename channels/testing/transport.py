"""The session of a client in a test, without a network.

The session, the channels, the serializer and every frame are real. Only the network and HTTP are missing. The test
decodes the server's frames as a client does. So a payload that JSON cannot express fails here as in production.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import trio
from attrs import frozen

from actors.servers.gen_server import Sender
from actors.servers.results import Reply, Stop
from channels.connection.session_server import CLOSED, SessionServer
from channels.messages import Binary, BinaryFrame, Message
from channels.serializers.serializer import Codec
from channels.serializers.v2 import V2
from channels.serving.services import Services
from channels.transports.contract import LatestKey, OutBufferStatistics
from channels.upgrade.connecting import Connected

__all__ = ["CODEC", "NoListener", "SessionClosed", "TestSession", "read_frame"]


def _as_it_is(data: bytes) -> bytes:
    return data


CODEC = Codec(V2(), _as_it_is)
"""The codec of all clients in tests whose mount has the usual V2."""

_PUSH, _REPLY = 0, 1


@frozen
class SessionClosed:
    """The server ended the session, with this close code for a WebSocket."""

    code: int


def read_frame(frame: bytes) -> Message:
    """Decode a frame of the server, as a V2 client does."""
    if type(frame) is not BinaryFrame:
        return msgspec.json.decode(frame, type=Message)
    kind = frame[0]
    count = {_PUSH: 3, _REPLY: 4}.get(kind, 2)
    strings, start = [], 1 + count
    for size in frame[1 : 1 + count]:
        strings.append(frame[start : start + size].decode() or None)
        start += size
    payload: Any = Binary(frame[start:])
    if kind == _PUSH:
        join_ref, topic, event = strings
        return Message(join_ref, None, topic, event, payload)
    if kind == _REPLY:
        join_ref, ref, topic, status = strings
        return Message(join_ref, ref, topic, "phx_reply", {"status": status, "response": payload})
    topic, event = strings
    return Message(None, None, topic, event, payload)


class _Out:
    """An out-buffer that delivers every frame immediately."""

    def __init__(self, deliver: Callable[[Any], None]) -> None:
        self._deliver = deliver

    def put(self, frame: bytes) -> None:
        self._deliver(read_frame(frame))

    def put_latest(self, _: LatestKey, frame: bytes) -> None:
        self.put(frame)

    def statistics(self) -> OutBufferStatistics:
        return OutBufferStatistics(
            waiting_messages=0,
            waiting_bytes=0,
            dropped_messages=0,
            overflowed=False,
            catching_up=False,
        )


class FromClient:
    """A frame from the test's client."""

    __slots__ = ("binary", "data")

    def __init__(self, data: bytes, *, binary: bool) -> None:
        self.data = data
        self.binary = binary


class ClientGone:
    """The test's client has closed its connection."""

    __slots__ = ()


class TestSession(SessionServer):
    """The session of one client of a test. It never stops reading, because the test controls its input."""

    __test__ = False  # for pytest: this is not a test class

    async def init(
        self, services: Services, connected: Connected, deliver: Callable[[Any], None]
    ) -> None:
        self._set_up(services)
        self._deliver = deliver
        # `Any`, because an OutBuffer has further methods, which channels do not use.
        out: Any = _Out(deliver)
        serializer = connected.serializer
        # Such as the V2 of supabase, whose frames with JSON are those of Phoenix.
        own = isinstance(serializer, V2) and type(serializer) is not V2
        self._begin(connected, Codec(serializer, _as_it_is) if own else CODEC, out)

    async def handle_call(self, request: Any, sender: Sender) -> Reply:
        """Return the newest process that serves a joined topic."""
        found = [each.process for each in self.members if each.topic == request]
        return Reply(found[-1] if found else None)

    async def handle_info(self, message: Any) -> Stop | None:
        kind = type(message)
        if kind is FromClient:
            if self.closing is None:
                if self.has_rates:
                    self.session.refill(trio.current_time())
                self.session.receive(message.data, binary=message.binary)
                if self.starting is not None:
                    await self._finish_starts()
        elif kind is ClientGone:
            if self.closing is None:
                self._note_end(1000, CLOSED, "the client closed")
            return self._ended()
        else:
            self._take(message)
            if self.starting is not None:
                await self._finish_starts()
        return self._ended() if self.closing is not None else None

    def _leave_unread(self) -> None:
        pass

    def _read_again(self) -> None:
        pass

    def _say_goodbye(self, code: int) -> None:
        self._deliver(SessionClosed(code))


class NoListener:
    """A listener without connections, because only the test connects clients to its endpoint."""

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port

    @classmethod
    async def open(cls, host: str, port: int) -> NoListener:
        """Return a listener that listens nowhere."""
        return cls(host, port)

    async def main(self, on_connection: Callable[[Any], object]) -> None:
        """Wait until the endpoint stops and cancels this."""
        await trio.sleep_forever()

    def close(self) -> None:
        """Do nothing, because nothing is open."""

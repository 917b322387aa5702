"""The floor: the least that Trio, the kernel and the codecs need for a chat. `python floor.py PORT`.

It has a task per connection, a task per joined topic, and one task that writes for all connections once per scheduler
turn. It uses the same codecs as Ashtree: the sans-I/O layer of websockets, and msgspec. It has no supervision, no
limits, no time-outs and no checks. It exists only for comparison with Ashtree.
"""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Iterable
from typing import Any, Generic, TypeVar

import msgspec
import trio
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

Item = TypeVar("Item")

decode = msgspec.json.Decoder().decode
encode = msgspec.json.Encoder().encode


class Queue(Generic[Item]):
    """Items for one task. The task sleeps while the queue is empty."""

    __slots__ = ("_items", "_sleeper")

    def __init__(self) -> None:
        self._items: list[Item] = []
        self._sleeper: trio.lowlevel.Task | None = None

    def put(self, item: Item) -> None:
        self._items.append(item)
        if self._sleeper is not None:
            trio.lowlevel.reschedule(self._sleeper)
            self._sleeper = None

    async def take_all(self) -> list[Item]:
        if not self._items:
            self._sleeper = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._wake)
        taken, self._items = self._items, []
        return taken

    def _wake(self, _: Any) -> trio.lowlevel.Abort:
        self._sleeper = None
        return trio.lowlevel.Abort.SUCCEEDED


class Writer:
    """The unwritten frames of one connection."""

    __slots__ = ("_floor", "_frames", "_is_full", "_stream")

    def __init__(self, floor: Floor, stream: trio.SocketStream) -> None:
        self._floor, self._stream = floor, stream
        self._frames: list[bytes] = []
        self._is_full = False

    def put(self, frame: bytes) -> None:
        self._frames.append(frame)
        if len(self._frames) == 1 and not self._is_full:
            self._floor.marked.put(self)

    def write(self) -> None:
        """Write as much as fits into the socket. A new task writes the rest."""
        data, self._frames = b"".join(self._frames), []
        try:
            # Trio's own method is a coroutine with two checkpoints.
            sent = self._stream.socket._sock.send(data)  # type: ignore[attr-defined]
        except BlockingIOError:
            sent = 0
        except OSError:
            return  # the client has gone, and its reader notices that
        if sent < len(data):
            self._is_full = True
            self._floor.nursery.start_soon(self._write_slowly, data[sent:])

    async def _write_slowly(self, data: bytes) -> None:
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while data:
                await self._stream.send_all(data)
                data, self._frames = b"".join(self._frames), []
        self._is_full = False


class Member:
    """A topic that one connection has joined."""

    __slots__ = ("inbox", "join_ref", "joined", "topic", "writer")

    def __init__(
        self, join_ref: str, topic: str, writer: Writer, joined: dict[str, Member]
    ) -> None:
        self.join_ref, self.topic, self.writer, self.joined = join_ref, topic, writer, joined
        self.inbox = Queue[list[Any] | None]()

    def say(self, ref: str | None, event: str, payload: Any) -> None:
        self.writer.put(text((self.join_ref, ref, self.topic, event, payload)))

    def reply(self, ref: str | None, response: Any) -> None:
        self.say(ref, "phx_reply", {"status": "ok", "response": response})


def text(message: Iterable[Any]) -> bytes:
    return Frame(Opcode.TEXT, encode(message)).serialize(mask=False)


class Floor:
    """All rooms, and the task that writes."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self.marked = Queue[Writer]()
        self.rooms: dict[str, dict[Member, Writer]] = {}

    async def write_all(self) -> None:
        while True:
            for writer in await self.marked.take_all():
                writer.write()
            await trio.lowlevel.checkpoint()

    async def serve(self, stream: trio.SocketStream) -> None:
        """Serve one connection until it ends."""
        joined: dict[str, Member] = {}
        writer, protocol = Writer(self, stream), ServerProtocol()
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while data := await stream.receive_some(65536):
                protocol.receive_data(data)
                for event in protocol.events_received():
                    if isinstance(event, Request):
                        protocol.send_response(protocol.accept(event))
                    elif isinstance(event, Frame) and event.opcode is Opcode.TEXT:
                        self.route(decode(event.data), writer, joined)
                for piece in protocol.data_to_send():
                    if piece:
                        writer.put(piece)
        for member in joined.values():
            member.inbox.put(None)
        await stream.aclose()

    def route(self, message: list[Any], writer: Writer, joined: dict[str, Member]) -> None:
        join_ref, ref, topic, event, _ = message
        if event == "phx_join":
            member = joined[topic] = Member(join_ref, topic, writer, joined)
            self.rooms.setdefault(topic, {})[member] = writer
            self.nursery.start_soon(self.be_member, member)
            member.reply(ref, {})
        elif topic in joined:
            joined[topic].inbox.put(message)
        elif event == "heartbeat":
            reply = {"status": "ok", "response": {}}
            writer.put(text((None, ref, topic, "phx_reply", reply)))

    async def be_member(self, member: Member) -> None:
        """Handle the messages of one joined topic until the client leaves it or it crashes."""
        room = self.rooms[member.topic]
        try:
            while True:
                for message in await member.inbox.take_all():
                    if message is None:
                        return
                    self.handle(member, room, message)
        except RuntimeError:
            member.say(member.join_ref, "phx_error", {})
        finally:
            del room[member]
            if not room:
                del self.rooms[member.topic]
            member.joined.pop(member.topic, None)

    def handle(self, member: Member, room: dict[Member, Writer], message: list[Any]) -> None:
        _, ref, topic, event, payload = message
        if event == "echo":
            member.reply(ref, payload)
        elif event == "ping":
            member.reply(ref, {})
        elif event == "new_msg":
            frame = text((None, None, topic, event, payload))
            for writer in room.values():
                writer.put(frame)
        elif event == "boom":
            raise RuntimeError("boom")


async def main(port: int) -> None:
    async with trio.open_nursery() as nursery:
        floor = Floor(nursery)
        nursery.start_soon(floor.write_all)
        await trio.serve_tcp(floor.serve, port, host="127.0.0.1", backlog=4096)


if __name__ == "__main__":
    # As under `ashtree serve`, the collector seldom runs.
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
    trio.run(main, int(sys.argv[1]))

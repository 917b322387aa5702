"""Ashtree's own client with a scripted server: lost and late answers, crashes, outages and old frames.

    ashtree simulate tests.simulation.sweeps.channels.scripted:scripted_server --seeds 1-1000

The server is part of the sweep, so the sweep decides each answer and knows each expected frame. A model knows the state
of each channel, the waiting pushes, the result of each push with its time, and the present users.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections import Counter, defaultdict, deque
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import trio
from attrs import define, field

from channels.client import (
    BufferFull,
    ChannelClosed,
    ClientChannel,
    ClientSocket,
    Feed,
    Lifecycle,
    MessagesDropped,
    PresenceView,
    PushTimeout,
    Refused,
    Rejoined,
    RetryTable,
    open_socket,
)
from channels.client.connection import CLOSE_TIMEOUT
from supervision.simulation import World
from tests.laws.scenarios import scenario
from tests.simulation.sweeps.bounds import small_bounds
from tests.simulation.sweeps.channels.clients import BROKEN, CLOSE, TEXT

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TIMEOUT = 3.0
HEARTBEAT = 12.0
CONNECT = 4.0
MOST = 5
"""Pushes that may wait in one channel."""
KEPT = 4
"""Messages that a channel keeps for a program that does not read."""
RECONNECT = RetryTable(steps=(0.2, 0.5), then=1.0)
REJOIN = RetryTable(steps=(1.0, 2.0), then=3.0)
TOPICS = ("room:a", "room:b")
KEYS = ("ann", "bob", "cy")


class Server:
    """A server that keeps each message of the client, and answers as the sweep decides."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.stream: Any = None
        self.is_down = False
        self.is_mute = False
        # True while the server accepts connections, and never answers a handshake.
        self.is_hanging = False
        # The time of each connection, also of those that the server refuses.
        self.attempts: list[float] = []
        # The answers to the next joins of each topic. If the queue is empty, the server accepts the join.
        self.joins: dict[str, deque[str]] = defaultdict(deque)
        self.members: dict[str, str] = {}
        self.old: dict[str, list[str]] = defaultdict(list)
        self.heard: list[list[Any]] = []
        self.connections = 0
        # The streams of connections on which the client has sent nothing yet.
        self.unused: set[Any] = set()
        self.writing = trio.Lock()

    async def main(self) -> None:
        async with trio.open_nursery() as nursery:
            listener = self.world.network.listen("server", 4000)
            while True:
                stream = await listener.accept()
                self.attempts.append(self.world.seconds)
                nursery.start_soon(self.serve, stream)

    async def serve(self, stream: Any) -> None:
        try:
            await self._serve(stream)
        except BROKEN:
            pass
        if stream in self.unused:
            # The client's time-out came before the answer to its handshake, so the client counts a failed attempt.
            self.unused.remove(stream)
            self.connections -= 1
        with trio.move_on_after(1, shield=True):
            await stream.aclose()

    async def _serve(self, stream: Any) -> None:
        buffer = bytearray()
        while b"\r\n\r\n" not in buffer:
            data = await stream.receive_some()
            if not data:
                return
            buffer += data
        head, _, rest = bytes(buffer).partition(b"\r\n\r\n")
        if self.is_hanging:
            while await stream.receive_some():
                pass
            return
        if self.is_down:
            await stream.send_all(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n")
            return
        lines = [line.partition(b":") for line in head.split(b"\r\n")]
        (key,) = [value.strip() for name, _, value in lines if name.lower() == b"sec-websocket-key"]
        accept = base64.b64encode(hashlib.sha1(key + _GUID).digest())
        fields = b"upgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: " + accept
        await stream.send_all(b"HTTP/1.1 101 Switching Protocols\r\n" + fields + b"\r\n\r\n")
        self.stream, self.members = stream, {}
        self.connections += 1
        self.unused.add(stream)
        buffer = bytearray(rest)
        while True:
            while (frame := _cut(buffer)) is not None:
                self.unused.discard(stream)
                opcode, data = frame
                if opcode == CLOSE:
                    async with self.writing:
                        await stream.send_all(bytes([0x88, len(data)]) + data)
                    return
                # The client has given a former connection up, so nobody reads the answers.
                if opcode == TEXT and stream is self.stream:
                    await self.hear(json.loads(data))
            data = await stream.receive_some()
            if not data:
                return
            buffer += data

    async def hear(self, message: list[Any]) -> None:
        """Keep a message of the client, and answer the message."""
        join_ref, ref, topic, event, payload = message
        if topic == "phoenix":
            if not self.is_mute:
                await self.reply(None, ref, topic, "ok", {})
            return
        self.heard.append(message)
        if event == "phx_join":
            how = self.joins[topic].popleft() if self.joins[topic] else "ok"
            if how == "ok":
                self.members[topic] = join_ref
            if how != "silent":
                await self.reply(join_ref, ref, topic, how, {"how": how})
        elif self.members.get(topic) != join_ref:
            await self.reply(None, ref, topic, "error", {"reason": "unmatched topic"})
        elif event == "phx_leave":
            self.end(topic)
            await self.reply(join_ref, ref, topic, "ok", {})
            await self.send(join_ref, join_ref, topic, "phx_close", {})
        else:
            how = payload["how"]
            if how in ("ok", "error", "odd"):
                await self.reply(join_ref, ref, topic, how, {"n": payload["n"]})

    def end(self, topic: str) -> str:
        """End a membership. Return its join_ref."""
        join_ref = self.members.pop(topic)
        self.old[topic].append(join_ref)
        return join_ref

    async def reply(self, *where: Any) -> None:
        join_ref, ref, topic, status, response = where
        payload = {"status": status, "response": response}
        await self.send(join_ref, ref, topic, "phx_reply", payload)

    async def send(self, *message: Any) -> None:
        await self.send_text(json.dumps(message))

    async def send_text(self, text: str) -> None:
        data = text.encode()
        size = len(data)
        head = bytes([0x81, size]) if size < 126 else bytes([0x81, 126, size >> 8, size & 255])
        async with self.writing:
            await self.stream.send_all(head + data)

    def pushes(self, topic: str) -> list[int]:
        """Return the numbers of the pushes that have come since the last call."""
        found = [each[4]["n"] for each in self.heard if each[2] == topic and each[3] == "do"]
        self.heard = [each for each in self.heard if each[2] != topic or each[3] != "do"]
        return found


def _cut(buffer: bytearray) -> tuple[int, bytes] | None:
    """Remove the first masked frame from a buffer, and return it. Return None if the frame is incomplete."""
    if len(buffer) < 2:
        return None
    size, start = buffer[1] & 127, 2
    if size == 126:
        size, start = int.from_bytes(buffer[2:4], "big"), 4
    if len(buffer) < start + 4 + size:
        return None
    mask, data = buffer[start : start + 4], buffer[start + 4 : start + 4 + size]
    opcode = buffer[0] & 15
    del buffer[: start + 4 + size]
    return opcode, bytes(byte ^ mask[place % 4] for place, byte in enumerate(data))


@define(eq=False)
class Push:
    """A push, its result in the model, and its real result."""

    number: int
    began: float
    result: str | None = None
    settled_at: float = 0.0
    scope: trio.CancelScope = field(factory=trio.CancelScope)


@define(eq=False)
class Room:
    """A channel of the client, with the messages and presences that it must show."""

    topic: str
    channel: ClientChannel
    view: PresenceView
    stack: AsyncExitStack
    got: list[Any] = field(factory=list)
    wanted: list[Any] = field(factory=list)
    # The presences according to the joins and leaves that the view has reported.
    shown: dict[str, list[str]] = field(factory=dict)
    # The presences on the server, with their refs.
    present: dict[str, list[str]] = field(factory=dict)
    has_state: bool = False


class Scripted:
    """The state of one run."""

    def __init__(self, world: World, nursery: trio.Nursery) -> None:
        self.world = world
        self.nursery = nursery
        self.random = world.random("operations")
        self.server = Server(world)
        self.socket: ClientSocket = None  # type: ignore[assignment] # `run` sets it
        self.rooms: dict[str, Room] = {}
        self.told: Counter[str] = Counter()
        self.rejoined_at: dict[str, float] = {}
        self.serial = 0
        self.malformed = 0
        self.what = ""

    def check(self, holds: object, problem: str) -> None:
        self.world.check(holds, f"{problem}, after {self.what}")

    def number(self) -> int:
        self.serial += 1
        return self.serial

    def a_room(self) -> Room:
        return self.random.choice([self.rooms[topic] for topic in sorted(self.rooms)])

    async def run(self) -> None:
        self.nursery.start_soon(self.server.main)
        async with open_socket(
            "ws://server:4000/socket",
            connect=partial(self.world.network.connect, source="client"),
            timeout=TIMEOUT,
            heartbeat_interval=HEARTBEAT,
            reconnect=RECONNECT,
            rejoin=REJOIN,
            connect_timeout=CONNECT,
            max_buffered=MOST,
        ) as self.socket:
            self.nursery.start_soon(self.listen, self.socket.events())
            for _ in range(self.world.params["operations"]):
                operation = Scripted.join
                if self.rooms:
                    operation = self.random.choices(*zip(*OPERATIONS, strict=True))[0]
                self.what = operation.__name__
                self.world.note("operation", what=self.what)
                await operation(self)
                await trio.sleep(1.0)
                self.compare()
            is_silent = self.random.random() < 0.3
            if is_silent:
                # The server does not answer the close frame, so the client must give up.
                self.server.stream.connection.hold()
            else:
                for room in self.rooms.values():
                    await room.stack.aclose()
            began = self.world.seconds
        lasted = self.world.seconds - began
        self.what = "the end"
        # The close handshake needs a round trip for each piece of a slow network.
        self.check(lasted <= CLOSE_TIMEOUT + 0.3, f"the client took {lasted:g} s to close")
        for room in self.rooms.values() if is_silent else ():
            await room.stack.aclose()

    async def listen(self, events: Feed[Lifecycle]) -> None:
        async for event in events:
            self.told[type(event).__name__] += 1
            if isinstance(event, Rejoined):
                self.rejoined_at[event.topic] = self.world.seconds

    def compare(self) -> None:
        """Compare the client with the model. Call this only while all channels are joined."""
        numbers = self.socket.statistics()
        found = (numbers.state, numbers.joined, numbers.channels, numbers.buffered)
        wanted = ("open", len(self.rooms), len(self.rooms), 0)
        self.check(found == wanted, f"the client's figures are {numbers}, not {wanted}")
        self.check(
            (numbers.malformed, numbers.connections) == (self.malformed, self.server.connections),
            f"the client's figures are {numbers}; {self.malformed} frames were malformed, and the server has had "
            f"{self.server.connections} connections",
        )
        for topic, room in self.rooms.items():
            self.check(room.channel.state == "joined", f"{topic} is {room.channel.state}")
            self.check(room.got == room.wanted, f"{topic} got {room.got}, not {room.wanted}")
            room.got, room.wanted = [], []
            refs = {
                key: [meta["phx_ref"] for meta in entry["metas"]]
                for key, entry in room.view.state.items()
            }
            pending = room.view.is_pending
            self.check(pending != room.has_state, f"the presence of {topic} is pending: {pending}")
            if room.has_state:
                self.check(refs == room.present, f"{topic} shows {refs}, not {room.present}")
            self.check(room.shown == refs, f"the changes of {topic} give {room.shown}, not {refs}")

    # Pushes

    def push(self, room: Room, how: str, timeout: float | None = None, text: str = "") -> Push:
        """Push in a new task."""
        push = Push(self.number(), self.world.seconds)
        payload = {"how": how, "n": push.number, "x": text}
        self.nursery.start_soon(self._push, room, push, payload, timeout)
        return push

    async def _push(
        self, room: Room, push: Push, payload: dict[str, Any], timeout: float | None
    ) -> None:
        with push.scope:
            try:
                answer = await room.channel.push("do", payload, timeout=timeout)
            except Refused as refused:
                push.result, answer = refused.status, refused.payload
            except PushTimeout:
                push.result, answer = "timeout", {"n": push.number}
            except ChannelClosed:
                push.result, answer = "closed", {"n": push.number}
            except BufferFull:
                push.result, answer = "full", {"n": push.number}
            else:
                push.result = "ok"
            self.check(answer == {"n": push.number}, f"push {push.number} was answered {answer}")
        push.settled_at = self.world.seconds

    def settled(self, push: Push, result: str, after: float = 0.0, slack: float = 1.5) -> None:
        """Check the result of a push and its time: `after` seconds, and at most `slack` more."""
        lasted = push.settled_at - push.began
        self.check(
            push.result == result, f"push {push.number} has the result {push.result}, not {result}"
        )
        self.check(
            after - 0.1 <= lasted <= after + slack,
            f"push {push.number} had its result {result} after {lasted:g} s, not {after:g}",
        )

    # Operations

    async def join(self) -> None:
        """Join a topic. The server may first refuse the join, or leave it without an answer."""
        free = [topic for topic in TOPICS if topic not in self.rooms]
        if not free:
            return
        topic = self.random.choice(free)
        script = self.random.choice(([], [], ["error"], ["silent"], ["error", "silent", "error"]))
        self.server.joins[topic].extend(script)
        channel = self.socket.channel(topic, {"p": 1}, wait=False, max_messages=KEPT)
        view = PresenceView(channel)
        stack = AsyncExitStack()
        room = Room(topic, channel, view, stack)
        view._on_join = lambda change: self.shows(room, change.key, change.joined, joins=True)
        view._on_leave = lambda change: self.shows(room, change.key, change.left, joins=False)
        channel.listen("said", lambda payload, join_ref: room.got.append(payload["n"]))
        before, began = self.told.copy(), self.world.seconds
        self.server.heard.clear()
        await stack.enter_async_context(channel)
        await channel.wait_joined()
        due = sum(
            REJOIN.delay(n + 1) + (TIMEOUT if how == "silent" else 0)
            for n, how in enumerate(script)
        )
        lasted = self.world.seconds - began
        self.check(
            due - 0.1 <= lasted <= due + 1.5 + 0.6 * len(script),
            f"{topic} was joined after {lasted:g} s, not {due:g}; the server answered {script}, then ok",
        )
        await trio.sleep(0.1)
        for name, how in (("JoinRejected", "error"), ("JoinTimedOut", "silent")):
            told = self.told[name] - before[name]
            self.check(told == script.count(how), f"{told} {name} were told for {script}")
        # A client whose join gets no answer sends a leave, because the server may have accepted the join.
        leaves = [each[2] for each in self.server.heard if each[3] == "phx_leave"]
        self.check(
            leaves == [topic] * script.count("silent"),
            f"the server answered the joins of {topic} with {script}, and got leaves of {leaves}",
        )
        self.check(channel.response == {"how": "ok"}, f"the response is {channel.response}")
        self.rooms[topic] = room

    def shows(self, room: Room, key: str, entry: Any, *, joins: bool) -> None:
        """Apply a change that the view has reported."""
        refs = [meta["phx_ref"] for meta in entry["metas"]]
        kept = [ref for ref in room.shown.get(key, []) if ref not in refs]
        room.shown[key] = [*kept, *refs] if joins else kept
        if not room.shown[key]:
            del room.shown[key]

    async def leave(self) -> None:
        """Leave a topic. Unanswered pushes must fail at once."""
        room = self.a_room()
        pushes = [self.push(room, "silent") for _ in range(self.random.randrange(3))]
        await trio.sleep(1.0)
        del self.rooms[room.topic]
        await room.stack.aclose()
        await trio.sleep(0.1)
        for push in pushes:
            self.settled(push, "closed", 1.0)
        self.check(
            room.topic not in self.server.members, f"the server got no leave of {room.topic}"
        )
        self.server.pushes(room.topic)

    async def closed_by_server(self) -> None:
        """Let the server close a channel. The channel's pushes must fail, and the client must not rejoin."""
        room = self.a_room()
        push = self.push(room, "silent")
        await trio.sleep(1.0)
        join_ref = self.server.end(room.topic)
        await self.server.send(join_ref, join_ref, room.topic, "phx_close", {})
        await trio.sleep(4.0)
        self.settled(push, "closed", 1.0)
        self.check(room.channel.state == "closed", f"{room.topic} is {room.channel.state}")
        late = self.push(room, "ok")
        await trio.sleep(0.1)
        self.settled(late, "closed")
        del self.rooms[room.topic]
        await room.stack.aclose()
        self.server.pushes(room.topic)

    async def push_some(self) -> None:
        """Push to a joined channel. The server answers the push, refuses it or ignores it."""
        room = self.a_room()
        hows = [self.random.choice(("ok", "ok", "error", "odd", "silent")) for _ in range(3)]
        pushes = [self.push(room, how) for how in hows]
        await trio.sleep(TIMEOUT + 0.8)
        for push, how in zip(pushes, hows, strict=True):
            if how == "silent":
                self.settled(push, "timeout", TIMEOUT)
            else:
                self.settled(push, how)
        sent, wanted = self.server.pushes(room.topic), [push.number for push in pushes]
        self.check(sorted(sent) == wanted, f"the server got the pushes {sent}, not {wanted}")

    async def outage(self) -> None:
        """Crash a channel, or break the connection. Pushes must wait, up to the limit, until the rejoin."""
        random, room = self.random, self.a_room()
        how = random.choice(("crash", "crash", "reset", "close", "down"))
        lost = self.push(room, "silent")
        await trio.sleep(1.0)
        script = random.choice(([], [], ["error"], ["silent"]))
        self.server.joins[room.topic].extend(script)
        before = self.told.copy()
        await self.break_off(room, how)
        waiting, gone, late = await self.push_in_an_outage(room)
        if random.random() < 0.2:
            await self.leave_in_an_outage(room, [*waiting, lost])
            self.server.is_down = False
            await trio.sleep(8.0)
            return
        self.server.is_down = False
        lasts = 10.0 + (TIMEOUT if "silent" in script else 0)
        await trio.sleep(lasts)
        self.settled(lost, "timeout", TIMEOUT)
        sent = self.server.pushes(room.topic)
        wanted = [lost.number, *(push.number for push in waiting)]
        self.check(
            sent == wanted, f"the server got the pushes {sent} of {room.topic}, not {wanted}"
        )
        for push in waiting:
            self.check(push.result == "ok", f"push {push.number} waited, and has {push.result}")
        for push in (*gone, *late):
            self.check(
                push.result in ("full", "timeout", None),
                f"push {push.number} was full, late or cancelled, and has {push.result}",
            )
        is_lost = how != "crash"
        told = {
            name: self.told[name] - before[name] for name in ("Lost", "ChannelLost", "Rejoined")
        }
        rooms = len(self.rooms) if is_lost else 1
        right = {"Lost": int(is_lost), "ChannelLost": rooms, "Rejoined": rooms}
        self.check(told == right, f"{how}: the client told {told}, not {right}")

    async def break_off(self, room: Room, how: str) -> None:
        """Crash a channel, or end the connection."""
        if how == "crash":
            room.has_state = False
            join_ref = self.server.end(room.topic)
            await self.server.send(join_ref, join_ref, room.topic, "phx_error", {})
        else:
            for each in self.rooms.values():
                each.has_state = False
                self.server.end(each.topic)
            self.server.is_down = how == "down"
            if how == "close":
                async with self.server.writing:
                    await self.server.stream.send_all(bytes([0x88, 2]) + (1012).to_bytes(2, "big"))
            else:
                self.server.stream.connection.reset()
        await self.world.eventually(
            f"{room.topic} is lost by {how}", lambda: room.channel.state != "joined", within=2.0
        )

    async def push_in_an_outage(self, room: Room) -> tuple[list[Push], list[Push], list[Push]]:
        """Push while the channel is lost. Return the waiting, the refused or cancelled, and the late pushes."""
        random = self.random
        waiting: list[Push] = []
        gone: list[Push] = []
        late: list[Push] = []
        # All these pushes happen before the client tries to join or to connect again.
        for _ in range(random.choice((0, 1, 4, 5, 6, 7))):
            is_short = random.random() < 0.2
            push = self.push(room, "ok", 0.02 if is_short else 20.0)
            await self.world.settle()
            if len(waiting) + len(late) >= MOST:
                self.check(push.result == "full", f"push {push.number} has {push.result}, not full")
                self.world.sometimes("too many pushes wait")
                gone.append(push)
            elif is_short:
                late.append(push)
            elif random.random() < 0.2:
                push.scope.cancel()
                gone.append(push)
                await self.world.settle()
            else:
                waiting.append(push)
        if room.channel.state == "joined":
            return waiting, gone, late
        count = self.socket.statistics().buffered
        most = len(waiting) + len(late)
        self.check(
            most - len(late) <= count <= most, f"{most} pushes of {room.topic} wait, not {count}"
        )
        return waiting, gone, late

    async def long_outage(self) -> None:
        """Let an outage last about as long as a time-out of the client, or a little longer."""
        random, room = self.random, self.a_room()
        how = random.choice(("refuses", "hangs", "partition", "hold"))
        due = random.choice(
            (0.2, 0.7, 1.7, TIMEOUT, CONNECT, CONNECT + 0.7, HEARTBEAT, 2 * HEARTBEAT)
        )
        lasts = max(0.1, due + random.choice((-0.5, 0.7)))
        self.what += f" of {lasts:g} s, {how}"
        lost, began, attempts = self.told["Lost"], self.world.seconds, len(self.server.attempts)
        await self.begin_outage(room, how)
        short = random.choice((0.3, TIMEOUT, lasts - 0.6))
        pushes = [
            (timeout, self.push(room, "ok", timeout))
            for timeout in (max(0.1, short), lasts + random.choice((1.0, 8.0)))
        ]
        await trio.sleep_until(trio.current_time() + lasts - (self.world.seconds - began))
        self.end_outage(how)
        ended = self.world.seconds
        await self.world.eventually(
            "the client is back",
            lambda: all(room.channel.state == "joined" for room in self.rooms.values()),
            within=self.longest_return(how, lasts),
        )
        # A heartbeat that was under way must not end the connection later.
        await trio.sleep(1.0)
        is_lost = self.told["Lost"] > lost
        if how in ("hold", "partition"):
            self.check(
                is_lost or lasts < 2 * HEARTBEAT + 1, "the client did not notice the silence"
            )
            self.check(
                not is_lost or lasts > HEARTBEAT - 1, "the client gave up before the time-out"
            )
        else:
            self.check(self.told["Lost"] == lost + 1, "the client must tell one loss")
            self.check_attempts(how, began, self.server.attempts[attempts:], ended)
        await trio.sleep(max(0.0, pushes[1][0] + 2.5 - (self.world.seconds - began)))
        for timeout, push in pushes:
            self.check_push_of(
                push, timeout, self.rejoined_at[room.topic] if is_lost else ended, how
            )
        if is_lost and how in ("hold", "partition"):
            self.all_lost()
        self.server.pushes(room.topic)
        self.world.sometimes("an outage ends before the client notices it", not is_lost)

    async def begin_outage(self, room: Room, how: str) -> None:
        if how == "partition":
            self.world.network.partition("client", "server")
        elif how == "hold":
            self.server.stream.connection.hold()
        else:
            self.server.is_hanging = how == "hangs"
            await self.break_off(room, "down" if how == "refuses" else "reset")

    def end_outage(self, how: str) -> None:
        self.server.is_down = self.server.is_hanging = False
        if how == "partition":
            self.world.network.heal()
        elif how == "hold":
            for connection in self.world.network.connections:
                connection.release()

    @staticmethod
    def longest_return(how: str, lasts: float) -> float:
        """Return the seconds after an outage by which all channels must be joined again."""
        attempt = 0.0 if how == "refuses" else CONNECT
        silence = max(0.0, 2 * HEARTBEAT - lasts) if how in ("hold", "partition") else 0.0
        return attempt + silence + RECONNECT.then + 3.0

    def all_lost(self) -> None:
        for room in self.rooms.values():
            room.has_state = False
            self.server.old[room.topic].append(room.topic)

    def check_attempts(self, how: str, began: float, attempts: list[float], ended: float) -> None:
        """Check the time of each attempt to connect. The table has the waits, and a hanging attempt times out."""
        last, took = began, 0.0
        for number, at in enumerate(attempts, 1):
            due = RECONNECT.delay(number) + took
            self.check(
                due - 0.5 <= at - last <= due + 1.6,
                f"attempt {number} came {at - last:g} s after the one before, not {due:g} s",
            )
            last, took = at, CONNECT if how == "hangs" and at < ended else 0.0

    def check_push_of(self, push: Push, timeout: float, back: float, how: str) -> None:
        """Check the result of a push in an outage that ended at `back` for its channel."""
        due = push.began + timeout
        # A push that was sent before the loss gets no answer, so it times out.
        was_sent = how in ("hold", "partition") and back in self.rejoined_at.values()
        if was_sent or due < back - 0.5:
            self.settled(push, "timeout", timeout)
        elif due > back + 1.6:
            self.check(push.result == "ok", f"push {push.number} has the result {push.result}")
            self.check(
                push.settled_at <= back + 1.6,
                f"push {push.number} was answered {push.settled_at - back:g} s after the outage",
            )

    async def leave_in_an_outage(self, room: Room, pushes: list[Push]) -> None:
        """Leave a lost channel. Its pushes must fail at once, and the client must not rejoin it."""
        self.what += ", and a leave"
        await room.stack.aclose()
        await trio.sleep(0.1)
        for push in pushes:
            self.check(
                push.result in ("closed", "ok"),
                f"push {push.number} of {room.topic} has {push.result}, and the client has left",
            )
        closed_at = [push.settled_at for push in pushes if push.result == "closed"]
        self.check(
            all(self.world.seconds - at < 1.0 for at in closed_at), f"pushes failed at {closed_at}"
        )
        del self.rooms[room.topic]
        self.server.joins[room.topic].clear()
        self.server.pushes(room.topic)

    async def backlog(self) -> None:
        """Push while the client cannot write, because the window of the connection is full."""
        room, window = self.a_room(), self.world.knobs.window
        connection = self.server.stream.connection
        connection.hold()
        pushes = [self.push(room, "ok", 20.0, "x" * (window + 100) if window < 10_000 else "")]
        await trio.sleep(0.2)
        for _ in range(self.random.choice((1, 2))):
            pushes.append(self.push(room, "ok", 20.0))
            await trio.sleep(self.random.choice((0.0, 0.1)))
        connection.release()
        # In the smallest pieces, a message of this size takes most of this time.
        await trio.sleep(5.0)
        for push in pushes:
            self.settled(push, "ok", slack=4.0)
        sent, wanted = self.server.pushes(room.topic), [push.number for push in pushes]
        self.check(sent == wanted, f"the server got the pushes {sent}, not {wanted}")

    async def old_frames(self) -> None:
        """Send late frames of an earlier membership. The client must ignore them."""
        room = self.a_room()
        topic, old = room.topic, self.server.old[room.topic]
        join_ref = self.server.members[topic]
        if old:
            self.world.sometimes("a frame of an earlier membership comes")
            stale = self.random.choice(old)
            for event in self.random.sample(
                ("said", "phx_close", "phx_error", "presence_state"), 2
            ):
                await self.server.send(stale, stale, topic, event, {"n": -1})
            await self.server.reply(stale, join_ref, topic, "error", {})
        for where in self.random.sample((join_ref, None, ""), 2):
            payload = {"n": self.number()}
            await self.server.send(where, None, topic, "said", payload)
            room.wanted.append(payload["n"])
        await self.server.send(None, None, "room:elsewhere", "said", {"n": -2})
        await self.server.reply(join_ref, "999999", topic, "ok", {})

    async def presences(self) -> None:
        """Let users come and go. Send the presence state before, between or after the diffs, or not at all."""
        room, random = self.a_room(), self.random
        join_ref = self.server.members[room.topic]
        count = random.randint(0, 4)
        place = (
            random.choice((None, 0, count))
            if room.has_state
            else random.choice((None, 0, 1, count))
        )
        for index in range(count + 1):
            if index == place:
                state = {key: _entry(refs) for key, refs in room.present.items()}
                await self.server.send(join_ref, None, room.topic, "presence_state", state)
                room.has_state = True
            if index < count:
                diff = self.change(room)
                await self.server.send(None, None, room.topic, "presence_diff", diff)

    def change(self, room: Room) -> dict[str, Any]:
        """Change the presences of a room, and return the diff."""
        key, ref = self.random.choice(KEYS), f"r{self.number()}"
        refs = room.present.get(key, [])
        joins: dict[str, Any] = {}
        leaves: dict[str, Any] = {}
        if not refs or self.random.random() < 0.5:
            joins[key] = _entry([ref])
            room.present[key] = [*refs, ref]
        else:
            gone = self.random.choice(refs)
            leaves[key] = _entry([gone])
            room.present[key] = [each for each in refs if each != gone]
            if not room.present[key]:
                del room.present[key]
        return {"joins": joins, "leaves": leaves}

    async def users_change_unseen(self) -> None:
        """Let users come and go while a channel is lost."""
        room = self.a_room()
        await self.break_off(room, "crash")
        for _ in range(3):
            self.change(room)
        await trio.sleep(2.0)

    async def feeds(self) -> None:
        """Read a feed late. The feed must keep the newest messages, and report the number of lost messages."""
        room = self.a_room()
        with room.channel.on("said") as feed:
            for count in (self.random.randint(1, 3), self.random.randint(1, 9)):
                sent = []
                for _ in range(count):
                    payload = {"n": self.number()}
                    await self.server.send(None, None, room.topic, "said", payload)
                    room.wanted.append(payload["n"])
                    sent.append(payload["n"])
                await trio.sleep(0.5)
                read: list[int] = []
                lost = 0
                while len(feed) or lost < count - KEPT:
                    try:
                        read.append((await feed.__anext__())["n"])
                    except MessagesDropped as error:
                        lost += error.count
                wanted = sent[-KEPT:]
                if lost == count > KEPT:
                    wanted = []
                self.check(
                    (read, lost) == (wanted, max(0, count - len(wanted)) if count > KEPT else 0),
                    f"{room.topic} sent {sent}; the feed gave {read}, and {lost} were lost",
                )

    async def malformed_frame(self) -> None:
        text = self.random.choice(("", "{}", "[1, 2]", '[null,null,"room:a","said"]', "nonsense"))
        await self.server.send_text(text)
        self.malformed += 1

    async def silence(self) -> None:
        """Let the server ignore heartbeats. The client must notice that, and connect again."""
        before, began = self.told.copy(), self.world.seconds
        self.server.is_mute = True
        await self.world.eventually(
            "the client notices the silence",
            lambda: self.told["Lost"] > before["Lost"],
            within=2 * HEARTBEAT + 1,
        )
        lasted = self.world.seconds - began
        # A heartbeat that was under way gets no answer either.
        travels = self.world.knobs.latency[1] + 2 * self.world.knobs.quantum
        self.check(
            lasted >= HEARTBEAT - travels - 0.1,
            f"the client waited only {lasted:g} s for an answer",
        )
        self.server.is_mute = False
        for room in self.rooms.values():
            room.has_state = False
            self.server.old[room.topic].append(room.topic)
        await trio.sleep(3.0)

    async def patience(self) -> None:
        """Let the server answer heartbeats. The client must keep the connection."""
        before = self.server.connections
        await trio.sleep(3 * HEARTBEAT)
        self.check(self.server.connections == before, "the client connected again without a reason")
        seconds = await self.socket.ping()
        self.check(0 <= seconds < 2.0, f"a ping took {seconds:g} s")


def _entry(refs: list[str]) -> dict[str, Any]:
    return {"metas": [{"phx_ref": ref} for ref in refs]}


OPERATIONS: list[tuple[Any, float]] = [
    (Scripted.join, 4),
    (Scripted.leave, 1),
    (Scripted.closed_by_server, 0.7),
    (Scripted.push_some, 3),
    (Scripted.outage, 6),
    (Scripted.long_outage, 5),
    (Scripted.backlog, 2),
    (Scripted.old_frames, 3),
    (Scripted.presences, 7),
    (Scripted.users_change_unseen, 2),
    (Scripted.feeds, 2),
    (Scripted.malformed_frame, 0.7),
    (Scripted.silence, 0.5),
    (Scripted.patience, 0.5),
]


@scenario(params={"operations": 30}, invariants=("all",))
@small_bounds
async def scripted_server(world: World) -> None:
    """Run random operations of one client. The model knows the exact result of each."""
    async with trio.open_nursery() as nursery:
        await Scripted(world, nursery).run()
        nursery.cancel_scope.cancel()

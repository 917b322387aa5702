"""Sweeps over sockets in memory: the flusher with its out-buffers, and the links between the workers of one machine.

    ashtree simulate tests.simulation.sweeps.channels.sockets:flusher --seeds 1-1000
    ashtree simulate tests.simulation.sweeps.channels.sockets:workers --seeds 1-1000

The sockets are Python objects. A send accepts a random part of the data, and a peer reads when the sweep tells it to.
So the sweep knows exactly how many bytes a buffer holds.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

import trio

from actors import GenServer, Pid, Reply, call
from channels import Broadcast, PubSub
from channels.pubsub.workers.adapter import WorkersAdapter
from channels.pubsub.workers.links import Link
from channels.transports.contract import Signal
from channels.transports.transports import SocketTransport, Transports
from supervision import Supervisor
from supervision.simulation import World
from tests.laws.scenarios import scenario
from tests.simulation.sweeps.bounds import small_bounds

_FIRST_NUMBER = 1_000_000


class MemorySocket(socket.socket):
    """One end of a connection in memory. `Sockets.pair` makes it.

    Attributes:
        capacity: the bytes that the other end may leave unread.
        is_stalled: True while this end does not read.
    """

    def __init__(self, sockets: Sockets, number: int) -> None:
        # Do not call the base class, because a simulation has no real sockets.
        self.sockets = sockets
        self.number = number
        self.peer: MemorySocket = self
        self.inbox = bytearray()
        self.capacity = 1 << 30
        self.is_stalled = False
        self.has_ended = self.is_shut = False

    def __repr__(self) -> str:
        return f"<socket {self.number}>"

    def fileno(self) -> int:
        return -1 if self.is_shut else self.number

    def setblocking(self, flag: bool) -> None:
        assert not flag

    def send(self, data: Any, flags: int = 0) -> int:
        peer, random = self.peer, self.sockets.random
        if self.has_ended or peer.is_shut:
            raise BrokenPipeError("the peer has closed the socket in memory")
        room = min(len(data), peer.capacity - len(peer.inbox))
        if room <= 0:
            raise BlockingIOError
        if random.random() < 0.3:
            room = random.randint(1, room)
        peer.inbox += bytes(data[:room])
        self.sockets.changed()
        return room

    def recv(self, size: int, flags: int = 0) -> bytes:
        if self.is_stalled or not (self.inbox or self.peer.has_ended):
            raise BlockingIOError
        data = bytes(self.inbox[:size])
        del self.inbox[:size]
        self.sockets.changed()
        return data

    def shutdown(self, how: int) -> None:
        self.has_ended = True
        self.sockets.changed()

    def close(self) -> None:
        self.is_shut = self.has_ended = True
        self.sockets.changed()

    def is_readable(self) -> bool:
        return not self.is_stalled and bool(self.inbox or self.peer.has_ended)

    def is_writable(self) -> bool:
        return self.peer.is_shut or len(self.peer.inbox) < self.peer.capacity


class Sockets:
    """All sockets of one run, and the functions that replace Trio's waits for sockets."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.by_number: dict[int, MemorySocket] = {}
        self.change = trio.Event()

    def pair(self) -> tuple[MemorySocket, MemorySocket]:
        """Return two connected sockets."""
        number = _FIRST_NUMBER + len(self.by_number)
        one, other = MemorySocket(self, number), MemorySocket(self, number + 1)
        one.peer, other.peer = other, one
        self.by_number[number], self.by_number[number + 1] = one, other
        return one, other

    def changed(self) -> None:
        self.change.set()
        self.change = trio.Event()

    def find(self, sock: Any) -> MemorySocket:
        return self.by_number[sock] if isinstance(sock, int) else sock

    async def wait_readable(self, sock: Any) -> None:
        await self._wait(self.find(sock), MemorySocket.is_readable)

    async def wait_writable(self, sock: Any) -> None:
        await self._wait(self.find(sock), MemorySocket.is_writable)

    async def _wait(self, sock: MemorySocket, is_ready: Any) -> None:
        await trio.lowlevel.checkpoint()
        while not is_ready(sock):
            if sock.is_shut:
                raise trio.ClosedResourceError("another task closed this socket")
            await self.change.wait()

    def notify_closing(self, sock: Any) -> None:
        self.find(sock).is_shut = True
        self.changed()


@contextmanager
def in_memory(random: Random) -> Iterator[Sockets]:
    """Replace Trio's waits for sockets while the block runs."""
    sockets = Sockets(random)
    names = ("wait_readable", "wait_writable", "notify_closing")
    real = {name: getattr(trio.lowlevel, name) for name in names}
    for name in names:
        setattr(trio.lowlevel, name, getattr(sockets, name))
    try:
        yield sockets
    finally:
        for name, function in real.items():
            setattr(trio.lowlevel, name, function)


# The flusher


class Written:
    """One transport, its peer, and the frames that the transport has accepted."""

    def __init__(self, name: str, transport: SocketTransport, peer: MemorySocket) -> None:
        self.name = name
        self.transport = transport
        self.peer = peer
        self.accepted = bytearray()
        self.read = bytearray()
        self.told: list[Any] = []
        self.has_overflowed = self.has_finished = False


class FlusherSweep:
    """The state of one run."""

    def __init__(self, world: World, sockets: Sockets, nursery: trio.Nursery) -> None:
        self.world = world
        self.random = world.random("operations")
        self.sockets = sockets
        self.most = self.random.choice((2, 5, 1000))
        self.bytes = self.random.choice((50, 300, 100_000))
        self.transports = Transports(
            spawn=nursery.start_soon,
            use_poller=False,
            max_messages=self.most,
            max_bytes=self.bytes,
        )
        nursery.start_soon(self.transports.flusher.main)
        self.written: list[Written] = []
        self.serial = 0

    def check(self, one: Written, holds: object, problem: str) -> None:
        limits = f"with the limits {self.most} and {self.bytes}"
        self.world.check(holds, f"the out-buffer {one.name} {limits}: {problem}")

    def connect(self) -> None:
        ours, peer = self.sockets.pair()
        peer.capacity = self.random.choice((40, 200, 100_000))
        self.serial += 1
        told: list[Any] = []
        transport: Any = self.transports.attach(ours, told.append)
        one = Written(f"{self.serial}", transport, peer)
        one.told = told
        self.written.append(one)

    def put(self, one: Written) -> None:
        """Put a frame. Check that the buffer accepts the frame if there is room, and drops it otherwise."""
        size = self.random.choice((1, 10, 30, self.bytes // 2, self.bytes, self.bytes + 1))
        self.serial += 1
        frame = f"{self.serial}".encode().ljust(min(size, 2000), b".")
        before = one.transport.out.statistics()
        one.transport.out.put(frame)
        is_empty = not before.waiting_bytes
        fits = before.waiting_bytes + len(frame) <= self.bytes or is_empty
        has_room = before.waiting_messages < self.most or not before.waiting_messages
        is_open = not (one.has_overflowed or one.has_finished)
        is_accepted = fits and has_room and is_open
        after = one.transport.out.statistics()
        dropped = after.dropped_messages - before.dropped_messages
        self.check(
            one,
            dropped == (not is_accepted),
            f"a frame of {len(frame)} bytes was {'dropped' if dropped else 'accepted'}; before it was {before}",
        )
        if is_accepted:
            one.accepted += frame
        elif is_open:
            one.has_overflowed = True
            self.world.sometimes("an out-buffer overflows")
            self.check(one, one.told[-1:] == [Signal.OVERFLOW], f"it told {one.told}")

    def read(self, one: Written, size: int) -> None:
        try:
            one.read += one.peer.recv(size)
        except BlockingIOError:
            pass

    def finish(self, one: Written) -> None:
        """Write a last frame, which always fits."""
        if not one.has_finished:
            one.has_finished = True
            one.transport.finish(b"<the end>")
            one.accepted += b"<the end>"

    async def run(self) -> None:
        for _ in range(self.random.choice((3, 3, 12))):
            self.connect()
        for _ in range(self.world.params["operations"]):
            one = self.random.choice(self.written)
            what = self.random.choices(
                ("put", "put to all", "read", "wait", "finish", "connect"),
                (10, 1, 5, 6, 0.4, 0.4),
            )[0]
            if what == "put":
                for _ in range(self.random.choice((1, 1, 2, 5))):
                    self.put(one)
            elif what == "put to all":
                for each in self.written:
                    self.put(each)
            elif what == "read":
                self.read(one, self.random.choice((1, 50, 100_000)))
            elif what == "wait":
                await trio.sleep(0.01)
                await self.world.settle()
                self.nothing_waits_for_nothing()
            elif what == "finish":
                self.finish(one)
            else:
                self.connect()
            for each in self.written:
                self.check(
                    each, each.accepted.startswith(each.read), f"the peer read {bytes(each.read)!r}"
                )
        await self.drain()

    def nothing_waits_for_nothing(self) -> None:
        """Check that each peer has got everything by now, unless its own buffer is full."""
        for one in self.written:
            came = len(one.read) + len(one.peer.inbox)
            is_full = len(one.peer.inbox) >= one.peer.capacity
            self.check(
                one,
                is_full or came == len(one.accepted),
                f"{len(one.accepted) - came} bytes still wait, although the peer has room",
            )

    async def drain(self) -> None:
        """Let the peers read everything. Check that they get all accepted frames."""
        for _ in range(30 + max(len(each.accepted) // each.peer.capacity for each in self.written)):
            for one in self.written:
                self.read(one, 100_000)
            await trio.sleep(0.01)
        for one in self.written:
            read, wanted = bytes(one.read), bytes(one.accepted)
            self.check(one, read == wanted, f"the peer read {read!r} of {wanted!r}")
            left = one.transport.out.statistics()
            self.check(
                one,
                (left.waiting_bytes, left.waiting_messages, left.catching_up) == (0, 0, False),
                f"everything is read, but the figures are {left}",
            )
            self.check(
                one, one.peer.peer.has_ended == one.has_finished, "its end and `finish` disagree"
            )
            overflows = one.told.count(Signal.OVERFLOW)
            self.check(one, overflows == one.has_overflowed, f"it told {one.told}")
            one.peer.close()
            await trio.sleep(0.01)
            if one.has_finished:
                self.check(
                    one, one.told[-1:] == [Signal.FINISHED], f"it finished and told {one.told}"
                )
            one.transport.close()
        figures = self.transports.flusher.statistics()
        self.world.check(
            figures.marked == figures.catching_up == 0, f"all is written, but there are {figures}"
        )


@scenario(params={"operations": 150}, invariants=("all",))
@small_bounds
async def flusher(world: World) -> None:
    """Put frames into several out-buffers, and read them at random times."""
    with in_memory(world.random("sockets")) as sockets:
        async with trio.open_nursery() as nursery:
            await FlusherSweep(world, sockets, nursery).run()
            nursery.cancel_scope.cancel()


# The workers


class Ear(GenServer[list[Any]]):
    """A subscriber of one worker."""

    async def init(self, pubsub: PubSub) -> None:
        self.state: list[Any] = []
        for topic in ("a", "b"):
            pubsub.subscribe(topic)

    async def handle_call(self, request: Any, sender: Any) -> Reply:
        heard, self.state = self.state, []
        return Reply(heard)

    async def handle_info(self, message: Broadcast) -> None:
        self.state.append((message.payload["from"], message.payload["n"]))


class Worker(WorkersAdapter):
    """The adapter of a worker, which also counts what it drops for each other worker."""

    def __init__(self, number: int, **options: Any) -> None:
        super().__init__(node_name=f"w{number}", **options)
        self.targets: dict[Any, int] = {}
        self.dropped_for = [0, 0, 0]

    def join(self, sock: MemorySocket, target: int) -> None:
        self.targets[sock] = target
        self.connect(sock)

    def waiting(self) -> list[int]:
        """Return the bytes that wait on each link."""
        return [link.waiting_bytes for link in self._links]

    def _drop(self, link: Link) -> None:
        self.dropped_for[self.targets[link._socket]] += 1
        super()._drop(link)


class Workers:
    """The state of one run: three workers and the links between them."""

    def __init__(self, world: World, sockets: Sockets, nursery: trio.Nursery) -> None:
        self.world = world
        self.random = world.random("operations")
        self.sockets = sockets
        self.nursery = nursery
        self.most = self.random.choice((2000, 1 << 23))
        self.pubsubs: list[PubSub] = []
        self.adapters: list[Worker] = []
        self.ends: list[MemorySocket] = []
        self.ears: list[Pid] = []
        self.sent: list[list[tuple[int, int]]] = [[], [], []]
        self.heard: list[list[tuple[int, int]]] = [[], [], []]
        # With a long interval, no heartbeat repairs a message that waits for nothing.
        self.heartbeat = self.random.choice((0.5, 0.5, 25.0))
        self.serial = 0

    async def start(self) -> None:
        for number in range(3):
            adapter = Worker(number, heartbeat=self.heartbeat, max_waiting_bytes=self.most)
            for other, before in enumerate(self.adapters):
                ours, theirs = self.sockets.pair()
                for end in (ours, theirs):
                    end.capacity = self.random.choice((500, 5000, 1 << 20))
                # A worker is connected before it starts, and those that were started before it while they run.
                before.join(theirs, number)
                adapter.join(ours, other)
                self.ends += [ours, theirs]
            self.adapters.append(adapter)
            pubsub = PubSub(adapter)
            await Supervisor.start_link([pubsub.child_spec()], label=f"worker {number}")
            self.pubsubs.append(pubsub)
            self.ears.append(await Ear.start(pubsub))
        await trio.sleep(2.0)

    async def step(self) -> None:
        random = self.random
        what = random.choices(
            ("send", "stall", "go", "wait", "direct", "at once"), (8, 2, 3, 3, 2, 2)
        )[0]
        number = random.randrange(3)
        if what in ("stall", "go"):
            random.choice(self.ends).is_stalled = what == "stall"
            self.sockets.changed()
        elif what == "wait":
            await trio.sleep(random.choice((0.0, 0.01, 0.3)))
        elif what == "at once":
            await self.arrives_at_once()
        elif what == "send":
            for _ in range(random.choice((1, 3, 10))):
                payload = self.payload(number)
                topic = random.choice(("a", "b"))
                self.pubsubs[number].broadcast(topic, Broadcast(topic, "e", payload))
                for each in range(3):
                    self.sent[each].append((number, payload["n"]))
        else:
            target = random.randrange(3)
            payload = self.payload(number)
            self.pubsubs[number].direct_broadcast(f"w{target}", "a", Broadcast("a", "e", payload))
            self.sent[target].append((number, payload["n"]))
        for each, adapter in enumerate(self.adapters):
            waiting = adapter.waiting()
            self.world.check(
                all(0 <= size <= self.most for size in waiting),
                f"{waiting} bytes wait in the worker {each}, with a limit of {self.most} for a link",
            )

    def payload(self, number: int) -> dict[str, Any]:
        self.serial += 1
        return {"from": number, "n": self.serial, "x": "x" * self.random.choice((1, 100, 600))}

    def all_read(self) -> None:
        for end in self.ends:
            end.is_stalled = False
        self.sockets.changed()

    async def arrives_at_once(self) -> None:
        """Let all workers read. Check that every message arrives before time passes, unless some were dropped."""
        self.all_read()
        await self.world.settle()
        for number, ear in enumerate(self.ears):
            self.heard[number] += await call(ear, "heard")
        if any(adapter.statistics()["dropped"] for adapter in self.adapters):
            return
        for number, heard in enumerate(self.heard):
            late = sorted(set(self.sent[number]) - set(heard))
            self.world.check(
                not late, f"everybody reads, but the worker {number} still waits for {late}"
            )

    async def end(self) -> None:
        """Let all workers read. Compare the received messages with the sent messages."""
        self.all_read()
        await trio.sleep(3.0)
        await self.world.settle()
        figures = [adapter.statistics() for adapter in self.adapters]
        self.world.sometimes("a worker drops messages", sum(each["dropped"] for each in figures))
        for number, ear in enumerate(self.ears):
            heard, sent = self.heard[number] + await call(ear, "heard"), self.sent[number]
            for sender in range(3):
                own = [n for who, n in heard if who == sender]
                self.world.check(
                    own == sorted(set(own)),
                    f"the worker {number} got the messages {own} of worker {sender} out of order",
                )
            extra = set(heard) - set(sent)
            self.world.check(not extra, f"the worker {number} got {extra}, which were not for it")
            missing = [each for each in sent if each not in set(heard)]
            dropped = [adapter.dropped_for[number] for adapter in self.adapters]
            for sender in range(3):
                count = sum(who == sender for who, _ in missing)
                self.world.check(
                    count <= dropped[sender],
                    f"the worker {number} misses {count} messages of worker {sender}, which dropped "
                    f"{dropped[sender]}",
                )
            self.world.check(
                figures[number]["waiting_bytes"] == 0,
                f"all workers read, but bytes wait: {figures[number]}",
            )
            self.world.check(
                figures[number]["malformed"] == figures[number]["repeated"] == 0,
                f"the worker {number} counts {figures[number]}",
            )
            lost = figures[number]["lost"]
            self.world.check(
                lost <= sum(dropped),
                f"the worker {number} noticed {lost} lost messages, and {sum(dropped)} were dropped",
            )
        for number, adapter in enumerate(self.adapters):
            nodes = sorted(node.name for node in adapter.nodes())
            wanted = [f"w{each}" for each in range(3) if each != number]
            self.world.check(nodes == wanted, f"the worker {number} knows {nodes}, not {wanted}")


@scenario(params={"operations": 60}, invariants=("all",))
@small_bounds
async def workers(world: World) -> None:
    """Let three workers broadcast to each other, while some of them do not read."""
    with in_memory(world.random("sockets")) as sockets:
        async with trio.open_nursery() as nursery:
            state = Workers(world, sockets, nursery)
            await state.start()
            for _ in range(world.params["operations"]):
                await state.step()
            await state.end()
            nursery.cancel_scope.cancel()

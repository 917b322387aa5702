"""A sweep of the real pollers, flusher, out-buffers and backlog over socket pairs of the kernel.

    ashtree simulate tests.simulation.sweeps.channels.socket_pairs:transports --seeds 1-1000

Both ends of each pair belong to this process, and the pollers read them with their own epoll objects. Only the waits of
Trio are replaced, so that virtual time does not pass while the kernel has an event. Some sends take only a part of the
data, some reads return less than there is, and some fail for lack of memory. Most runs scale the limits of the modules
down, so that a few sockets reach them.
"""

from __future__ import annotations

import _socket
import select
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from random import Random
from typing import Any

import trio
from attrs import define, field

from channels.transports import out_buffer, poller
from channels.transports.contract import Signal
from channels.transports.transports import SocketTransport, Transports
from supervision.simulation import World
from tests.laws.scenarios import scenario

__all__ = ["transports"]

_LAST = b"<the end>"
_OUT_OF_MEMORY_PAUSE = (
    0.1  # documented: the poller reads all sockets again after a tenth of a second
)
_QUIET = (
    5.0  # documented: a socket is quiet if its last two reads were more than five seconds apart
)
_MOST_READ = 65536  # documented: at most 64 KiB at a time


class PairSocket(socket.socket):
    """The server's end of a pair. `Kernel.pair` makes it.

    Attributes:
        capacity: the bytes that the peer may leave unread.
        taken: the bytes that sends have taken so far.
        failures: the errors of the next reads.
    """

    def __init__(self, kernel: Kernel, real: _socket.socket) -> None:
        # Do not call the base class, because the fence of a simulation refuses new sockets.
        self.kernel = kernel
        self.real = real
        self.capacity = 1 << 30
        self.taken = self.peer_has_read = 0
        self.failures: list[BaseException] = []
        self.is_shut = False

    def __repr__(self) -> str:
        return f"<the server's end of a pair, with the number {self.fileno()}>"

    def fileno(self) -> int:
        return self.real.fileno()

    def recv(self, size: int, flags: int = 0) -> bytes:
        if self.failures:
            failure = self.failures.pop()
            if isinstance(failure, MemoryError):
                self.kernel.note_out_of_memory()
            raise failure
        random = self.kernel.random
        return self.real.recv(random.randint(1, size) if random.random() < 0.2 else size)

    def room(self) -> int:
        return self.capacity - (self.taken - self.peer_has_read)

    def send(self, data: Any, flags: int = 0) -> int:
        if not self.kernel.peer_is_gone(self):
            if self.room() <= 0:
                raise BlockingIOError
            data = data[: self.room()]
            if self.kernel.random.random() < 0.3:
                data = data[: self.kernel.random.randint(1, len(data))]
        sent = self.real.send(data)
        self.taken += sent
        return sent

    def shutdown(self, how: int) -> None:
        self.is_shut = True
        self.real.shutdown(how)

    def close(self) -> None:
        self.real.close()


class Kernel:
    """The socket pairs of one run, and the functions that replace Trio's waits."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.ends: dict[int, PairSocket] = {}
        self.peers: dict[PairSocket, _socket.socket] = {}
        self.closing: set[int] = set()
        self.waiting: dict[trio.Event, None] = {}
        self.out_of_memory = 0
        self.stalled_until = 0.0

    def note_out_of_memory(self) -> None:
        """Count a read for which there was no memory. The poller then waits a moment."""
        self.out_of_memory += 1
        self.stalled_until = trio.current_time() + _OUT_OF_MEMORY_PAUSE

    def pair(self) -> tuple[PairSocket, _socket.socket]:
        ours, peer = _socket.socketpair()
        for each in (ours, peer):
            each.setblocking(False)
        end = PairSocket(self, ours)
        self.ends[end.fileno()] = end
        self.peers[end] = peer
        return end, peer

    def peer_is_gone(self, end: PairSocket) -> bool:
        return self.peers[end].fileno() < 0

    def changed(self) -> None:
        """Let all waiting tasks look again, in the order in which they began to wait."""
        waiting, self.waiting = self.waiting, {}
        for event in waiting:
            event.set()

    def is_writable(self, fd: int) -> bool:
        end = self.ends.get(fd)
        if end is not None and not self.peer_is_gone(end) and end.room() <= 0:
            return False
        return bool(select.select([], [fd], [], 0)[1])

    async def wait_readable(self, fd: int) -> None:
        await self._wait(fd, lambda: bool(select.select([fd], [], [], 0)[0]))

    async def wait_writable(self, fd: int) -> None:
        await self._wait(fd, lambda: self.is_writable(fd))

    async def _wait(self, fd: int, is_ready: Any) -> None:
        await trio.lowlevel.checkpoint()
        while True:
            if fd in self.closing:
                self.closing.discard(fd)
                raise trio.ClosedResourceError("another task closed this socket")
            if is_ready():
                return
            event = trio.Event()
            self.waiting[event] = None
            await event.wait()

    def notify_closing(self, fd: int) -> None:
        self.closing.add(fd)
        self.changed()

    def close(self) -> None:
        for end, peer in self.peers.items():
            end.close()
            peer.close()


@contextmanager
def _waits_of(kernel: Kernel) -> Iterator[None]:
    """Replace Trio's waits for sockets while the block runs."""
    names = ("wait_readable", "wait_writable", "notify_closing")
    real = {name: getattr(trio.lowlevel, name) for name in names}
    for name in names:
        setattr(trio.lowlevel, name, getattr(kernel, name))
    try:
        yield
    finally:
        for name, function in real.items():
            setattr(trio.lowlevel, name, function)
        kernel.close()


@define(kw_only=True)
class Limits:
    """The limits of one run. The defaults are the production values."""

    sockets_per_turn: int = 128
    least_per_turn: int = 16
    bytes_per_turn: int = 4 * 1024 * 1024
    rest_per_socket: float = 1 / 150_000
    quiet_delay: float = 0.1
    max_messages: int = 4096
    max_bytes: int = 8 * 1024 * 1024
    max_total: int = 1 << 30
    step: int = 16 * 1024
    chunk: int = 65536
    writes_per_turn: int = 512

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Use these limits in the modules while the block runs."""
        values: Sequence[tuple[Any, str, Any]] = (
            (poller, "_TURN", self.sockets_per_turn),
            (poller, "_LEAST", self.least_per_turn),
            (poller, "_TURN_BYTES", self.bytes_per_turn),
            (poller, "_REST_PER_SOCKET", self.rest_per_socket),
            (out_buffer, "RESERVED_STEP", self.step),
            (out_buffer, "_CHUNK", self.chunk),
            (out_buffer, "_TURN", self.writes_per_turn),
        )
        before = [(module, name, getattr(module, name)) for module, name, _ in values]
        for module, name, value in values:
            setattr(module, name, value)
        try:
            yield
        finally:
            for module, name, value in before:
                setattr(module, name, value)


def some_limits(random: Random) -> Limits:
    """Return random limits. Each limit has its production value in some runs."""

    def one(usual: Any, *small: Any) -> Any:
        return usual if random.random() < 0.25 else random.choice(small)

    usual = Limits()
    return Limits(
        sockets_per_turn=one(128, 1, 2, 3),
        least_per_turn=one(16, 1, 2),
        bytes_per_turn=one(usual.bytes_per_turn, 1, 20, 200),
        rest_per_socket=one(usual.rest_per_socket, 0.004, 0.03, 0.5),
        quiet_delay=one(0.1, 0.0, 0.03),
        max_messages=one(4096, 1, 2, 5),
        max_bytes=one(usual.max_bytes, 50, 300, 2000),
        max_total=one(usual.max_total, 100, 600, 3000),
        step=one(usual.step, 16, 100),
        chunk=one(usual.chunk, 1, 30, 200),
        writes_per_turn=one(512, 1, 2),
    )


@define(eq=False)
class Link:
    """One connection, its peer, and what each side has sent and got.

    `accepted` has the frames that the out-buffer has accepted and must deliver. `fresh` is the number of frames that it
    has accepted since other tasks could run last. `refused` is the number of frames that it has dropped in `put`.
    """

    name: str
    end: PairSocket
    peer: _socket.socket
    transport: SocketTransport
    sent: bytearray = field(factory=bytearray)
    got: bytearray = field(factory=bytearray)
    accepted: list[bytes] = field(factory=list)
    read: bytearray = field(factory=bytearray)
    told: list[Any] = field(factory=list)
    fresh: int = 0
    refused: int = 0
    paused: bool = False
    peer_ended: bool = False
    peer_gone: bool = False
    # The last delivery of data, and the data that waits since then.
    read_at: float = 0.0
    is_quiet: bool = False
    has_waited_since: float | None = None
    turn: tuple[int, bool] = (-1, False)
    lost_memory: bool = False
    reading_failed: bool = False
    overflowed: bool = False
    shed: bool = False
    broken: bool = False
    finished: bool = False
    closed: bool = False
    written_bytes: int = 0
    written_frames: int = 0

    @property
    def waiting(self) -> int:
        """The bytes that the kernel has not taken yet."""
        return sum(map(len, self.accepted)) - self.end.taken

    @property
    def is_open(self) -> bool:
        """True if the out-buffer must accept a frame that fits."""
        return not (self.overflowed or self.shed or self.broken or self.finished or self.closed)

    @property
    def is_sure(self) -> bool:
        """True if the frames that the out-buffer has accepted are known exactly.

        The backlog may drop the waiting frames of a client that gets no more frames anyway. Then only the count of the
        dropped frames tells it.
        """
        dropped = self.transport.out.statistics().dropped_messages
        return not (self.shed or self.broken) and dropped == self.refused

    @property
    def is_heard(self) -> bool:
        """True if the transport still has to deliver what the peer sends."""
        ended = b"" in self.told or self.reading_failed
        return not (ended or self.finished or self.closed or self.lost_memory)


def _short(event: Any) -> str:
    return repr(event[:40] if isinstance(event, bytes) else event)


class ApplicationError(Exception):
    """An error that the function for the data raises. The sweep causes it."""


class Sweep:
    """The state of one run."""

    def __init__(self, world: World, kernel: Kernel, nursery: trio.Nursery) -> None:
        self.world = world
        self.random = world.random("operations")
        self.kernel = kernel
        self.nursery = nursery
        self.limits = some_limits(self.random)
        self.links: list[Link] = []
        self.serial = 0
        self.shed = self.reported = self.handed_over = 0
        self.spawn_fails = self.is_draining = False
        self.behind_work = self.random.choice((0, 0, 2, 1000))
        self.scopes: list[trio.CancelScope] = []
        self.problem: str | None = None
        self.last_link: Link | None = None

    def check(self, holds: object, problem: str) -> None:
        """Report a difference. It may be called in the tasks of the transports, so it does not raise."""
        if not holds and self.problem is None:
            self.problem = f"with {self.limits}: {problem}"

    # The loops

    def begin(self) -> None:
        limits = self.limits
        self.transports = Transports(
            spawn=self.spawn,
            quiet_delay=limits.quiet_delay,
            max_messages=limits.max_messages,
            max_bytes=limits.max_bytes,
            max_total_bytes=limits.max_total,
        )
        self.transports.flusher.on_written = (self.wrote_all,)
        mains = [self.transports.flusher.main]
        for each in self.transports.pollers.values():
            each.on_out_of_memory = self.report
            each.backlog = lambda: self.behind_work
            mains.append(each.main)
        for main in mains:
            self.nursery.start_soon(self.keep_running, main)

    async def keep_running(self, main: Any) -> None:
        """Run a loop again each time that it ends, as a supervisor does."""
        while True:
            with trio.CancelScope() as scope:
                self.scopes.append(scope)
                try:
                    await main()
                except ApplicationError:
                    pass
            self.scopes.remove(scope)

    def spawn(self, function: Any, *arguments: Any) -> None:
        if self.spawn_fails and arguments:
            self.spawn_fails = False
            for link in self.links:
                if link.transport.out in arguments:
                    link.broken = True
            raise ApplicationError("no room for a task")
        self.nursery.start_soon(function, *arguments)

    def report(self, reads: int) -> None:
        self.reported += reads

    def wrote_all(self, written: list[int]) -> None:
        for start in range(0, len(written), 3):
            client, size, frames = written[start : start + 3]
            self.links[client].written_bytes += size
            self.links[client].written_frames += frames

    # Events of the transports

    def tell(self, link: Link, event: Any) -> None:
        self.kernel.changed()
        last = link.told[-1] if link.told else None
        self.check(not link.closed, f"{link.name} was closed, and told {_short(event)}")
        link.told.append(event)
        if isinstance(event, Signal):
            self.signalled(link, event)
        elif link.finished:
            self.check(False, f"{link.name} has finished, and told {_short(event)}")
        elif isinstance(event, OSError):
            self.failed(link, event)
        else:
            self.check(last != b"", f"{link.name} told {_short(event)} after the end")
            self.delivered(link, event)

    def signalled(self, link: Link, event: Signal) -> None:
        self.check(link.told.count(event) == 1, f"{link.name} told {event} twice")
        if event is Signal.OVERFLOW:
            link.overflowed = True
            self.world.sometimes("an out-buffer overflows")
        elif event is Signal.FINISHED:
            self.check(link.finished, f"{link.name} told FINISHED without `finish`")
            self.check(
                link.peer_ended or link.peer_gone or link.lost_memory or link.reading_failed,
                f"{link.name} told FINISHED, but its peer has not left",
            )
            if link.peer_ended and not link.peer_gone and link.is_sure:
                self.check(not link.waiting, f"{link.name} told FINISHED, but {link.waiting} wait")
        else:
            self.shed += 1
            self.gave_up(link)

    def gave_up(self, link: Link) -> None:
        self.world.sometimes("the backlog gives up a client")
        most, step = self.limits.max_total, self.limits.step
        behind = [each for each in self.links if not each.closed]
        total = sum(max(each.waiting, 0) + step for each in behind if not each.peer_gone)
        total += sum(sum(map(len, each.accepted)) for each in behind if each.peer_gone)
        self.check(
            total > most - most // 16,
            f"{link.name} was given up with {link.waiting} of {total} waiting bytes of {most}",
        )
        largest = max(
            (
                each.waiting
                for each in self.links
                if each.is_open
                and each is not self.last_link
                and not each.peer_gone
                and each.transport.out.statistics().catching_up
            ),
            default=0,
        )
        self.check(
            link.waiting + step >= largest or link.peer_gone,
            f"{link.name} with {link.waiting} bytes was given up before a client with {largest} bytes",
        )
        link.shed = True

    def failed(self, link: Link, error: OSError) -> None:
        if link.lost_memory and isinstance(error, ConnectionAbortedError):
            return
        if "task" in str(error):
            link.broken = True
            return
        if link.reading_failed and "the sweep" in str(error):
            return
        self.check(link.peer_gone, f"{link.name} told {error!r}, but its peer is there")
        if isinstance(error, ConnectionResetError):
            # This may be the error of a read, after which the out-buffer does not know that the peer is gone.
            link.reading_failed = True
        else:
            link.broken = True
        errors = sum(isinstance(each, OSError) for each in link.told)
        self.check(errors <= 2, f"{link.name} told {errors} errors")

    def delivered(self, link: Link, data: bytes) -> None:
        now, random = trio.current_time(), self.random
        left = link.peer_ended or link.peer_gone
        self.check(not link.paused or left, f"{link.name} is paused, and told {data[:20]!r}")
        self.check(len(data) <= _MOST_READ, f"{link.name} told {len(data)} bytes at once")
        if not data:
            self.check(left, f"{link.name} told the end, but its peer has not left")
            self.check(
                link.got == link.sent,
                f"{link.name} told the end after {len(link.got)} of {len(link.sent)} bytes",
            )
            return
        if link.paused:
            # The poller reads a paused socket to its end, because the peer has left.
            link.paused, link.read_at = False, now
        link.got += data
        self.check(
            link.sent.startswith(link.got), f"{link.name} told {data[:40]!r} in the wrong place"
        )
        self.count_read(link, now)
        link.has_waited_since = None if link.got == link.sent else now
        if self.is_draining:
            return
        if random.random() < 0.02:
            link.lost_memory = True
            self.kernel.note_out_of_memory()
            self.world.sometimes("there is no memory for data")
            raise MemoryError
        if random.random() < 0.02:
            link.lost_memory = True
            raise ApplicationError("the function for the data fails")
        if random.random() < 0.1:
            other = random.choice(self.links)
            random.choice((self.pause, self.resume))(other)

    def count_read(self, link: Link, now: float) -> None:
        """Check the turns of the pollers, and predict which poller reads the socket from now on."""
        pollers = self.transports.pollers
        name = "quiet_poller" if link.is_quiet else "poller"
        turn = (pollers[name].statistics().turns, link.is_quiet)
        self.check(link.turn != turn, f"{link.name} was read twice in one turn")
        link.turn = turn
        limits = self.limits
        most = max(limits.least_per_turn, limits.sockets_per_turn - self.behind_work)
        same = [each for each in self.links if each.turn == turn]
        self.check(len(same) <= most, f"{len(same)} sockets were read in a turn of at most {most}")
        quiet = now - link.read_at > _QUIET
        link.read_at = now
        if quiet is not link.is_quiet and "quiet_poller" in pollers:
            link.is_quiet = quiet
            self.handed_over += 1
            self.world.sometimes(
                "a socket becomes quiet" if quiet else "a socket is quiet no longer"
            )

    # Operations

    def connect(self) -> None:
        end, peer = self.kernel.pair()
        end.capacity = self.random.choice((40, 200, 2000, 100_000))
        name = f"the connection {len(self.links)}"
        box: list[Link] = []
        transport: Any = self.transports.attach(end, lambda event: self.tell(box[0], event))
        link = Link(name, end, peer, transport, read_at=trio.current_time())
        transport.out.client = len(self.links)

        def wrote(size: int, frames: int) -> None:
            link.written_bytes += size
            link.written_frames += frames

        transport.out.on_write = (wrote,)
        box.append(link)
        self.links.append(link)

    def pause(self, link: Link) -> None:
        if not (link.finished or link.closed):
            link.transport.pause()
            link.paused = True

    def resume(self, link: Link) -> None:
        if not (link.finished or link.closed):
            if link.paused:
                link.read_at, link.paused = trio.current_time(), False
                link.has_waited_since = trio.current_time()
            link.transport.resume()

    def send(self, link: Link) -> None:
        """Let the peer send."""
        if link.peer_ended or link.peer_gone:
            return
        size = self.random.choice((1, 5, 40, 300, 300, 20_000, 90_000))
        self.serial += 1
        data = (f"{self.serial}." * size)[:size].encode()
        try:
            count = link.peer.send(data)
        except BlockingIOError:
            return
        except OSError:
            self.check(link.closed or link.end.is_shut, f"the peer of {link.name} cannot send")
            return
        link.sent += data[:count]
        if link.has_waited_since is None:
            link.has_waited_since = trio.current_time()

    def receive(self, link: Link) -> None:
        """Let the peer read."""
        if link.peer_gone:
            return
        try:
            data = link.peer.recv(self.random.choice((1, 50, 100_000)))
        except BlockingIOError:
            return
        except OSError:
            self.check(link.closed, f"the peer of {link.name} cannot read")
            return
        self.check(
            data or link.end.is_shut or link.closed, f"the peer of {link.name} got an early end"
        )
        link.read += data
        link.end.peer_has_read += len(data)

    def leave(self, link: Link, *, half: bool) -> None:
        """Let the peer end its stream, or close its socket."""
        if link.peer_gone or (half and link.peer_ended):
            return
        if link.has_waited_since is None:
            link.has_waited_since = trio.current_time()
        link.peer_ended = True
        if half:
            try:
                link.peer.shutdown(socket.SHUT_WR)
            except OSError:
                self.check(link.closed, f"the peer of {link.name} cannot end its stream")
        else:
            link.peer_gone = True
            link.peer.close()

    def put(self, link: Link) -> None:
        """Put a frame. Check that the buffer accepts the frame if there is room, and drops it otherwise."""
        most = self.limits.max_bytes
        size = self.random.choice((1, 10, 30, 120, most // 2, most, most + 1))
        self.serial += 1
        frame = f"{self.serial}|".encode().ljust(min(size, 1500), b".")
        before, waiting, was_open = link.transport.out.statistics(), link.waiting, link.is_open
        link.accepted.append(frame)
        self.last_link = link
        link.transport.out.put(frame)
        self.last_link = None
        after = link.transport.out.statistics()
        dropped = after.dropped_messages - before.dropped_messages
        if link.shed and was_open:
            return
        if dropped:
            link.accepted.pop()
            link.refused += dropped
        if link.peer_gone and not link.broken:
            # The buffer may have noticed this already.
            return
        fits = waiting + len(frame) <= most or not waiting
        full = link.fresh >= self.limits.max_messages or (
            before.waiting_messages >= self.limits.max_messages
        )
        accepted = was_open and fits and not full
        self.check(
            dropped == (not accepted),
            f"{link.name} {'dropped' if dropped else 'accepted'} {len(frame)} bytes, although {waiting} bytes and "
            f"{link.fresh} to {before.waiting_messages} frames waited",
        )
        self.check(
            link.overflowed or dropped != 1 or not was_open, f"{link.name} did not tell OVERFLOW"
        )
        link.fresh += not dropped

    def finish(self, link: Link) -> None:
        if not (link.finished or link.closed):
            link.finished = True
            link.paused = False
            link.accepted.append(_LAST)
            link.transport.finish(_LAST)

    def close(self, link: Link) -> None:
        if not link.closed:
            link.closed = True
            link.transport.close()

    def harm(self) -> None:
        """Let a read, a start of a task or a loop fail."""
        what, link = self.random.randrange(4), self.random.choice(self.links)
        if what == 0:
            self.spawn_fails = True
        elif what == 1 and self.scopes:
            self.random.choice(self.scopes).cancel()
        elif what == 2:
            link.end.failures.append(MemoryError())
        elif what == 3 and link.is_heard:
            link.reading_failed = True
            link.end.failures.append(ConnectionResetError("the sweep breaks this connection"))

    async def run(self) -> None:
        self.begin()
        for _ in range(self.random.choice((1, 3, 3, 6))):
            self.connect()
        names = ("send", "receive", "put", "pause", "resume", "leave", "finish", "close", "connect")
        weights = (8, 8, 10, 1, 2, 0.4, 0.3, 0.3, 0.3)
        # In some runs, most sockets are quiet, and their data often arrives during a rest.
        often = (0, 0, 0.001, 0.02, 0.05, 0.2, 3, 6)
        pauses = self.random.choice((often, often, (6, 6, 0.001, 0.002, 0.01)))
        for _ in range(self.world.params["operations"]):
            link = self.random.choice(self.links)
            what = self.random.choices(names, weights)[0]
            if self.random.random() < 0.03:
                self.harm()
            for _ in range(self.random.choice((1, 1, 2, 6)) if what in ("put", "send") else 1):
                self.act(what, link)
            self.kernel.changed()
            if self.random.random() < 0.5:
                await self.rest(self.random.choice(pauses))
            self.report_problem()
        await self.drain()

    def act(self, what: str, link: Link) -> None:
        if what == "connect":
            self.connect()
        elif what == "leave":
            self.leave(link, half=self.random.random() < 0.5)
        else:
            getattr(self, what)(link)

    def report_problem(self) -> None:
        self.world.check(self.problem is None, str(self.problem))

    async def rest(self, seconds: float) -> None:
        """Let time pass. Then check everything that is due by now."""
        await trio.sleep(seconds)
        for _ in range(20 + sum(each.waiting // 40 for each in self.links if not each.closed)):
            before = self.progress()
            self.kernel.changed()
            await self.world.settle()
            if self.progress() == before:
                break
        for link in self.links:
            link.fresh = 0
            self.check_reads(link)
            self.check_writes(link)
        self.check_figures()
        self.report_problem()

    def progress(self) -> tuple[int, int, int]:
        """Return figures that change while the loops still work."""
        loops: list[Any] = [self.transports.flusher, *self.transports.pollers.values()]
        turns = sum(loop.statistics().turns for loop in loops)
        return (
            turns,
            sum(each.end.taken for each in self.links),
            sum(len(e.told) for e in self.links),
        )

    def check_reads(self, link: Link) -> None:
        """Check that no data waits longer than documented."""
        since, now = link.has_waited_since, trio.current_time()
        left = link.peer_ended or link.peer_gone
        if since is None or not link.is_heard or (link.paused and not left):
            return
        if link.got == link.sent and not left:
            link.has_waited_since = None
            return
        limits = self.limits
        # A quiet socket may wait for a rest. The rest is at most a share for each socket.
        rest = min(limits.quiet_delay, len(self.links) * limits.rest_per_socket)
        allowed = rest if link.is_quiet and rest >= 0.001 else 0.0
        due = max(since, self.kernel.stalled_until) + allowed
        self.check(
            now <= due + 1e-6,
            f"{link.name} delivered {len(link.got)} of {len(link.sent)} bytes; the others wait since {since:g} s, were "
            f"due at {due:g} s, and it is {now:g} s (quiet: {link.is_quiet}, left: {left}, paused: {link.paused})",
        )

    def check_writes(self, link: Link) -> None:
        """Check that no frame waits while the socket has room."""
        if link.closed or link.peer_gone or not link.is_sure:
            return
        self.check(
            not (link.waiting and self.kernel.is_writable(link.end.fileno())),
            f"{link.name} does not write its {link.waiting} bytes, although its socket has room",
        )
        left = link.transport.out.statistics()
        self.check(
            left.waiting_bytes == link.waiting,
            f"{link.name} counts {left.waiting_bytes} waiting bytes instead of {link.waiting}",
        )
        self.check(
            left.catching_up == (link.waiting > 0),
            f"{link.name} has {link.waiting} waiting bytes, and catching_up is {left.catching_up}",
        )

    def check_figures(self) -> None:
        limits, figures = self.limits, self.transports.statistics()
        present = [
            each for each in self.links if not (each.closed or each.peer_gone or each.broken)
        ]
        waiting = [each.waiting for each in present if each.is_sure]
        backlog = figures["backlog"]
        self.check(
            sum(waiting) <= backlog.waiting_bytes or any(each.finished for each in self.links),
            f"{waiting} bytes wait, and the backlog counts {backlog}",
        )
        most = sum(each.waiting for each in present)
        steps = limits.step * sum(each.waiting > 0 for each in present)
        self.check(
            backlog.waiting_bytes <= most + steps
            or any(each.peer_gone or each.broken for each in self.links),
            f"{most} bytes wait, and the backlog counts {backlog}",
        )
        unfinished = sum(each.waiting for each in present if each.is_open)
        self.check(
            unfinished <= limits.max_total,
            f"{unfinished} bytes wait beyond the limit of all clients",
        )
        self.check(backlog.shed == self.shed, f"the backlog counts {backlog}, not {self.shed} shed")
        self.check(figures["flusher"].marked == 0, f"frames wait unwritten: {figures['flusher']}")
        read = [each for each in self.links if not each.transport._reader.ended]
        readers = [
            each for each in (figures["poller"], figures["quiet_poller"]) if each is not None
        ]
        if readers:
            count = sum(each.sockets for each in readers)
            self.check(count == len(read), f"the pollers have {count} sockets, not {len(read)}")
            moved = sum(each.handed_over for each in readers)
            self.check(
                moved == self.handed_over
                or (moved > self.handed_over and any(each.finished for each in self.links)),
                f"{moved} sockets changed pollers, not {self.handed_over}",
            )
            failed = sum(each.out_of_memory for each in readers)
            self.check(
                failed == self.kernel.out_of_memory and self.reported <= failed,
                f"the pollers count {failed} failed reads and reported {self.reported} of {self.kernel.out_of_memory}",
            )

    async def drain(self) -> None:
        """Let both sides take everything. Check that they got all that was sent."""
        self.is_draining, self.spawn_fails = True, False
        for link in self.links:
            self.resume(link)
            link.end.failures.clear()
            link.end.capacity = 1 << 30
        for _ in range(40):
            for link in self.links:
                if not link.peer_gone:
                    for _ in range(5):
                        self.receive(link)
            self.kernel.changed()
            await trio.sleep(0.2)
        await self.rest(0.2)
        for link in self.links:
            if link.is_heard and not link.reading_failed:
                self.check(link.got == link.sent, f"{link.name} did not deliver all that was sent")
            if not (link.peer_gone or link.closed or link.broken):
                self.compare_written(link)
        for link in self.links:
            self.leave(link, half=False)
            self.kernel.changed()
        await self.rest(0.5)
        for link in self.links:
            if link.finished and not link.closed and not link.broken:
                told = link.told[-1:]
                self.check(
                    told == [Signal.FINISHED], f"{link.name} finished, and told {link.told[-1:]}"
                )
            self.close(link)
        self.kernel.changed()
        await self.rest(0.5)
        figures = self.transports.statistics()
        backlog, flusher = figures["backlog"], figures["flusher"]
        self.check(
            (backlog.behind, backlog.waiting_bytes, flusher.catching_up) == (0, 0, 0),
            f"all connections are closed, but there are {backlog} and {flusher}",
        )
        self.report_problem()

    def compare_written(self, link: Link) -> None:
        read, wanted = bytes(link.read), b"".join(link.accepted)
        while not link.is_sure and len(wanted) > len(read) and link.accepted:
            link.accepted.pop()
            wanted = b"".join(link.accepted)
        if not link.is_sure and link.finished:
            # The last frame stays, even if the backlog drops the frames before it.
            self.check(read.endswith(_LAST), f"the peer of {link.name} did not get the last frame")
            return
        self.check(read == wanted, f"the peer of {link.name} read {read!r} of {wanted!r}")
        if link.is_sure:
            told = (link.written_bytes, link.written_frames)
            self.check(
                told == (len(wanted), len(link.accepted)),
                f"{link.name} reported {told} of {len(wanted)} bytes in {len(link.accepted)} frames",
            )


@scenario(params={"operations": 60}, invariants=())
async def transports(world: World) -> None:
    """Let several clients send, read and leave, over socket pairs of the kernel."""
    kernel = Kernel(world.random("kernel"))
    with _waits_of(kernel):
        async with trio.open_nursery() as nursery:
            sweep = Sweep(world, kernel, nursery)
            with sweep.limits.in_use():
                await sweep.run()
                nursery.cancel_scope.cancel()

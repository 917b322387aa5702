"""Processes of other nodes: their pids, monitors of them, and calls from them.

    class Join(msgspec.Struct, tag=True):
        player: ProcessAddress            # the pid of a channel, also on another node

    await call(rooms.via("lobby"), Join(current_pid()))

A pid that travels to another node becomes a `RemotePid` there. When it comes back to its own node, it is the `Pid`
again. A node delivers messages from outside only to processes whose pids have left the node.

Messages between nodes arrive at most once, so a monitor must not rely on a single message:

* The node of the watched process confirms each `Watch`. The watching node repeats the `Watch` until then. After
  `CONFIRM_TIMEOUT` seconds without a confirmation, the monitor fires with `NOCONNECTION`.
* The watching node asks for a new confirmation every `RECHECK_INTERVAL` seconds. So if an `Ended` was lost, the monitor
  fires with `NOPROC` after that time.
* If PubSub reports the loss of a node, all monitors of its processes fire with `NOCONNECTION`.
"""

from __future__ import annotations

import math
from abc import ABC
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, final
from weakref import WeakKeyDictionary, WeakValueDictionary

import msgspec
import trio

from actors.addresses import RemoteAddress, RemoteMonitor
from actors.errors import CallTimeout, InvalidOption, NoProcess, NotAProcess, ServerExit
from actors.exits import NOCONNECTION, NOPROC, Crash, ExitReason, Reason, Shutdown
from actors.process import current_pid, send
from actors.refs import Pid, ProcessLike, Ref, TimerRef
from actors.runtime import Runtime, current_runtime
from actors.servers.gen_server import CallRequest, Sender, cast
from actors.text import bounded
from actors.timers import read_timer, send_after
from channels.pubsub.adapter import Node

__all__ = [
    "CONFIRM_TIMEOUT",
    "RECHECK_INTERVAL",
    "Deliver",
    "Ended",
    "ProcessAddress",
    "ProcessId",
    "ProcessRequest",
    "ProcessResponse",
    "RemoteCrash",
    "RemoteMessage",
    "RemotePid",
    "RemoteProcesses",
    "RemoteSender",
    "RouterLike",
    "Tick",
    "Unwatch",
    "Watch",
    "Watching",
    "decode_reason",
    "encode_reason",
]

CONFIRM_TIMEOUT: Final = 5.0
"""The seconds after which a monitor without a confirmation fires with `NOCONNECTION`."""

RECHECK_INTERVAL: Final = 30.0
"""The seconds after which a node asks for a new confirmation of a monitor."""

# The seconds after which a node drops a monitor that the watching node has not confirmed again.
_FORGET_AFTER: Final = 3 * RECHECK_INTERVAL
_TICK_INTERVAL: Final = 1.0
# The monitors in one message, and the monitors that one tick repeats.
_MAX_WATCHES: Final = 500
# The steps after the loss of a node between two checkpoints of the router. A step takes about 3 microseconds.
_MAX_STEPS: Final = 100
_MAX_REASON: Final = 1000

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
_REASONS: Final = {each.value: each for each in Reason}


# Exit reasons


class RemoteCrash(msgspec.Struct, frozen=True):
    """The exit reason of a process on another node that crashed, or whose reason is not a JSON value.

    Attributes:
        node: the name of the node.
        text: the reason as text, such as `ValueError: no such room`.
    """

    node: str
    text: str

    def __str__(self) -> str:
        return f"{self.text} (on {self.node})"


def encode_reason(reason: ExitReason, node: str) -> list[Any]:
    """Return an exit reason as a JSON value.

        >>> encode_reason(Shutdown("left"), "web-1")
        ['shutdown', 'left']

    The reasons of `Reason`, JSON values, and a `Shutdown` with a JSON value travel as themselves. Every other reason
    becomes a `RemoteCrash`.

    Args:
        reason: the reason.
        node: the name of this node.
    """
    if isinstance(reason, Reason):
        return ["reason", reason.value]
    if type(reason) is RemoteCrash:
        return ["crash", reason.node, reason.text]
    kind, value = ("shutdown", reason.detail) if type(reason) is Shutdown else ("value", reason)
    if _travels(value):
        return [kind, value]
    try:
        text = bounded(str(value) if isinstance(value, Crash) else repr(value))
    except (
        Exception
    ) as error:  # the value is of a program, and its faulty text must not stop the end of a process
        text = f"{type(value).__name__}, whose text raised {type(error).__name__}"
    return ["shutdown", text] if kind == "shutdown" else ["crash", node, text]


def _travels(value: object) -> bool:
    """Return True for a small value that arrives equal."""
    try:
        encoded = _encode(value)
        return len(encoded) <= _MAX_REASON and bool(_decode(encoded) == value)
    except Exception:  # JSON cannot express the value, or its own `__eq__` raised
        return False


def decode_reason(encoded: Any) -> ExitReason:
    """Return an exit reason from the result of `encode_reason` on another node."""
    match encoded:
        case ["reason", str(name)] if name in _REASONS:
            return _REASONS[name]
        case ["shutdown", detail]:
            return Shutdown(detail)
        case ["value", value]:
            return value
        case ["crash", str(node), str(text)]:
            return RemoteCrash(node, text)
        case _:
            # A later version of Ashtree may have more reasons.
            return RemoteCrash("a node with another version", bounded(repr(encoded)))


# Pids


class ProcessId(msgspec.Struct, frozen=True, array_like=True):
    """A pid on its way to another node.

    Attributes:
        node: the name of the process's node.
        incarnation: the start of that node.
        number: the number of the pid.
    """

    node: str
    incarnation: str
    number: int


# The pids that have left each node, by number. A pid is no longer there once no object refers to it. All routers of a
# node share one table, because a pid may leave through one router and come back through another.
_exports: WeakKeyDictionary[Runtime, dict[Node, WeakValueDictionary[int, Pid]]] = (
    WeakKeyDictionary()
)


if TYPE_CHECKING:
    ProcessAddress: TypeAlias = "Pid | RemotePid"
else:

    class ProcessAddress(ABC):  # noqa: B024 - it only joins two classes for msgspec
        """The type of a field of a declared struct that has a pid: a `Pid` or a `RemotePid`."""

    ProcessAddress.register(Pid)


@final
class RemotePid(RemoteAddress):
    """The pid of a process on another node. `call`, `cast`, `send`, `monitor` and the timers take it.

    Two remote pids of one process are equal. Messages to it must be JSON values, or values of the declared types.

    Attributes:
        node: the start of the node on which the process runs.
        number: the number of the process's pid there.
    """

    __slots__ = ("_router", "node", "number")

    absence = "this process has ended"
    instead = (
        "only call, cast, send, send_after, send_every and monitor take the pid of a process on another node; "
        "write monitor(pid) to learn of the end of the process"
    )

    def __init__(self, node: Node, number: int, router: RouterLike) -> None:
        self.node = node
        self.number = number
        self._router = router

    def __repr__(self) -> str:
        return f"<pid {self.number} on {self.node.name}>"

    def __eq__(self, other: object) -> bool:
        if type(other) is not RemotePid:
            return NotImplemented
        return self.number == other.number and self.node == other.node

    def __hash__(self) -> int:
        return hash((self.number, self.node))

    async def call(self, request: Any, *, timeout: float) -> Any:
        """Call the process. The time limit must be finite, because a message between nodes can be lost."""
        return await self._router.processes.call(self, request, timeout)

    def cast(self, message: Any) -> None:
        """Send a message to the `handle_cast` of the process. At most once; the message is lost with its node."""
        self._router.processes.deliver(self, message, is_cast=True)

    def send(self, message: Any) -> None:
        """Send a message to the mailbox of the process. At most once; the message is lost with its node."""
        self._router.processes.deliver(self, message, is_cast=False)

    def monitor(self) -> Ref:
        """Monitor the process. The `Down` has the reason `NOCONNECTION` if its node is lost."""
        return self._router.processes.monitor(self)


if not TYPE_CHECKING:
    ProcessAddress.register(RemotePid)


# Messages


class _Message(msgspec.Struct, frozen=True, kw_only=True, tag=str.lower, omit_defaults=True):
    pass


class Watch(_Message, frozen=True, kw_only=True):
    """The sender monitors processes of the receiver. The receiver answers with `Watching` or `Ended`.

    Attributes:
        incarnation: the start of the receiver that has the processes.
        watches: the number of each monitor, and the number of its process.
    """

    incarnation: str
    watches: tuple[tuple[int, int], ...]


class Watching(_Message, frozen=True, kw_only=True):
    """The sender has these monitors of the receiver, and will report the ends of the processes."""

    ids: tuple[int, ...]


class Unwatch(_Message, frozen=True, kw_only=True):
    """The sender has removed these monitors."""

    ids: tuple[int, ...]


class Ended(_Message, frozen=True, kw_only=True):
    """The process of a monitor or of a call has ended, or does not exist.

    Attributes:
        id: the number of the monitor or the call.
        reason: the result of `encode_reason`.
    """

    id: int
    reason: Any


class Deliver(_Message, frozen=True, kw_only=True):
    """A message for a process of the receiver.

    Attributes:
        incarnation: the start of the receiver that has the process.
        number: the number of the process.
        body: the encoded message.
        is_cast: True for a cast.
    """

    incarnation: str
    number: int
    body: msgspec.Raw
    is_cast: bool = False


class ProcessRequest(_Message, frozen=True, kw_only=True):
    """A call of a process of the receiver.

    Attributes:
        id: the number of the call.
        incarnation: the start of the receiver that has the process.
        number: the number of the process.
        body: the encoded request.
        seconds: the seconds after which the caller gives up.
        caller: the calling process; None if a task that is not a process calls.
    """

    id: int
    incarnation: str
    number: int
    body: msgspec.Raw
    seconds: float
    caller: ProcessId | None = None


class ProcessResponse(_Message, frozen=True, kw_only=True):
    """The answer to a `ProcessRequest`."""

    id: int
    body: msgspec.Raw


RemoteMessage: TypeAlias = (
    Watch | Watching | Unwatch | Ended | Deliver | ProcessRequest | ProcessResponse
)
"""The messages that `RemoteProcesses.receive` understands."""


class Tick(msgspec.Struct, frozen=True):
    """A message of `RemoteProcesses` to its own router, which calls `tick` for it."""


_TICK: Final = Tick()


class CodecLike(Protocol):
    """The encoding of values that travel. Both methods raise an error of the codec for a value of another type."""

    def encode(self, value: Any) -> tuple[bytes, Any]:
        """Return the encoded value, and the value that arrives."""
        ...

    def decode(self, body: bytes | msgspec.Raw) -> Any:
        """Return the decoded value."""
        ...


class RouterLike(Protocol):
    """The parts of a router that `RemoteProcesses` uses."""

    @property
    def pid(self) -> Pid:
        """The process of the router. Its `handle_info` calls `RemoteProcesses.tick` for each `Tick`."""
        ...

    @property
    def node(self) -> Node:
        """This node."""
        ...

    @property
    def processes(self) -> RemoteProcesses:
        """The `RemoteProcesses` of this router, also after a restart of its process."""
        ...

    @property
    def answers(self) -> CodecLike:
        """The encoding of messages to other processes, calls of them, and their answers."""
        ...

    def post(self, node: Node, message: RemoteMessage) -> None:
        """Send a message to the router of another node, at most once. Never blocks, never raises."""
        ...


@final
class RemoteSender(Sender):
    """The caller of a request from another node.

    Attributes:
        pid: the calling process, which is a `RemotePid`; None if the caller is not a process.
    """

    __slots__ = ("_send_ended", "_send_home", "_timer")

    def __init__(
        self,
        pid: Pid | RemotePid | None,
        server: ProcessLike,
        send_home: Callable[[Any], object],
        send_ended: Callable[[ExitReason], object],
    ) -> None:
        """Make a sender.

        Args:
            pid: the calling process.
            server: the process that gets the request.
            send_home: sends the answer to the caller. If it raises, the call stays open.
            send_ended: tells the caller that the server has ended.
        """
        super().__init__(pid, server)
        self._send_home = send_home
        self._send_ended = send_ended
        self._timer: TimerRef | None = None

    def deliver(self, request: Any, seconds: float) -> None:
        """Put the request into the mailbox of the server, and watch the server until the caller gives up.

        Args:
            request: the request.
            seconds: the seconds after which the caller gives up.
        """
        server, envelope = self.server, CallRequest(request, self)
        runtime = server.runtime
        if not runtime.guarded or runtime.admit(server.pid, envelope):
            server.mailbox.put(envelope)
        if not self.done:
            runtime.graph.watch(server.pid, self)
            self._timer = runtime.timers.at(trio.current_time() + seconds, self.expire)

    def answer(self, value: Any) -> bool:
        if not self.done:
            self._send_home(value)
            self._release()
        return super().answer(value)

    def down(self, pid: Pid, reason: ExitReason) -> None:
        super().down(pid, reason)
        # A crash refers to the request, and so to this object.
        self.take_failure()
        self._release()
        self._send_ended(reason)

    def abandon(self) -> None:
        super().abandon()
        self._release()

    def _release(self) -> None:
        runtime = self.server.runtime
        runtime.graph.unwatch(self.server.pid, self)
        if self._timer is not None:
            runtime.timers.forget(self._timer)


class _Watch(msgspec.Struct, eq=False):
    """A monitor of a process on another node.

    Attributes:
        ref: the monitor.
        target: the process.
        since: the time of the first `Watch` without a confirmation, or of the last confirmation.
    """

    ref: RemoteMonitor
    target: RemotePid
    since: float


class _Watched(msgspec.Struct, eq=False):
    """A monitor of a process on this node, by a process of another node.

    Attributes:
        processes: the owner of this object.
        node: the other node.
        id: the number of the monitor there.
        pid: the process.
        seen: the time of the last `Watch`.
    """

    processes: RemoteProcesses
    node: Node
    id: int
    pid: Pid
    seen: float

    def down(self, pid: Pid, reason: ExitReason) -> None:
        self.processes.watched_ended(self, reason)

    def remove(self) -> None:
        self.pid.runtime.graph.unwatch(self.pid, self)


class _Call(msgspec.Struct, eq=False):
    """A call of a process on another node. The outcome is None until the call has ended."""

    node: Node
    ended: trio.Event
    outcome: ProcessResponse | Ended | None = None


class RemoteProcesses:
    """The pids of other nodes, monitors and calls of one router. Make it in the router's process.

    The router passes the `RemoteMessage`s of other nodes to `receive`. It calls `tick` for each `Tick` in its mailbox,
    `node_down` if a node is lost, and `close` at its own end.
    """

    def __init__(self, router: RouterLike) -> None:
        self._router = router
        self._node = router.node
        self._runtime = current_runtime()
        tables = _exports.setdefault(self._runtime, {})
        self._exports = tables.setdefault(self._node, WeakValueDictionary())
        # Monitors by number. The first item of each dictionary has waited longest.
        self._unconfirmed: OrderedDict[int, _Watch] = OrderedDict()
        self._confirmed: OrderedDict[int, _Watch] = OrderedDict()
        # The monitors of other nodes. The first one has not been repeated for longest.
        self._watched: OrderedDict[tuple[Node, int], _Watched] = OrderedDict()
        self._calls: dict[int, _Call] = {}
        # Work after the loss of nodes, in small steps.
        self._steps: deque[Callable[[], object]] = deque()
        # The timer of the latest `Tick` from a timer.
        self._timer: TimerRef | None = None
        self._is_closed = False
        self._late_answers = 0

    def statistics(self) -> dict[str, int]:
        """Return the present numbers of monitors, calls and exported pids, and the number of late answers."""
        return {
            "monitors": len(self._unconfirmed) + len(self._confirmed),
            "monitors_of_other_nodes": len(self._watched),
            "process_calls": len(self._calls),
            "exported_pids": len(self._exports),
            "late_answers": self._late_answers,
        }

    # Pids in messages

    def encode_process(self, pid: Pid | RemotePid) -> ProcessId:
        """Return the form in which a pid travels. After that, other nodes can reach the process."""
        if type(pid) is Pid:
            self._exports[pid.number] = pid
            return ProcessId(self._node.name, self._node.incarnation, pid.number)
        return ProcessId(pid.node.name, pid.node.incarnation, pid.number)

    def decode_process(self, process: ProcessId) -> Pid | RemotePid:
        """Return the pid of a process that came from another node."""
        node = Node(process.node, process.incarnation)
        if node != self._node:
            return RemotePid(node, process.number, self._router)
        # If nothing refers to the pid any more, its process has ended. A new pid without a process is dead, too.
        return self._exports.get(process.number) or Pid(process.number, self._runtime)

    def enc_hook(self, value: Any) -> Any:
        """Encode a pid in a declared struct, for `msgspec.json.Encoder(enc_hook=)`.

        Raises:
            NotImplementedError: the value is not a pid.
        """
        if isinstance(value, Pid | RemotePid):
            return self.encode_process(value)
        raise NotImplementedError(f"a value of type {type(value).__name__} cannot travel")

    def dec_hook(self, wanted: Any, value: Any) -> Any:
        """Decode a field of type `ProcessAddress`, for `msgspec.json.Decoder(dec_hook=)`.

        Raises:
            NotImplementedError: the field has another type, which msgspec does not know.
        """
        if wanted is ProcessAddress:
            return self.decode_process(msgspec.convert(value, ProcessId))
        raise NotImplementedError(f"a field of type {wanted!r} cannot travel")

    # Messages and calls to other nodes

    def deliver(self, pid: RemotePid, message: Any, *, is_cast: bool) -> None:
        """Send a message to a process of another node."""
        body = msgspec.Raw(self._router.answers.encode(message)[0])
        if self._is_closed:
            self._runtime.dead_letter(pid, message)
            return
        node = pid.node
        self._router.post(
            node,
            Deliver(incarnation=node.incarnation, number=pid.number, body=body, is_cast=is_cast),
        )

    async def call(self, pid: RemotePid, request: Any, timeout: float) -> Any:
        """Call a process of another node.

        Raises:
            NoProcess: the process had ended.
            ServerExit: the process ended, or its node is lost. Then the reason is `NOCONNECTION`.
            CallTimeout: there was no answer in time.
            InvalidOption: the time limit is infinite.
        """
        if timeout == math.inf:
            expected = f"a finite number of seconds for {pid!r}, because a message to another node can be lost"
            raise InvalidOption("call", "timeout", timeout, expected)
        body = msgspec.Raw(self._router.answers.encode(request)[0])
        try:
            caller = self.encode_process(current_pid())
        except NotAProcess:
            caller = None
        call, number = _Call(pid.node, trio.Event()), self._runtime.next_ref()
        message = ProcessRequest(
            id=number,
            incarnation=pid.node.incarnation,
            number=pid.number,
            body=body,
            seconds=timeout,
            caller=caller,
        )
        if self._is_closed:
            await trio.lowlevel.checkpoint()
            raise ServerExit(NOCONNECTION, pid, request, timeout)
        self._calls[number] = call
        try:
            self._router.post(pid.node, message)
            with trio.move_on_after(timeout):
                await call.ended.wait()
        finally:
            del self._calls[number]
        outcome = call.outcome
        if outcome is None:
            raise CallTimeout(pid, request, timeout)
        if isinstance(outcome, ProcessResponse):
            return self._router.answers.decode(outcome.body)
        reason = decode_reason(outcome.reason)
        if reason is NOPROC:
            raise NoProcess(pid, request, timeout)
        raise ServerExit(reason, pid, request, timeout)

    def _end_call(self, number: int, outcome: ProcessResponse | Ended) -> None:
        call = self._calls.get(number)
        if call is None:
            self._late_answers += isinstance(outcome, ProcessResponse)
        elif call.outcome is None:
            call.outcome = outcome
            call.ended.set()

    # Monitors of processes on other nodes

    def monitor(self, pid: RemotePid) -> Ref:
        """Make the current process monitor a process of another node."""
        ref = RemoteMonitor(pid, self.demonitor)
        self.watch(ref, pid)
        return ref

    def watch(self, ref: RemoteMonitor, pid: RemotePid) -> None:
        """Let a monitor watch a process of another node."""
        if self._is_closed:
            ref.down(None, NOCONNECTION)
            return
        watch = self._unconfirmed[ref.number] = _Watch(ref, pid, trio.current_time())
        self._send_watches((watch,))
        self._keep_ticking()

    def demonitor(self, ref: RemoteMonitor) -> None:
        """Let a monitor watch nothing any more."""
        watch = self._take(ref.number)
        if watch is not None:
            self._router.post(watch.target.node, Unwatch(ids=(ref.number,)))

    def _take(self, number: int) -> _Watch | None:
        return self._unconfirmed.pop(number, None) or self._confirmed.pop(number, None)

    def _send_watches(self, watches: Iterable[_Watch]) -> None:
        by_node: dict[Node, list[tuple[int, int]]] = {}
        for each in watches:
            pairs = by_node.setdefault(each.target.node, [])
            pairs.append((each.ref.number, each.target.number))
        for node, pairs in by_node.items():
            message = Watch(incarnation=node.incarnation, watches=tuple(pairs))
            self._router.post(node, message)

    def _keep_ticking(self) -> None:
        if self._timer is None and not self._is_closed:
            self._timer = send_after(self._router.pid, _TICK, _TICK_INTERVAL)

    def tick(self) -> None:
        """Do a bounded part of the work that is due. The router calls this for each `Tick`."""
        for _ in range(min(_MAX_STEPS, len(self._steps))):
            self._steps.popleft()()
        if self._steps:
            send(self._router.pid, _TICK)
            return
        if self._timer is not None and read_timer(self._timer) is not None:
            # This `Tick` came for the steps, and the timer brings another one for the rest.
            return
        now = trio.current_time()
        late, due = now - CONFIRM_TIMEOUT, now - RECHECK_INTERVAL
        for watch in tuple(islice(self._unconfirmed.values(), _MAX_WATCHES)):
            if watch.since > late:
                break
            del self._unconfirmed[watch.ref.number]
            watch.ref.down(None, NOCONNECTION)
        for number, watch in tuple(islice(self._confirmed.items(), _MAX_WATCHES)):
            if watch.since > due:
                break
            del self._confirmed[number]
            self._unconfirmed[number] = watch
            watch.since = now
        self._send_watches(islice(self._unconfirmed.values(), _MAX_WATCHES))
        for key, watched in tuple(islice(self._watched.items(), _MAX_WATCHES)):
            if watched.seen > now - _FORGET_AFTER:
                break
            del self._watched[key]
            watched.remove()
        self._timer = None
        if self._unconfirmed or self._confirmed or self._watched:
            self._keep_ticking()

    # Messages from other nodes

    def receive(self, node: Node, message: RemoteMessage) -> None:
        """Handle a message from another node. Raises the router's error if the body of the message does not decode.

        Args:
            node: the node that sent it.
            message: the message.
        """
        if self._is_closed:
            return
        match message:
            case Watch():
                self._watch(node, message)
            case Watching():
                self._confirm(node, message.ids)
            case Unwatch():
                for number in message.ids:
                    watched = self._watched.pop((node, number), None)
                    if watched is not None:
                        watched.remove()
            case Ended():
                watch = self._take(message.id)
                if watch is None:
                    self._end_call(message.id, message)
                else:
                    watch.ref.down(None, decode_reason(message.reason))
            case Deliver():
                self._deliver(message)
            case ProcessRequest():
                self._request(node, message)
            case ProcessResponse():
                self._end_call(message.id, message)

    def _find(self, incarnation: str, number: int) -> ProcessLike | Reason:
        """Return a living process that may get messages from outside, or the reason why there is none."""
        if incarnation != self._node.incarnation:
            return NOCONNECTION
        pid = self._exports.get(number)
        return NOPROC if pid is None or pid.process is None else pid.process

    def _watch(self, node: Node, message: Watch) -> None:
        now, watching = trio.current_time(), []
        for number, process_number in message.watches:
            watched = self._watched.pop((node, number), None)
            if watched is None:
                process = self._find(message.incarnation, process_number)
                if isinstance(process, Reason):
                    self._send_ended(node, number, process)
                    continue
                watched = _Watched(self, node, number, process.pid, now)
                process.runtime.graph.watch(process.pid, watched)
            watched.seen = now
            self._watched[node, number] = watched
            watching.append(number)
        if watching:
            self._router.post(node, Watching(ids=tuple(watching)))
            self._keep_ticking()

    def _confirm(self, node: Node, numbers: Iterable[int]) -> None:
        now = trio.current_time()
        for number in numbers:
            watch = self._unconfirmed.get(number)
            if watch is not None and watch.target.node == node:
                del self._unconfirmed[number]
                watch.since = now
                self._confirmed[number] = watch

    def watched_ended(self, watched: _Watched, reason: ExitReason) -> None:
        """Tell another node that a process of this node has ended, which one of its processes monitors."""
        if self._watched.pop((watched.node, watched.id), None) is not None:
            self._send_ended(watched.node, watched.id, reason)

    def _send_ended(self, node: Node, number: int, reason: ExitReason) -> None:
        encoded = encode_reason(reason, self._node.name)
        self._router.post(node, Ended(id=number, reason=encoded))

    def _deliver(self, message: Deliver) -> None:
        process, content = self._find(message.incarnation, message.number), message.body
        pid = Pid(message.number, self._runtime) if isinstance(process, Reason) else process.pid
        # A pid without a process makes the message a dead letter.
        (cast if message.is_cast else send)(pid, self._router.answers.decode(content))

    def _request(self, node: Node, message: ProcessRequest) -> None:
        process = self._find(message.incarnation, message.number)
        if isinstance(process, Reason):
            self._send_ended(node, message.id, process)
            return
        request = self._router.answers.decode(message.body)
        caller = None if message.caller is None else self.decode_process(message.caller)
        sender = RemoteSender(
            caller,
            process,
            partial(self._send_response, node, message.id),
            partial(self._send_ended, node, message.id),
        )
        sender.deliver(request, message.seconds)

    def _send_response(self, node: Node, number: int, value: Any) -> None:
        body = msgspec.Raw(self._router.answers.encode(value)[0])
        self._router.post(node, ProcessResponse(id=number, body=body))

    # Ends

    def node_down(self, node: Node) -> None:
        """End the calls and monitors of a lost node, in bounded steps. Their reason is `NOCONNECTION`.

        Args:
            node: the start of a node that has ended or cannot be reached.
        """
        self._lose(lambda other: other == node)
        if self._steps:
            send(self._router.pid, _TICK)

    def close(self) -> None:
        """End all calls and monitors with `NOCONNECTION`, because the router ends. Remote pids stay without effect."""
        self._is_closed = True
        self._lose(lambda other: True)
        while self._steps:
            self._steps.popleft()()

    def _lose(self, is_lost: Callable[[Node], bool]) -> None:
        """Add the steps that end all calls and monitors of some nodes."""
        for watches in (self._unconfirmed, self._confirmed):
            for watch in [each for each in watches.values() if is_lost(each.target.node)]:
                del watches[watch.ref.number]
                self._steps.append(partial(watch.ref.down, None, NOCONNECTION))
        for key in [key for key in self._watched if is_lost(key[0])]:
            self._steps.append(self._watched.pop(key).remove)
        for number, call in self._calls.items():
            if is_lost(call.node):
                lost = Ended(id=number, reason=encode_reason(NOCONNECTION, call.node.name))
                self._steps.append(partial(self._end_call, number, lost))

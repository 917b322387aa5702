"""The router of a node: it finds the node of each key, starts the processes of the keys of this node, and moves them.

Callers use the router directly, in their own tasks, because a message to a process would cost a step of the scheduler.
No method that callers use waits, except for the answer of their own request. Processes do the rest:

- The session opens a session at the arbiter, and stops all entities if its lease is lost.
- The server gets the messages of other nodes.
- The locator asks the arbiter for the owners of keys.
- The pool supervises the entities. It stops before the server and the locator, so that entities reach other nodes until
  their end.
- The keeper says hello to other nodes, stops idle entities, and gives back keys without a process.
- The mover moves keys to the nodes that should have them.
- The clock wakes entities whose alarm is due.

The router outlives these processes, so its supervisor may restart each of them alone.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import Any

import msgspec
import trio
from msgspec.structs import replace

from actors.addresses import RemoteMonitor
from actors.arguments import check_number
from actors.errors import (
    CallingSelf,
    InvalidOption,
    InvalidReturn,
    NoProcess,
    NotAProcess,
    StartIgnored,
)
from actors.exits import NOCONNECTION, NOPROC, NORMAL, Crash, ExitReason, is_normal_exit
from actors.instrumentation.telemetry import Event
from actors.links import kill, trap_exits, wait_exit
from actors.process import current_pid, exit, on_exit, spawn_link
from actors.refs import Pid, Ref
from actors.runtime import Runtime, current_runtime
from actors.servers.gen_server import CallRequest, Cast, GenServer
from actors.small_set import items_of
from actors.text import bounded
from channels.entities.arbiter import Arbiter, ArbiterUnavailable, OwnedBy
from channels.entities.codec import CannotTravel, Codec
from channels.entities.entity import Entity
from channels.entities.errors import Failure, RequestRefused
from channels.entities.handovers import Departures, Handovers
from channels.entities.lease import Lease
from channels.entities.messages import (
    VERSION,
    Accepted,
    Answer,
    Ask,
    Cargo,
    Carried,
    Failed,
    Forwarded,
    GaveUp,
    HandedOver,
    Handover,
    Hello,
    Moved,
    RouterMessage,
    Verb,
    Withdraw,
)
from channels.entities.ownership import Limits, Record, State
from channels.entities.placement import Candidate, Placement
from channels.entities.process import LEASE_LOST, NUDGE, process_class, serving
from channels.entities.remote import (
    CONFIRM_TIMEOUT,
    ProcessId,
    RemoteCrash,
    RemoteMessage,
    RemotePid,
    RemoteProcesses,
    Tick,
    decode_reason,
    encode_reason,
)
from channels.entities.requests import (
    GAVE_UP,
    Anyone,
    EntityRequest,
    IncomingRequest,
    LocalRequest,
)
from channels.entities.streams import Refusals, Streams
from channels.messages import Binary, Broadcast
from channels.pubsub.adapter import Node
from channels.pubsub.envelope import MessageTooLarge
from channels.pubsub.pubsub import PubSub
from channels.serializers.json_values import NOT_DECODABLE
from channels.telemetry import (
    ENTITY_ALARM,
    ENTITY_CRASHED,
    ENTITY_DROPPED,
    ENTITY_ENDED,
    ENTITY_HANDED_OVER,
    ENTITY_HANDOVER_LOST,
    ENTITY_LEASE_LOST,
    ENTITY_MESSAGE_REFUSED,
    ENTITY_MOVING,
    ENTITY_NODE_DOWN,
    ENTITY_NODE_UP,
    ENTITY_REFUSED,
    ENTITY_REQUEST_ACCEPTED,
    ENTITY_REQUEST_ENDED,
    ENTITY_SESSION_OPENED,
    ENTITY_START_FAILED,
    ENTITY_STARTED,
    ENTITY_TAKEN_OVER,
    PUBSUB_NODE_DOWN,
)
from channels.topics import INTERNAL
from supervision.child_spec import ChildSpec, process_spec
from supervision.dynamic_supervisor import DynamicSupervisor

__all__ = ["Router", "Settings"]

MAX_HOPS = 4
"""The most nodes that may refuse a request before it fails. One refuses it in each move of its key that it meets."""

MAX_OWNERS = 100_000
"""The most owners of keys that a node remembers."""

MAX_GONE = 20
"""The most handed-over keys that a node remembers for a table."""

MAX_DUE = 20_000
"""The most due alarms among which a node looks for those that it should send."""

MAX_LOST = 100
"""The most lost nodes that a node remembers."""

# Seconds of silence after which a node counts as gone, unless the lease is shorter, and the hellos in this time. The
# keys of a dead node are free after the lease at the latest, and then a caller should not wait for its answer.
_YEAR = 366 * 86_400.0
_SILENCE = 10.0
_HELLOS = 4
# Seconds after a change of the nodes before keys move, so that nodes that start together cause one change.
_SETTLE = 2.0
# Seconds between two looks at the owner of keys whose node is gone while its lease lasts.
_RETRY = 0.1
# Seconds until a key that ran before starts again, if the arbiter did not answer; up to twice as many, so that many
# keys do not start at once.
_START_AGAIN = 1.0
# Seconds in which a drained node sends requests back.
_GRACE = 0.5
# Seconds that a cast waits for its entity.
_PATIENCE = 30.0
# Seconds between two looks at the alarms, at most, and until a due alarm is sent again.
_ALARM_LOOK = 1.0
_ALARM_AGAIN = 10.0
# Keys that a loop looks at between two checkpoints, and keys that move at a time.
_PORTION = 200
_MOVES = 64

_COUNTED = (
    "sessions",
    "leases_lost",
    "started",
    "crashed",
    "start_failed",
    "idle_stops",
    "handed_over",
    "taken_over",
    "handovers_lost",
    "handoffs_refused",
    "dropped",
    "refused_max_entities",
    "refused_max_waiting",
    "refused_max_request_bytes",
    "refused_max_remote_waiting",
    "refused_max_handover_bytes",
    "messages_refused",
    "not_sent",
)

_encode = msgspec.json.Encoder().encode
# The sender, the start of the receiver or an empty text for every receiver, and the message.
_decode_message = msgspec.json.Decoder(tuple[Node, str, RouterMessage | RemoteMessage]).decode
_decode_cargo = msgspec.json.Decoder(Cargo).decode
_decode_process = msgspec.json.Decoder(ProcessId | None).decode
_decode_alarm = msgspec.json.Decoder(float).decode
_NULL = msgspec.Raw(b"null")
_TOO_LATE = Failure("EntityUnavailable", "the handover of the key came too late")
_NOT_CONFIRMED = Failure("EntityLost", "the new owner has not confirmed the handover")
_NO_LEASE = Lease(lambda: math.inf)
_NO_LEASE.lose("this node has no session at the arbiter")
# A look-up of a member costs more than a global variable.
_RUNNING = State.RUNNING
_WITH_CONTENT = frozenset({"call", "cast", "send"})
# The requests that wait for the running callback of their entity.
_IN_TURN = frozenset({"call", "stop"})
# The requests that an entity need not run for.
_FOR_RUNNING = frozenset({"stop", "locate"})


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The options of an `EntitySupervisor`, which explains them."""

    name: str
    cls: type[Entity]
    idle_timeout: float
    labels: frozenset[str]
    pin: Callable[[str], str | None] | None
    max_entities: int
    max_waiting: int
    max_request_bytes: int
    max_remote_waiting: int
    max_handover_bytes: int
    max_moves_per_second: float
    limits: Limits
    handover_timeout: float


class _Awaited(msgspec.Struct):
    """The wait of a start for the handover of its key.

    Attributes:
        sender: the previous owner; None if the arbiter does not know it.
        fence: the fence of the handover.
        arrival: set when the handover is here, or when it cannot come any more.
        scope: ends the wait. Each part of the handover that arrives extends it, and for `_PATIENCE` also each part of
            another handover of the same sender, if others wait behind it there.
        since: the beginning of the wait.
    """

    sender: Node | None
    fence: int
    arrival: trio.Event
    scope: trio.CancelScope
    since: float


class _Unconfirmed(msgspec.Struct):
    """A handover that its new owner has not confirmed.

    Attributes:
        to: the new owner.
        waiting: for each request in the handover, the function that reports its failure.
        foreign: the numbers of the requests of other nodes in the handover, by their nodes. These nodes learn of the
            new owner when it has the requests.
        deadline: the time at which the handover is lost. Each part that leaves or is confirmed extends it.
    """

    to: Node
    waiting: list[Callable[[Failure], None]]
    foreign: dict[Node, list[int]]
    deadline: float = math.inf


class Router:
    """The entities of one `EntitySupervisor` on one node, and the way to those on other nodes.

    Args:
        settings: the options.
        pubsub: carries the messages between nodes.
        arbiter: decides which node owns a key.
        numbers: the numbers of requests and streams. They grow for as long as the PubSub has one incarnation, because
            other nodes remember them.
        refusals: the generations that this node has refused, also those of earlier routers of the PubSub.
    """

    def __init__(
        self,
        settings: Settings,
        pubsub: PubSub,
        arbiter: Arbiter,
        numbers: Iterator[int],
        refusals: Refusals,
    ) -> None:
        self.settings = settings
        self._max_waiting = settings.max_waiting
        self._max_request_bytes = settings.max_request_bytes
        self._numbers = numbers
        self.pubsub = pubsub
        self.arbiter = arbiter
        self.runtime: Runtime = current_runtime()
        # True for an event that somebody observes.
        self.observes = self.runtime.telemetry.handlers
        self._now = self.runtime.current_time
        self.node = pubsub.node
        self.topic = f"{INTERNAL}entities:{settings.name}"
        self.callback = f"{settings.cls.__name__}.handle_call"
        cls = settings.cls
        enc_hook, dec_hook = self._enc_hook, self._dec_hook
        self.requests = Codec("requests", cls.requests, enc_hook, dec_hook)
        self.answers = Codec("answers", cls.answers, enc_hook, dec_hook)
        self._handoffs = Codec("handoff", cls.handoff, enc_hook, dec_hook)
        self._class = process_class(cls)
        self._spec = ChildSpec(cls.__name__, self._spawn, restart="temporary")
        self.records: dict[str, Anyone] = {}
        self.streams: Streams[LocalRequest] = Streams(numbers)
        self.refusals = refusals
        self.placement = Placement(self.node, settings.labels)
        self.counts: Counter[str] = Counter(dict.fromkeys(_COUNTED, 0))
        # The number of processes whose `init` has returned.
        self._running = 0
        # The keys that this node has handed over last, with their new owners and the times of day.
        self._gone: deque[tuple[str, Node, float]] = deque(maxlen=MAX_GONE)
        self.pid: Pid
        self._processes: RemoteProcesses | None = None
        self._pool: Pid | None = None
        # The lease of the present session. Without a session, it is a lost one.
        self.lease = _NO_LEASE
        self._is_stopping = False
        self._owners: dict[str, Node] = {}
        self._handovers = Handovers(settings.max_handover_bytes)
        # The keys whose start waits for a handover.
        self._awaited: dict[str, _Awaited] = {}
        # The nodes that were lost last.
        self._lost: deque[Node] = deque(maxlen=MAX_LOST)
        self._departures = Departures()
        # The handovers that their new owners have not confirmed.
        self._unconfirmed: dict[tuple[str, int], _Unconfirmed] = {}
        self._is_draining = self._is_drained = False
        # True after the end of the server. Other nodes get no more requests then.
        self._is_closed = False
        self._moving = 0
        self._has_moved = trio.Event()
        self._unlocated: deque[LocalRequest] = deque()
        # The keys that wait for the end of the session of their lost owner.
        self._blocked: dict[Node, list[Anyone]] = {}
        self._has_unlocated = trio.Event()
        # Set if keys may be on the wrong node.
        self._unbalanced = trio.Event()
        self._next_alarm = math.inf
        self._has_alarm = trio.Event()
        # The time at which a due alarm is sent again, unless it is cleared.
        self._alarms_sent: dict[tuple[str, float], float] = {}

    # Starting

    def children(self) -> list[ChildSpec]:
        """Return the specs of the processes of this router, in the order of their start."""
        name = self.settings.name
        return [
            *self.arbiter.start(name, on_node_lost=self.node_lost),
            ChildSpec("session", self._start_session),
            ChildSpec("server", _Server.start_link, args=(self,)),
            process_spec(self._locate, id="locator"),
            ChildSpec("entities", self._start_pool, type="supervisor"),
            process_spec(self._keep, id="keeper"),
            process_spec(self._move_keys, id="mover"),
            process_spec(self._watch_alarms, id="clock"),
        ]

    async def _start_pool(self) -> Pid:
        self._pool = await DynamicSupervisor.start_link(label=f"{self.settings.name} entities")
        for record in list(self.records.values()):
            if record.state is State.STARTING and record.process is None:
                # There was no pool, or it ended before it started this process.
                self._start(record)
        return self._pool

    def execute(self, event: Event, about: dict[str, Any], **measured: float) -> None:
        """Execute a telemetry event about this router."""
        if self.observes(event):
            self.runtime.telemetry.execute(
                event, measured, {"supervisor": self.settings.name, "router": self, **about}
            )

    def statistics(self) -> dict[str, Any]:
        """Return the present numbers of this node, and its counters."""
        # A look at 100,000 records takes milliseconds, so look only if some may have waiting requests.
        others = len(self.records) - self._running
        waiting = sum(len(each.waiting) for each in self.records.values()) if others else 0
        return {
            "node": self.node.name,
            "nodes": 1 + len(self.placement.others()),
            "has_session": self.may_run,
            "entities": self._running,
            "keys": len(self.records),
            "waiting": waiting,
            "remote_waiting": len(self.streams),
            "arbiter": {"name": self.arbiter.name, **self.arbiter.statistics()},
            "processes": {} if self._processes is None else self._processes.statistics(),
            **self.counts,
        }

    def rows(self, limit: int) -> list[dict[str, Any]]:
        """Return the newest keys of this node, and the keys that it has handed over last, for a table."""
        found: list[dict[str, Any]] = []
        for record in islice(reversed(self.records.values()), limit):
            row: dict[str, Any] = {"key": record.key[:80], "node": self.node.name}
            row |= {"state": record.state.value, "messages": record.messages}
            if record.process is not None:
                row["pid"] = record.process.pid.number
                row["born"] = round(record.born, 3)
            if record.arrived is not None:
                sender, at = record.arrived
                row["handover"] = {"from": sender.name, "at": round(at, 3)}
            found.append(row)
        for key, to, at in reversed(self._gone):
            if key not in self.records:
                row = {"key": key[:80], "node": to.name, "state": "moved"}
                found.append({**row, "handover": {"to": to.name, "at": round(at, 3)}})
        return found

    # The session

    @property
    def may_run(self) -> bool:
        """True if an entity of this node may handle a message now."""
        return self.lease.is_valid

    async def _start_session(self) -> Pid:
        await self._open_session()
        return spawn_link(self._keep_session, label="session")

    async def _open_session(self) -> None:
        """Stop the entities of the last session, and open a session. Without the arbiter there is none."""
        await self._stop_entities()
        try:
            self.lease = await self.arbiter.open_session(self.node)
        except ArbiterUnavailable:
            return
        self.counts["sessions"] += 1
        self.execute(ENTITY_SESSION_OPENED, {})
        self._update_placement()

    async def _keep_session(self) -> None:
        try:
            while True:
                if self.lease is _NO_LEASE:
                    await trio.sleep(1.0)
                else:
                    problem = await self.lease.wait_lost()
                    self.counts["leases_lost"] += 1
                    self.execute(ENTITY_LEASE_LOST, {"problem": problem})
                await self._open_session()
        finally:
            # The pool stops before this process, unless this process crashed. Then the next one stops the entities.
            if not any(each.process for each in self.records.values()):
                self.lease = _NO_LEASE
                # Shielded, because this process ends when the node stops, and the keys should be free at once.
                with trio.move_on_after(2.0, shield=True):
                    await self.arbiter.close_session()

    async def _stop_entities(self) -> None:
        """Kill all entities, and wait until they have ended. None of them may handle a message from now on."""
        self.lease = _NO_LEASE
        self._update_placement()
        pids = [each.process.pid for each in self.records.values() if each.process is not None]
        for number, pid in enumerate(pids):
            kill(pid)
            if number % _PORTION == 0:
                await trio.lowlevel.checkpoint()
        for pid in pids:
            await wait_exit(pid)
        for record in [each for each in self.records.values() if each.state is State.HELD]:
            # The session is over, so the next one gets a greater fence.
            del self.records[record.key]

    # Requests of this node

    def _new(self, key: str, verb: Verb, content: Any, timeout: float) -> LocalRequest:
        """Return a request of the caller.

        Raises:
            CannotTravel: the content is not of the declared type, or too large.
        """
        body: bytes = b"null"
        arrived = None
        if verb in _WITH_CONTENT:
            body, arrived = self.requests.encode(content)
            if len(body) > self._max_request_bytes:
                limit = self._max_request_bytes
                self._count_refusal("max_request_bytes", key, limit)
                raise CannotTravel(f"it has {len(body)} bytes, and max_request_bytes is {limit}")
        waiting = serving.get()
        try:
            pid = current_pid()
        except NotAProcess:
            pid = None
        chain = () if waiting is None or pid is None else waiting(pid.process)
        deadline = self._now() + timeout
        number = next(self._numbers)
        return LocalRequest(
            self, self._here, pid, number, key, verb, arrived, body, deadline, chain
        )

    # Without this, Ctrl-C in the middle could leave a request whose answer wakes a task that no longer waits.
    @trio.lowlevel.enable_ki_protection
    async def call(self, address: Any, verb: Verb, content: Any, timeout: float) -> Any:
        """Send a request, and wait for its end. See `actors.call`."""
        if timeout == math.inf:
            expected = "a finite number of seconds, because a message to another node can be lost"
            raise InvalidOption("call", "timeout", timeout, expected)
        key = address.key
        try:
            request = self._new(key, verb, content, timeout)
        except CannotTravel as error:
            await trio.lowlevel.checkpoint()
            raise RequestRefused("refused", address, content, timeout, error.problem) from None
        if request.chain and verb in _IN_TURN and self.address_of(key) in request.chain:
            await trio.lowlevel.checkpoint()
            raise CallingSelf(address, content, timeout)
        timer, timers = None, self.runtime.timers
        try:
            if verb in {"stop", "locate"}:
                self.locate(request)
            else:
                self.submit(request)
            if request.done:
                await trio.lowlevel.checkpoint()
            else:
                timer = timers.at(request.deadline, request.expire)
                await request.wait()
        except BaseException:
            # A cancelled caller gets no answer, and an answer must not wake a task that does not wait.
            if not request.done:
                request.abandon()
            raise
        finally:
            if timer is not None:
                timers.forget(timer)
        return request.result(address, content, timeout)

    def tell(self, address: Any, verb: Verb, content: Any) -> None:
        """Send a cast or a message. If it cannot be delivered, an event reports this.

        Raises:
            RequestRefused: the content is not of the declared type, or too large.
        """
        try:
            request = self._new(address.key, verb, content, _PATIENCE)
        except CannotTravel as error:
            raise RequestRefused("refused", address, content, 0.0, error.problem) from None
        self.submit(request)

    def submit(self, request: LocalRequest) -> None:
        """Take a request of this node to its entity, wherever it is."""
        record = self.records.get(request.key)
        if record is not None and request.key not in self.streams.by_key:
            self._deliver(record, request)
        else:
            self._route(request)

    def _route(self, request: LocalRequest) -> None:
        key = request.key
        node = self.streams.node_of(key) or self._choose(key)
        if node is None:
            request.fail(_unavailable(f"no node has the label {self._label(key)!r}"))
        elif node == self.node:
            self._take(request)
        elif self._is_closed:
            request.fail(_unavailable("this node stops"))
        elif self.streams.waiting_at(node) >= self.settings.max_remote_waiting:
            self._refuse(request, "max_remote_waiting", self.settings.max_remote_waiting)
        else:
            generation = self.streams.add(request, node)
            self.post(node, self._ask(request, generation))

    def _ask(self, request: LocalRequest, generation: int = 0) -> Ask:
        pid: Any = request.pid
        return Ask(
            id=request.number,
            turn=request.turn,
            generation=generation,
            key=request.key,
            verb=request.verb,
            body=msgspec.Raw(request.body),
            seconds=max(0.0, request.deadline - self._now()),
            hops=request.hops,
            chain=request.chain,
            process=None if pid is None else self.processes.encode_process(pid),
        )

    def _label(self, key: str) -> str | None:
        return None if self.settings.pin is None else self.settings.pin(key)

    def _choose(self, key: str) -> Node | None:
        """Return the node that probably owns a key, or should own it."""
        owner = self._owners.get(key)
        if owner is not None:
            if self.placement.may_own(owner):
                return owner
            del self._owners[key]
        return self._proposed(key)

    def _proposed(self, key: str) -> Node | None:
        """Return the node that should own a key."""
        return self.placement.choose(key, self._label(key))

    def _remember(self, key: str, owner: Node) -> None:
        self._owners[key] = owner
        if len(self._owners) > MAX_OWNERS:
            del self._owners[next(iter(self._owners))]

    def locate(self, request: LocalRequest) -> None:
        """Take a request to its entity if it runs. Otherwise answer None, and start nothing."""
        record = self.records.get(request.key)
        if record is not None:
            self._deliver(record, request)
        elif self.pubsub.is_local:
            request.answer(None)
        elif self._is_closed:
            request.fail(_unavailable("this node stops"))
        elif len(self._unlocated) >= self.settings.max_remote_waiting:
            self._refuse(request, "max_remote_waiting", self.settings.max_remote_waiting)
        else:
            self._unlocated.append(request)
            self._has_unlocated.set()

    async def _locate(self) -> None:
        while True:
            # An earlier locator may have left some.
            if not self._unlocated:
                with trio.move_on_after(_RETRY if self._blocked else math.inf):
                    await self._has_unlocated.wait()
            self._has_unlocated = trio.Event()
            while self._unlocated:
                if not self._unlocated[0].done:
                    await self._submit_to_owner(self._unlocated[0])
                self._unlocated.popleft()
            for owner in list(self._blocked):
                if not await self._owns(owner, self._blocked[owner][0].key):
                    for record in self._blocked.pop(owner):
                        self._try_again(record)

    async def _submit_to_owner(self, request: LocalRequest) -> None:
        """Take a request to the node that owns its key at the arbiter."""
        try:
            owner = await self.arbiter.owner(request.key)
        except ArbiterUnavailable as error:
            request.fail(_unavailable(str(error), error.retry_after))
            return
        if request.done:
            pass  # its caller has given up meanwhile
        elif owner is None:
            request.answer(None)
        elif owner != self.node and not self.placement.knows(owner):
            request.fail(_unavailable(f"its node {owner.name!r} does not run"))
        else:
            self._remember(request.key, owner)
            # Requests may wait here for this key by now, and later ones must not overtake them.
            self.submit(request)

    async def _owns(self, lost: Node, key: str) -> bool:
        """Return True while a lost node owns a key. All its keys become free at once, so one look is enough."""
        if not self.may_run or self.placement.may_own(lost):
            return False
        try:
            return await self.arbiter.owner(key) == lost
        except ArbiterUnavailable:
            return True

    def monitor(self, address: Any) -> Ref:
        """Make the current process monitor the entity of an address, if it runs."""
        watching = _Watching(self)
        ref = RemoteMonitor(address, watching.cancel)
        request = self._new(address.key, "locate", None, CONFIRM_TIMEOUT)
        request.on_end = partial(watching.located, ref)
        self.locate(request)
        if not request.done:
            self.runtime.timers.at(request.deadline, request.expire)
        return ref

    # Requests for keys of this node

    def _take(self, request: EntityRequest) -> None:
        """Take a request to the process of its key on this node, which may have to start."""
        key = request.key
        record = self.records.get(key)
        if record is not None:
            self._deliver(record, request)
        elif request.verb in _FOR_RUNNING:
            owner = self._owners.get(key)
            if owner is None or owner == self.node or not isinstance(request, IncomingRequest):
                request.answer(None)
            else:
                self._send_back(request, owner)
        elif not self.may_run:
            request.fail(_unavailable("this node has no session at the arbiter"))
        elif len(self.records) >= self.settings.max_entities:
            self._refuse(request, "max_entities", self.settings.max_entities)
        else:
            record = self.records[key] = Record(key)
            record.wait(request)
            self._start(record)

    def _deliver(
        self, record: Anyone, request: EntityRequest, *, was_admitted: bool = False
    ) -> None:
        """Put a request into the mailbox of its entity, or let it wait until the entity runs.

        Args:
            record: the record of its key.
            request: the request.
            was_admitted: True if the request was within `max_waiting` when it came, perhaps in an earlier mailbox.
        """
        state = record.state
        if state is _RUNNING:
            process = record.process
            assert process is not None  # it runs
            verb = request.verb
            if verb != "call" and verb in {"locate", "start"}:
                request.answer(process.pid)
                return
            mailbox, runtime = process.mailbox, self.runtime
            if len(mailbox.queue) >= self._max_waiting and not was_admitted:
                self._refuse(request, "max_waiting", self._max_waiting)
                return
            if self.observes(ENTITY_REQUEST_ACCEPTED):
                self.execute(ENTITY_REQUEST_ACCEPTED, {"request": request, "fence": record.fence})
            if verb == "call":
                envelope = CallRequest(request.content, request)
            else:
                request.accept()
                envelope = request.envelope()
            if not runtime.guarded or runtime.admit(process.pid, envelope):
                mailbox.put(envelope)
        elif state is State.HELD:
            self._revive(record, request)
        elif self._is_closed:
            request.fail(_unavailable("this node stops"))
        elif record.in_mailbox + len(record.waiting) >= self._max_waiting:
            self._refuse(request, "max_waiting", self._max_waiting)
        else:
            record.wait(request)

    def _revive(self, record: Anyone, request: EntityRequest) -> None:
        """Start the process of a key that has none, unless it must wait after its failures."""
        seconds = record.held_until - self._now()
        if request.verb in _FOR_RUNNING:
            request.answer(None)
        elif seconds > 0:
            problem = f"it failed too often; the next start is possible in {seconds:.3g} s"
            request.fail(Failure("EntityStartFailed", problem, NORMAL, seconds))
        else:
            record.wait(request)
            self._start(record)

    def _refuse(self, request: EntityRequest, option: str, limit: float) -> None:
        self._count_refusal(option, request.key, limit)
        request.fail(Failure("EntityBusy", f"{option} is {limit}", "busy"))

    def _count_refusal(self, option: str, key: str, limit: float) -> None:
        self.counts[f"refused_{option}"] += 1
        self.execute(ENTITY_REFUSED, {"key": key, "option": option}, limit=limit)

    # Processes

    def _start(self, record: Anyone) -> None:
        """Start a process for a record. It acquires the key itself."""
        record.begin_start()
        if self.may_run and not self._is_stopping:
            # Without a pool, the next pool starts it.
            if self._pool is not None:
                with suppress(NoProcess):
                    DynamicSupervisor.request_start(self._pool, self._spec, record)
            return
        self._drop(record)
        failure = _unavailable("this node has no session at the arbiter")
        for request in record.take_waiting():
            request.fail(failure)

    def _spawn(self, record: Anyone) -> Pid:
        """Start the process of a key, in the process of the pool."""
        if record.process is not None or record.state is not State.STARTING:
            # A new pool and a request have both asked for this start.
            raise StartIgnored
        label = f"{self.settings.cls.__name__} {record.key[:80]}"
        pid = self._class.spawn_link(self, record, label=label)
        record.process = pid.process
        on_exit(partial(self._process_ended, record), pid=pid)
        return pid

    def _drop(self, record: Anyone) -> None:
        if self.records.get(record.key) is record:
            del self.records[record.key]

    def _process_ended(self, record: Anyone) -> None:
        """Decide about a key whose process has ended. Runs before other processes learn of the end."""
        process, record.process = record.process, None
        assert process is not None  # `_spawn` has set it
        if record.state is not State.STARTING:
            self._running -= 1
        if record.state is State.MOVING:
            self._moving -= 1
            self._has_moved.set()
        reason = process.reason if record.reason is None else record.reason
        requests: list[EntityRequest] = [] if record.popped is None else [record.popped]
        requests += [found for each in process.mailbox.queue if (found := _request_in(each))]
        requests += record.take_waiting()
        record.popped = None
        requests = [each for each in requests if not each.done]
        self._fail_open(record, reason)
        about = {"key": record.key, "fence": record.fence, "pid": process.pid, "reason": reason}
        self.execute(ENTITY_ENDED, about)
        if not self.may_run:
            self._drop(record)
            self._fail_all(requests, _unavailable("the lease of its node was lost"))
        elif record.owner is not None and record.has_newer_handoff:
            # The answer of the arbiter is older than the handover.
            record.wait_first(requests)
            self._start(record)
        elif record.owner is not None:
            self._owned_by(record, record.owner, requests)
        elif record.state is State.STARTING:
            self._start_failed(record, reason, requests)
        elif record.transferred is not None:
            self._drop(record)
            self._hand_over(record, requests)
        elif record.state is State.MOVING and is_normal_exit(reason):
            # The arbiter refused the transfer, or the other node drains. So the next process gets the state.
            self._unbalanced.set()
            record.wait_first(requests)
            self._start(record)
        elif is_normal_exit(reason):
            self._stopped(record, requests)
        else:
            self._crashed(record, reason, requests)

    def _fail_open(self, record: Anyone, reason: ExitReason) -> None:
        """End the requests that the process has begun and not answered."""
        error, problem = "EntityCrashed", f"the entity ended with {_in_words(reason)}"
        if not self.may_run:
            error, problem = "EntityLost", "the lease of its node was lost"
        elif is_normal_exit(reason):
            error, problem = "EntityLost", f"{problem} before it answered"
        for request in items_of(record.open):
            request.fail(Failure(error, problem, reason))
        record.open = None

    def _fail_all(self, requests: Sequence[EntityRequest], failure: Failure) -> None:
        for request in requests:
            request.fail(failure)

    def _owned_by(self, record: Anyone, owner: Node, requests: list[EntityRequest]) -> None:
        """Pass requests on to the node that owns their key."""
        # Another process has run since a handover to this node, so newer casts may have run before those in it.
        self._fail_all([each for each in record.carried if not each.wants_answer], _TOO_LATE)
        requests = [each for each in requests if not each.done]
        if self.placement.may_own(owner):
            self._drop(record)
            self._remember(record.key, owner)
            for request in requests:
                self._pass_on(request, owner)
            return
        # The owner is gone, and its lease lasts. Or the owner has drained, and the key still travels to it, and comes
        # back. The requests wait until another node owns the key, or until their own time is over.
        if not requests:
            self._drop(record)
            return
        record.wait_first(requests)
        self._blocked.setdefault(owner, []).append(record)
        self._has_unlocated.set()

    def _try_again(self, record: Anyone) -> None:
        is_here = self.records.get(record.key) is record
        if is_here and record.process is None and record.state is State.STARTING:
            waiting = [each for each in record.take_waiting() if not each.done]
            record.wait_first(waiting)
            # An entity that has come to this node runs here, even if nobody waits for it.
            if waiting or record.handoff_fence > record.fence:
                self._start(record)
            else:
                self._drop(record)

    def _pass_on(self, request: EntityRequest, owner: Node | None) -> None:
        """Route a request again, because this node does not own the key."""
        if isinstance(request, IncomingRequest):
            self._send_back(request, owner)
        elif isinstance(request, LocalRequest):
            self._route_again(request)

    def _route_again(self, request: LocalRequest) -> None:
        if request.done:
            return
        request.hops += 1
        if request.hops > MAX_HOPS:
            request.fail(_unavailable(f"{request.hops} nodes have refused the key"))
        elif request.verb in _FOR_RUNNING and request.key not in self.records:
            self.locate(request)
        else:
            self.submit(request)

    def _start_failed(
        self, record: Anyone, reason: ExitReason, requests: list[EntityRequest]
    ) -> None:
        failure, delay = record.failure, 0.0
        if failure is None or failure.error == "EntityStartFailed":
            delay = record.count_crash(self.settings.limits, self._now())
            problem = f"it ended with {_in_words(reason)}" if failure is None else failure.problem
            failure = Failure("EntityStartFailed", problem, reason, delay)
            self.counts["start_failed"] += 1
            about = {"key": record.key, "reason": reason, "problem": problem}
            self.execute(ENTITY_START_FAILED, about, delay=delay)
        record.state = State.HELD
        self._fail_all(requests, failure)
        has_run = record.born or record.arrived or record.is_without_handover
        if has_run and not delay:
            # It ran before its crash or on its last node, so it has to run again, even if nobody calls it.
            self._start_later(record)

    def _start_later(self, record: Anyone) -> None:
        record.starts_again = True
        at = self._now() + _START_AGAIN * (1 + self.runtime.random.random())
        self.runtime.timers.at(at, partial(self._start_held, record))

    def _start_held(self, record: Anyone) -> None:
        if self.records.get(record.key) is not record:
            return
        # It may have failed too often since, and must wait then.
        if record.state is State.HELD and self._now() >= record.held_until:
            self._start(record)
        elif record.state is State.RELEASING:
            # The release may fail.
            self._start_later(record)

    def _stopped(self, record: Anyone, requests: list[EntityRequest]) -> None:
        requests = self._that_start(requests)
        if record.is_released:
            self._drop(record)
            for request in requests:
                if self._is_stopping:
                    self._pass_on(request, None)
                else:
                    self._take(request)
            return
        record.state = State.HELD
        self._start_for(record, requests)

    def _start_for(self, record: Anyone, requests: list[EntityRequest]) -> None:
        """Start the process of a key in HELD for requests that were admitted before, unless it must wait."""
        must_start = requests or record.has_newer_handoff
        if must_start and self._now() >= record.held_until:
            record.wait_first(requests)
            self._start(record)
        else:
            for request in requests:
                self._revive(record, request)

    def _that_start(self, requests: list[EntityRequest]) -> list[EntityRequest]:
        """Return the requests that start an entity, and answer the others, because none runs.

        None of the others may go back to its node: that would refuse the later ones of its generation, which are here.
        """
        for request in [each for each in requests if each.verb in _FOR_RUNNING]:
            request.answer(None)
        return [each for each in requests if not each.done]

    def _crashed(self, record: Anyone, reason: ExitReason, requests: list[EntityRequest]) -> None:
        delay = record.count_crash(self.settings.limits, self._now())
        self.counts["crashed"] += 1
        about = {"key": record.key, "fence": record.fence, "reason": reason}
        self.execute(ENTITY_CRASHED, about, delay=delay)
        if not delay:
            record.wait_first(requests)
            self._start(record)
            return
        record.state = State.HELD
        problem = f"it crashed too often, the last time with {_in_words(reason)}; the next start is possible in "
        failure = Failure("EntityStartFailed", f"{problem}{delay:.3g} s", reason, delay)
        self._fail_all(requests, failure)

    # What the processes of entities ask for

    def address_of(self, key: str) -> str:
        """Return the text for a key in call chains."""
        return f"{self.settings.name}/{key}"

    async def acquire(self, record: Anyone, at_least: int) -> Any:
        """Own the key of a record, and return the state from its previous owner. Ends the process if that fails."""
        lease = self.lease
        if not self.may_run:
            exit(LEASE_LOST)
        try:
            owned = await self.arbiter.acquire(record.key, at_least=at_least)
        except ArbiterUnavailable as error:
            record.failure = _unavailable(str(error), error.retry_after)
            exit(NORMAL)
        if isinstance(owned, OwnedBy):
            record.owner = owned.node
            exit(NORMAL)
        before, record.fence = record.fence, owned.fence
        is_awaited = owned.arrived and record.handoff_fence != owned.fence
        # A lost node sends nothing more, so the process loads its state at once.
        if is_awaited and owned.sender not in self._lost:
            record.arrival = trio.Event()
            try:
                with trio.move_on_after(self.settings.handover_timeout) as scope:
                    self._awaited[record.key] = _Awaited(
                        owned.sender, owned.fence, record.arrival, scope, self._now()
                    )
                    await record.arrival.wait()
            finally:
                del self._awaited[record.key]
                record.arrival = None
        if not self.may_run or lease is not self.lease:
            exit(LEASE_LOST)
        record.is_loading = True
        if record.handoff_fence not in (0, before, owned.fence):
            # Another process has run since the handover, so newer requests may have run before these.
            self._fail_all(record.carried, _TOO_LATE)
        record.carried = ()
        record.is_without_handover = owned.arrived and record.handoff_fence != owned.fence
        handoff, record.handoff = record.handoff, None
        if handoff is None or record.handoff_fence not in (0, owned.fence):
            return None
        try:
            return self._handoffs.decode(handoff)
        except CannotTravel as error:
            # A later or an earlier version has made this state, so `init` loads the state again.
            self.counts["handoffs_refused"] += 1
            about = {"key": record.key, "problem": error.problem}
            self.execute(ENTITY_HANDOVER_LOST, about)
            return None

    def started(self, record: Anyone) -> None:
        """Let the entity handle its requests, after its `init`."""
        record.state = State.RUNNING
        self._running += 1
        record.born = self.runtime.now()
        record.is_loading = record.has_newer_handoff = False
        record.handoff_fence = 0
        if record.is_without_handover:
            self._handovers.give_up(record.key, record.fence)
        record.last = self._now()
        record.seen = record.messages
        self.counts["started"] += 1
        self._owners.pop(record.key, None)
        assert record.process is not None  # it calls this
        about = {"key": record.key, "fence": record.fence, "pid": record.process.pid}
        self.execute(ENTITY_STARTED, about)
        for request in record.take_waiting():
            if not request.done:
                self._deliver(record, request, was_admitted=True)

    def report(self, event: Event, record: Anyone, request: EntityRequest | None) -> None:
        """Execute the event of a callback that begins or ends."""
        about = {"key": record.key, "fence": record.fence, "request": request}
        self.execute(event, about)

    async def give_up(self, record: Anyone) -> None:
        """Transfer or release the key of a process that ends.

        This node keeps the key if the arbiter does not answer, or if the next owner has begun to drain.
        """
        try:
            to = record.move_to
            if record.state is State.MOVING and to is not None:
                # A node that has begun to drain since this move began may stop before the handover arrives. But a node
                # that stops cannot keep the key.
                if self._is_stopping or not self.placement.drains(to):
                    record.transferred = await self.arbiter.transfer(record.key, record.fence, to)
            elif not self._waiting_in_mailbox(record):
                await self.arbiter.release(record.key, record.fence)
                record.is_released = True
        except ArbiterUnavailable as error:
            # The next start acquires the key, or learns of its new owner, whose state is newer.
            if error.may_have_run:
                record.handoff = None

    def _waiting_in_mailbox(self, record: Anyone) -> bool:
        """Return True if the key must stay here, because its mailbox has requests.

        Their senders may know that this node has them. So they do not send them again if another node gets the key.
        """
        process = record.process
        assert process is not None  # it calls this
        found = (record.popped, *map(_request_in, process.mailbox.queue))
        return any(
            each is not None and not each.done and each.verb not in _FOR_RUNNING for each in found
        )

    def encode_handoff(self, record: Anyone, state: Any) -> None:
        """Keep the result of `handle_handoff` for the next owner.

        Raises:
            InvalidReturn: the state cannot travel.
        """
        if state is None:
            return
        callback = f"{self.settings.cls.__name__}.handle_handoff"
        try:
            body, _ = self._handoffs.encode(state)
        except CannotTravel as error:
            problem = f"as a state, which cannot travel: {error.problem}"
            raise InvalidReturn(callback, state, (), problem) from None
        record.handoff = body

    def ended(self, request: EntityRequest, failure: Failure | None) -> None:
        """Take note of the end of a request."""
        if type(request) is LocalRequest:
            if request.node is not None:
                if failure is GAVE_UP:
                    # If the message was slow and the key moved, newer requests of this sender may have run elsewhere.
                    self.post(request.node, Withdraw(key=request.key, id=request.number))
                node = self.streams.end(request)
                if node is not None:
                    self._remember(request.key, node)
            if failure is not None and request.verb == "alarm":
                self._alarms_sent.pop((request.key, request.content), None)
        # The node of a request no longer knows it after it was accepted.
        is_known_here = not isinstance(request, IncomingRequest) or request.is_accepted
        if failure is not None and not request.wants_answer and is_known_here:
            self.counts["dropped"] += 1
            about = {"key": request.key, "verb": request.verb, "problem": failure.problem}
            self.execute(ENTITY_DROPPED, about)
        self.execute(ENTITY_REQUEST_ENDED, {"request": request, "failure": failure})

    def _submit_alone(self, key: str, verb: Verb, content: Any) -> LocalRequest:
        """Send a request of this node itself, for whose end nobody waits, and return it."""
        deadline, body, number = self._now() + _PATIENCE, _encode(content), next(self._numbers)
        request = LocalRequest(
            self, self._here, None, number, key, verb, content, body, deadline, ()
        )
        self.submit(request)
        if request.wants_answer and not request.done:
            self.runtime.timers.at(deadline, request.expire)
        return request

    # Alarms

    async def set_alarm(self, record: Anyone, at: float | None) -> None:
        """Set or cancel the alarm of an entity."""
        if at is not None:
            # A number of seconds from now is long ago, and the alarm would come at once.
            check_number(
                f"{self.settings.cls.__name__}.set_alarm",
                "at",
                at,
                "seconds since 1970, such as current_runtime().now() + 120",
                least=current_runtime().now() - _YEAR,
                finite=True,
            )
        if not await self.arbiter.set_alarm(record.key, at, record.fence):
            exit(LEASE_LOST)
        if at is not None and at < self._next_alarm:
            self._next_alarm = at
            self._has_alarm.set()

    async def clear_alarm(self, record: Anyone, at: float) -> None:
        """Forget an alarm that an entity has handled. If the arbiter does not answer, the alarm comes again."""
        self._alarms_sent.pop((record.key, at), None)
        with suppress(ArbiterUnavailable):
            await self.arbiter.clear_alarm(record.key, at)

    async def _watch_alarms(self) -> None:
        while True:
            wait = min(_ALARM_LOOK, self._next_alarm - self.runtime.now())
            self._has_alarm = trio.Event()
            with trio.move_on_after(max(0.0, wait)):
                await self._has_alarm.wait()
            if self._next_alarm <= self.runtime.now():
                self._next_alarm = math.inf
            if self.may_run:
                with suppress(ArbiterUnavailable):
                    await self._wake_due()

    async def _wake_due(self) -> None:
        """Send due alarms to their entities, if this node should wake them."""
        time, now = self.runtime.now(), self._now()
        self._alarms_sent = {key: again for key, again in self._alarms_sent.items() if now < again}
        first, limit, sent = 0, _PORTION, 0
        # Alarms that this node cannot wake now would otherwise hold up all later ones.
        while sent < _PORTION and first < MAX_DUE:
            due = await self.arbiter.due_alarms(time, limit)
            for number, (key, at) in enumerate(due[first:], 1):
                if number % _PORTION == 0:
                    await trio.lowlevel.checkpoint()
                # The nodes agree on the proposal, but each may remember another owner, and then no node would wake the
                # key.
                if (key, at) not in self._alarms_sent and (
                    key in self.records or self._proposed(key) == self.node
                ):
                    self.execute(ENTITY_ALARM, {"key": key, "at": at})
                    refusal = self._submit_alone(key, "alarm", at).failure
                    # An entity that is busy or waits after a crash may take it soon.
                    if refusal is None or key not in self.records:
                        self._alarms_sent[key, at] = now + _ALARM_AGAIN
                        sent += 1
            if len(due) < limit:
                return
            first, limit = limit, 2 * limit

    # Other nodes

    @property
    def processes(self) -> RemoteProcesses:
        """The processes of other nodes."""
        assert self._processes is not None  # the server starts before all that sends
        return self._processes

    def open(self, pid: Pid) -> None:
        """Begin to exchange messages, in the process of the server."""
        self.pid = pid
        self._is_closed = False
        process = pid.process
        assert process is not None  # it calls this
        self._here = process
        self._processes = RemoteProcesses(self)
        self.pubsub.subscribe(self.topic)
        on_exit(self.runtime.telemetry.attach(PUBSUB_NODE_DOWN, self._pubsub_node_down))
        on_exit(self._processes.close)
        self._say_hello(answer=True)

    def close(self) -> None:
        """Tell the other nodes that this node stops, and end the requests that still wait."""
        for key, fence in list(self._unconfirmed):
            if self._departures.waits(key, fence):
                self._handover_lost(key, fence, _NOT_CONFIRMED)
            else:
                # It has left, so it probably arrives.
                self._handover_arrived(key, fence)
        self._say_hello(goodbye=True)
        self._is_closed = True
        for request in self.streams.late(math.inf):
            request.fail(Failure("EntityLost", "this node stops, and cannot get the answer"))
        self._fail_all(self._unlocated, _unavailable("this node stops"))
        for record in list(self.records.values()):
            self._fail_all(record.take_waiting(), _unavailable("this node stops"))

    def encode_reason(self, reason: ExitReason) -> Any:
        """Return an exit reason as it travels."""
        return encode_reason(reason, self.node.name)

    def encode_located(self, pid: Any) -> msgspec.Raw:
        """Return the answer to `locate` as it travels."""
        return msgspec.Raw(_encode(None if pid is None else self.processes.encode_process(pid)))

    def decode_located(self, body: msgspec.Raw) -> Pid | RemotePid | None:
        """Return the answer to `locate`."""
        found = _decode_process(body)
        return None if found is None else self.processes.decode_process(found)

    def _enc_hook(self, value: Any) -> Any:
        return self.processes.enc_hook(value)

    def _dec_hook(self, wanted: type, value: Any) -> Any:
        return self.processes.dec_hook(wanted, value)

    def post(self, node: Node, message: Any) -> None:
        """Send a message to the router of another node, at most once. Never raises."""
        try:
            content = self._packed_message(node.incarnation, message)
            self.pubsub.direct_broadcast(node.name, self.topic, content)
        except MessageTooLarge as error:
            self.counts["not_sent"] += 1
            self.execute(ENTITY_MESSAGE_REFUSED, {"problem": f"for {node.name!r}: {error}"})
            if type(message) is Answer:
                reason = self.encode_reason(NOCONNECTION)
                problem = f"its answer cannot travel: {error}"
                self.post(
                    node, Failed(id=message.id, error="EntityLost", problem=problem, reason=reason)
                )
            elif type(message) is Ask and (request := self.streams.get(message.id)) is not None:
                request.fail(Failure("RequestRefused", str(error), "refused"))

    def _packed_message(self, to: str, message: Any) -> Broadcast:
        return Broadcast(self.topic, "entities", Binary(_encode((self.node, to, message))))

    def _hello(self, *, answer: bool = False, goodbye: bool = False) -> Hello:
        return Hello(
            labels=tuple(sorted(self.placement.labels)),
            draining=self.placement.draining,
            # If all nodes drain, keys start on drained nodes again.
            drained=self._is_drained and not self.records,
            answer=answer,
            goodbye=goodbye,
        )

    def _say_hello(self, *, answer: bool = False, goodbye: bool = False) -> None:
        # Without processes, the server has not started.
        if not self.pubsub.is_local and self._processes is not None:
            content = self._packed_message("", self._hello(answer=answer, goodbye=goodbye))
            self.pubsub.broadcast(self.topic, content, sender=self.pid)

    def receive(self, data: bytes) -> None:
        """Handle a message from another node."""
        try:
            sender, to, message = _decode_message(data)
            if to in ("", self.node.incarnation):
                self._handle(sender, message)
        except (CannotTravel, *NOT_DECODABLE) as error:
            self.counts["messages_refused"] += 1
            self.execute(ENTITY_MESSAGE_REFUSED, {"problem": str(error)})

    def _handle(self, sender: Node, message: Any) -> None:  # noqa: C901, PLR0912 - one case for each message
        match message:
            case Ask():
                self._asked(sender, message)
            case Answer():
                request = self.streams.get(message.id)
                if request is not None:
                    request.answer_from_afar(message.body)
            case Accepted():
                request = self.streams.get(message.id)
                if request is not None and not request.wants_answer:
                    request.answer(None)
            case Failed():
                request = self.streams.get(message.id)
                if request is not None:
                    reason = decode_reason(message.reason)
                    request.fail(
                        Failure(message.error, message.problem, reason, message.retry_after)
                    )
            case Moved():
                self._moved(sender, message)
            case Withdraw():
                self._withdraw(sender, message)
            case GaveUp():
                self._withdraw_of(sender)
            case Forwarded():
                self._forwarded(message)
            case Handover():
                self._receive_part(sender, message)
            case HandedOver():
                self._part_arrived(message)
            case Hello():
                self._greeted(sender, message)
            case _:
                self.processes.receive(sender, message)

    def _asked(self, sender: Node, ask: Ask) -> None:
        turn = self.refusals.first(sender, ask.key, ask.generation)
        if turn is not None:
            # The first answer may be lost, so repeat it.
            self.post(sender, Moved(turn=turn, generation=ask.generation, key=ask.key))
            return
        request = self._incoming(sender, ask, is_carried=False)
        if request is None:
            return
        if ask.key in self.records or self.placement.takes_keys or self._may_arrive(ask):
            self._take(request)
        else:
            self._send_back(request, None)

    def _may_arrive(self, ask: Ask) -> bool:
        """Return True if a key may be on its way to this node, although it drains.

        Another node refused the request before, so the arbiter has probably named this node as the owner. The start of
        a process asks the arbiter again, and waits for the handover.
        """
        can_start = self.may_run and not self._is_stopping
        return can_start and ask.hops > 0 and ask.verb not in _FOR_RUNNING

    def _incoming(self, sender: Node, ask: Ask, *, is_carried: bool) -> IncomingRequest | None:
        """Return a request of another node, or tell that node that it does not decode here."""
        content: Any = None
        try:
            if ask.verb in _WITH_CONTENT:
                content = self.requests.decode(ask.body)
            elif ask.verb == "alarm":
                content = _decode_alarm(ask.body)
        except (CannotTravel, *NOT_DECODABLE) as error:
            reason = self.encode_reason("refused")
            self.post(
                sender,
                Failed(
                    id=ask.id, error="RequestRefused", problem=bounded(str(error)), reason=reason
                ),
            )
            return None
        pid = None if ask.process is None else self.processes.decode_process(ask.process)
        deadline = self._now() + ask.seconds
        request = self, self._here, pid, ask.id, ask.key, ask.verb, content, ask.body, deadline
        return IncomingRequest(
            ask, *request, ask.chain, ask.hops, sent_by=sender, is_carried=is_carried
        )

    def _send_back(self, request: IncomingRequest, owner: Node | None) -> None:
        """Refuse a request, and all later ones of its generation, so that its node sends them to the owner."""
        ask = request.ask
        if request.is_carried or request.is_accepted:
            # Its node does not send it again.
            request.fail(_unavailable("its key moved again, and this node cannot pass it on"))
            return
        request.withdraw()
        if self.refusals.add(request.sent_by, ask.key, ask.generation, ask.turn):
            moved = Moved(turn=ask.turn, generation=ask.generation, key=ask.key, owner=owner)
            self.post(request.sent_by, moved)

    def _withdraw(self, sender: Node, message: Withdraw) -> None:
        """Let a request not begin any more."""
        record = self.records.get(message.key)
        for request in () if record is None else self._not_begun(record):
            if request.number == message.id and request.sent_by == sender:
                request.withdraw()

    def _withdraw_of(self, sender: Node) -> None:
        """Let the requests of a node not begin any more."""
        for record in self.records.values():
            for request in self._not_begun(record):
                if request.is_pending_at(sender):
                    request.withdraw()
            if record.waiting:
                record.waiting = [each for each in record.waiting if not each.done]

    def _not_begun(self, record: Anyone) -> list[IncomingRequest]:
        """Return the requests of other nodes that an entity has not begun."""
        queue: Any = () if record.process is None else record.process.mailbox.queue
        if not queue and not record.waiting:
            return []
        found = (*record.waiting, *map(_request_in, queue))
        return [each for each in found if isinstance(each, IncomingRequest)]

    def _moved(self, sender: Node, moved: Moved) -> None:
        refused = self.streams.moved(sender, moved.key, moved.generation, moved.turn)
        if moved.owner is not None:
            self._remember(moved.key, moved.owner)
        elif refused:
            # The node drains, and its hello may be lost.
            self.placement.note_draining(sender)
            self._owners.pop(moved.key, None)
        for request in refused:
            self._route_again(request)

    # Handovers

    def move(self, record: Anyone, to: Node) -> None:
        """Begin to move a running key to another node."""
        assert record.process is not None  # it runs
        record.state = State.MOVING
        record.move_to = to
        soon = self._now() + self.settings.handover_timeout
        record.move_by = min(record.move_by, soon)
        self._moving += 1
        self.execute(ENTITY_MOVING, {"key": record.key, "fence": record.fence, "to": to.name})
        record.process.mailbox.put(NUDGE)

    def postpones_move(self, record: Anyone) -> bool:
        """Let an entity that moves and owes answers run on. Return False if it does not, or has had enough time."""
        if record.state is not State.MOVING or record.open is None or self._now() >= record.move_by:
            return False
        record.state = State.RUNNING
        self._moving -= 1
        self._has_moved.set()
        self._unbalanced.set()
        for request in record.take_waiting():
            if not request.done:
                self._deliver(record, request)
        return True

    def _hand_over(self, record: Anyone, requests: list[EntityRequest]) -> None:
        """Send the state and the waiting requests of a key to its new owner."""
        to, fence, key = record.move_to, record.transferred, record.key
        assert to is not None  # the key was transferred
        assert fence is not None
        self._remember(key, to)
        data, requests = self._packed(record, requests)
        waiting: list[Callable[[Failure], None]] = []
        foreign: dict[Node, list[int]] = {}
        for request in requests:
            if isinstance(request, LocalRequest):
                request.fence = fence
                self.streams.entrust(request, to)
                waiting.append(request.fail)
            elif isinstance(request, IncomingRequest):
                request.withdraw()
                foreign.setdefault(request.sent_by, []).append(request.number)
                waiting.append(partial(self._report_lost, request))
        self.counts["handed_over"] += 1
        self._gone.append((key, to, self.runtime.now()))
        about = {"key": key, "fence": fence, "to": to.name}
        self.execute(ENTITY_HANDED_OVER, about, requests=len(requests), bytes=len(data))
        self._unconfirmed[key, fence] = _Unconfirmed(to, waiting, foreign)
        self._departures.add(to, key, fence, data)
        self._send_parts()

    def _packed(
        self, record: Anyone, requests: list[EntityRequest]
    ) -> tuple[bytes, list[EntityRequest]]:
        """Return the bytes of a handover, and the requests that it contains."""
        now, limit = self._now(), self.settings.max_handover_bytes
        carried = []
        for each in requests:
            if isinstance(each, IncomingRequest):
                ask = replace(each.ask, seconds=max(0.0, each.deadline - now))
                carried.append(Carried(origin=each.sent_by, ask=ask, accepted=each.is_accepted))
            elif isinstance(each, LocalRequest):
                carried.append(Carried(origin=self.node, ask=self._ask(each)))
        state = _NULL if record.handoff is None else msgspec.Raw(record.handoff)
        if len(bytes(state)) > limit:
            # The next owner loads its state again.
            self._count_refusal("max_handover_bytes", record.key, limit)
            state = _NULL
        data = _encode(Cargo(state=state, requests=tuple(carried)))
        if len(data) > limit:
            for each in requests:
                self._refuse(each, "max_handover_bytes", limit)
            return _encode(Cargo(state=state)), []
        return data, requests

    def _send_parts(self) -> None:
        for to, part in self._departures.take():
            self._unconfirmed[part.key, part.fence].deadline = self._confirm_by()
            if part.part == 0:
                self._check_handover_later(part.key, part.fence)
            self.post(to, part)

    def _part_arrived(self, part: HandedOver) -> None:
        self._departures.arrived(part.key, part.fence, part.part)
        self._has_moved.set()
        if part.complete:
            self._handover_arrived(part.key, part.fence)
        elif part.given_up:
            self._handover_lost(part.key, part.fence, _TOO_LATE)
        elif (unconfirmed := self._unconfirmed.get((part.key, part.fence))) is not None:
            unconfirmed.deadline = self._confirm_by()
        self._send_parts()

    def _handover_arrived(self, key: str, fence: int) -> None:
        unconfirmed = self._unconfirmed.pop((key, fence), None)
        if unconfirmed is not None:
            for node, numbers in unconfirmed.foreign.items():
                forwarded = Forwarded(
                    key=key, ids=tuple(numbers), owner=unconfirmed.to, fence=fence
                )
                self.post(node, forwarded)

    def _confirm_by(self) -> float:
        """Return the time by which the next owner must confirm another part of a handover."""
        return self._now() + 2 * self.settings.handover_timeout

    def _check_handover_later(self, key: str, fence: int) -> None:
        deadline = self._unconfirmed[key, fence].deadline
        self.runtime.timers.at(deadline, partial(self._check_handover, key, fence))

    def _check_handover(self, key: str, fence: int) -> None:
        """Give up a handover at its deadline, which may have moved."""
        unconfirmed = self._unconfirmed.get((key, fence))
        if unconfirmed is None:
            return
        if self._now() >= unconfirmed.deadline:
            self._handover_lost(key, fence, _NOT_CONFIRMED)
        else:
            self._check_handover_later(key, fence)

    def _handover_lost(self, key: str, fence: int, failure: Failure) -> None:
        unconfirmed = self._unconfirmed.pop((key, fence), None)
        if unconfirmed is not None:
            self._has_moved.set()
            self._departures.drop(key, fence)
            self._send_parts()
            self.counts["handovers_lost"] += 1
            self.execute(ENTITY_HANDOVER_LOST, {"key": key, "problem": failure.problem})
            for fail in unconfirmed.waiting:
                fail(failure)
            if self.placement.knows(unconfirmed.to):
                # Its new owner has learnt of the key from nobody, and it ran before, so it has to run again.
                self._submit_alone(key, "start", None)

    def _report_lost(self, request: IncomingRequest, failure: Failure) -> None:
        """Report the failure of a request that was withdrawn because it was in a handover."""
        request.report(failure)
        if request.is_accepted:
            # Its node has forgotten it, so it ends here.
            self.ended(request, failure)

    def _receive_part(self, sender: Node, part: Handover) -> None:
        key, fence = part.key, part.fence
        try:
            data = self._handovers.collect(sender, part, self._now())
        except CannotTravel:
            self.post(sender, HandedOver(key=key, fence=fence, part=part.part, given_up=True))
            raise
        cargo = None if data is None else _decode_cargo(data)
        is_complete = cargo is not None
        given_up = not is_complete and self._handovers.is_given_up(key, fence)
        confirmed = HandedOver(
            key=key, fence=fence, part=part.part, complete=is_complete, given_up=given_up
        )
        self.post(sender, confirmed)
        self._wait_longer(sender, part)
        if data is None or cargo is None:
            return
        requests: list[EntityRequest] = []
        for carried in cargo.requests:
            own = self.streams.get(carried.ask.id) if carried.origin == self.node else None
            if own is not None:
                self.streams.take_back(own)
                own.fence = fence
                requests.append(own)
            elif carried.origin != self.node or carried.ask.verb in {"cast", "send"}:
                # This node has forgotten its own request if it was accepted.
                request = self._incoming(carried.origin, carried.ask, is_carried=True)
                if request is not None:
                    request.is_accepted = carried.accepted
                    requests.append(request)
        self.counts["taken_over"] += 1
        about = {"key": key, "fence": fence, "sender": sender.name}
        self.execute(ENTITY_TAKEN_OVER, about, requests=len(requests), bytes=len(data))
        self._take_over(
            sender, key, fence, None if cargo.state == _NULL else bytes(cargo.state), requests
        )

    def _wait_longer(self, sender: Node, part: Handover) -> None:
        """Let starts wait for their handovers as long again, because a part of one has arrived."""
        now = self._now()
        for key, awaited in self._awaited.items():
            is_own = key == part.key and awaited.fence == part.fence
            may_wait = part.more and awaited.sender in {None, sender}
            if is_own or (may_wait and now - awaited.since < _PATIENCE):
                awaited.scope.deadline = now + self.settings.handover_timeout

    def _take_over(
        self,
        sender: Node,
        key: str,
        fence: int,
        state: bytes | None,
        requests: list[EntityRequest],
    ) -> None:
        is_new = key not in self.records
        record: Anyone = Record(key) if is_new else self.records[key]
        may_start = (
            is_new
            or record.state in {State.HELD, State.RELEASING}
            or (record.state is State.STARTING and not record.is_loading)
        )
        is_older = max(record.fence, record.handoff_fence) > fence
        if not may_start or is_older or self._handovers.is_given_up(key, fence):
            # A process began without the handover, so newer requests may have run before these.
            self._fail_all(requests, _TOO_LATE)
            return
        self.records[key] = record
        record.handoff, record.handoff_fence = state, fence
        record.has_newer_handoff = True
        record.arrived = sender, self.runtime.now()
        record.wait_first(requests)
        record.carried = requests
        if record.arrival is not None:
            record.arrival.set()
        elif record.process is None and record.state is not State.RELEASING:
            self._start(record)

    # The nodes

    def _greeted(self, sender: Node, hello: Hello) -> None:
        if sender == self.node:
            return
        if hello.version != VERSION:
            # It says hello to this node too, and so reports the same.
            self.counts["messages_refused"] += 1
            problem = (
                f"node {sender.name!r} speaks version {hello.version} of the messages of entities, and this node "
                f"version {VERSION}; run the same version of Ashtree on all nodes"
            )
            self.execute(ENTITY_MESSAGE_REFUSED, {"problem": problem})
            return
        if hello.goodbye:
            self.node_lost(sender)
            return
        if sender in self._lost:
            if sender not in self.pubsub.nodes():
                # It said this before its end, and requests to it would get no answer.
                return
            self._lost.remove(sender)
            self.post(sender, GaveUp())
        for each in self.placement.others():
            if each.node.name == sender.name and each.node.incarnation < sender.incarnation:
                self.node_lost(each.node)
        is_new = not self.placement.knows(sender)
        now = self._now()
        labels = frozenset(hello.labels)
        candidate = Candidate(sender, labels, hello.draining, hello.drained, now)
        if self.placement.hear(candidate):
            self._unbalanced.set()
            if is_new:
                self.execute(ENTITY_NODE_UP, {"node": sender})
        if hello.answer:
            self.post(sender, self._hello())

    def _pubsub_node_down(
        self, _event: object, _measured: object, about: Mapping[str, Any]
    ) -> None:
        if about["pubsub"] is self.pubsub:
            self.node_lost(about["node"])

    def node_lost(self, node: Node) -> None:
        """Take note that a node has ended or cannot be reached. This permits no start of a process."""
        if self.placement.forget(node):
            self.execute(ENTITY_NODE_DOWN, {"node": node})
            self._unbalanced.set()
        if node not in self._lost:
            self._lost.append(node)
        for awaited in self._awaited.values():
            if awaited.sender == node:
                awaited.arrival.set()
        for (key, fence), unconfirmed in list(self._unconfirmed.items()):
            if unconfirmed.to == node:
                self._handover_lost(key, fence, _NOT_CONFIRMED)
        if self.streams.at(node):
            # Perhaps only the line is slow.
            self.post(node, GaveUp())
        self._fail_at(node)
        if self._processes is not None:
            self._processes.node_down(node)

    def _forwarded(self, message: Forwarded) -> None:
        owner = message.owner
        self.streams.forwarded(message.ids, owner, message.fence)
        if owner == self.node:
            return
        self._remember(message.key, owner)
        if not self.placement.knows(owner):
            # Its hello may come later, or this node cannot reach it.
            at = self._now() + _SILENCE
            self.runtime.timers.at(at, partial(self._fail_unless_known, owner))

    def _fail_unless_known(self, node: Node) -> None:
        if not self.placement.knows(node):
            self._fail_at(node)

    def _fail_at(self, lost: Node) -> None:
        """End the requests that a lost node has."""
        failure = Failure("EntityLost", f"the node {lost.name!r} that got the request is lost")
        for request in self.streams.at(lost):
            request.fail(failure)

    # Idle entities, and keys without a process

    async def _keep(self) -> None:
        self._set_stopping(False)
        try:
            await self._keep_on()
        except trio.Cancelled:
            # The entities stop next.
            self._set_stopping(True)
            raise

    async def _keep_on(self) -> None:
        hello_at = sweep_at = -math.inf
        while True:
            silence = min(_SILENCE, self.lease.seconds)
            tick = min(1.0, self.settings.idle_timeout / 4, silence / 20)
            await trio.sleep(tick)
            now = self._now()
            if now >= hello_at:
                hello_at = now + silence / _HELLOS
                self._say_hello()
            for node in self.placement.silent(now - silence):
                self.node_lost(node)
            for request in self.streams.late(now):
                if not request.wants_answer:
                    request.fail(Failure("EntityLost", "its node has not confirmed it"))
            # Their senders have given up: they count from the confirmation of the latest part, which arrives later.
            self._handovers.forget_old(now - 4 * self.settings.handover_timeout)
            if now >= sweep_at:
                sweep_at = now + max(tick, self.settings.idle_timeout / 10)
                await self._sweep(now)

    async def _sweep(self, now: float) -> None:
        """Stop the idle entities, and give back the keys without a process."""
        for number, record in enumerate(list(self.records.values())):
            if number % _PORTION == 0:
                await trio.lowlevel.checkpoint()
            if record.state is State.HELD:
                is_forgettable = record.is_forgettable(self.settings.limits, now)
                if self.may_run and is_forgettable and not record.starts_again:
                    await self._release(record)
            elif self._is_idle(record, now):
                record.state = State.STOPPING
                assert record.process is not None  # it is idle
                self.counts["idle_stops"] += 1
                record.process.mailbox.put(NUDGE)

    def _is_idle(self, record: Anyone, now: float) -> bool:
        """Return True if a running entity waits for nothing but requests."""
        if record.seen != record.messages:
            record.seen, record.last = record.messages, now
        if (
            record.state is not State.RUNNING
            or now - record.last < self.settings.idle_timeout
            or record.open is not None
            or record.has_timeout
            or record.process is None
        ):
            return False
        info = self.runtime.process_info(record.process.pid)
        return (
            info is not None
            and info["status"] == "waiting"
            and not (info["queue_length"] or info["monitors"] or info["timers"])
            # The pool is one of the links.
            and len(info["links"]) <= 1
        )

    async def _release(self, record: Anyone) -> None:
        if record.has_arrived or self.records.get(record.key) is not record:
            # It has a state and starts again soon, or its session is over.
            return
        record.state, fence = State.RELEASING, record.fence
        is_arriving = record.has_newer_handoff = False
        try:
            if not fence:
                # The arbiter may have granted the key to a process that did not learn of it.
                owned = await self.arbiter.acquire(record.key)
                if not isinstance(owned, OwnedBy):
                    fence, is_arriving = owned.fence, owned.arrived
            if fence and not is_arriving:
                await self.arbiter.release(record.key, fence)
        except ArbiterUnavailable:
            record.state = State.HELD
        except BaseException:
            # This process ends. If the arbiter has the key back, the next start acquires it again.
            record.state = State.HELD
            self._start_for(record, self._that_start(record.take_waiting()))
            raise
        else:
            if not is_arriving and not record.has_newer_handoff:
                self._drop(record)
        if is_arriving or record.has_newer_handoff:
            # The key has moved here meanwhile.
            self._start(record)
            return
        for request in self._that_start(record.take_waiting()):
            if self.placement.takes_keys:
                self._take(request)
            else:
                self._pass_on(request, None)

    # Moves

    async def _move_keys(self) -> None:
        while True:
            await self._unbalanced.wait()
            self._unbalanced = trio.Event()
            await trio.sleep(_SETTLE)
            await self._balance()

    async def _balance(self) -> None:
        """Move the running keys of this node that another node should have."""
        portion = max(1, int(self.settings.max_moves_per_second / 50))
        moved = 0
        for number, key in enumerate(list(self.records)):
            if number % _PORTION == 0:
                await trio.lowlevel.checkpoint()
            record = self.records.get(key)
            if record is None or self._next_owner(record) is None:
                continue
            await self._wait_for_moves()
            to = self._next_owner(record)
            if to is not None:
                self.move(record, to)
                moved += 1
                if moved % portion == 0:
                    await trio.sleep(portion / self.settings.max_moves_per_second)

    async def _wait_for_moves(self) -> None:
        """Wait until another key may move."""
        # Handlers that do not end hold up other keys only for a time.
        with trio.move_on_after(self.settings.handover_timeout):
            # A key works on its node for as long as its handover could not leave.
            while self._moving + len(self._unconfirmed) >= _MOVES or self._departures.has_waiting:
                # The drain may wait, too.
                if self._has_moved.is_set():
                    self._has_moved = trio.Event()
                await self._has_moved.wait()

    def _next_owner(self, record: Anyone) -> Node | None:
        """Return the node to which a running key should move; None if it should stay."""
        if record.state is not State.RUNNING:
            return None
        to = self._proposed(record.key)
        return None if to == self.node else to

    async def drain(self) -> None:
        """Move all keys to other nodes. Returns at once if there is no other node."""
        began = self._now()
        self._is_draining = True
        self._update_placement()
        await self._move_away(began)
        arrived = -1
        while self.placement.others() and arrived != self.counts["taken_over"]:
            arrived = self.counts["taken_over"]
            # The other nodes send no more requests once they know this. Send back those that travel now.
            self._is_drained = True
            self._say_hello()
            await trio.sleep(_GRACE)
            # Handovers may have travelled, too. Then requests for their keys travel now.
            await self._move_away(began)

    async def _move_away(self, began: float) -> None:
        """Wait until no key is here, or arrives, that another node should have.

        Args:
            began: the time at which the drain began.
        """
        while (
            self._unconfirmed
            or any(
                map(
                    self.placement.knows,
                    self._handovers.senders(self._now() - 2 * self.settings.handover_timeout),
                )
            )
            or any(
                each.state is State.MOVING
                or (
                    (each.state is not State.HELD or self._awaits_start(each, began))
                    and self._proposed(each.key) not in (None, self.node)
                )
                for each in self.records.values()
            )
        ):
            await self._balance()
            await trio.sleep(0.02)
        for record in list(self.records.values()):
            to = self._proposed(record.key)
            if record.state is State.HELD and to not in (None, self.node):
                await self._release(record)
                if record.starts_again and record.key not in self.records:
                    self._submit_alone(record.key, "start", None)

    def _awaits_start(self, record: Anyone, began: float) -> bool:
        """Return True if a drain that began at a time still waits for the next start of a key in HELD."""
        # Otherwise the next owner starts the key, but without the state that only this node has.
        patience = _SILENCE if record.has_arrived else 2 * _START_AGAIN
        return record.starts_again and self._now() <= began + patience

    def _set_stopping(self, is_stopping: bool) -> None:
        self._is_stopping = is_stopping
        self._update_placement()

    def _update_placement(self) -> None:
        has_session = self.lease is not _NO_LEASE
        self.placement.drain(self._is_draining or self._is_stopping or not has_session)
        self._say_hello()


class _Server(GenServer[None]):
    """The process that gets the messages of other nodes."""

    async def init(self, router: Router) -> None:
        trap_exits()
        self.router = router
        router.open(current_pid())

    def handle_info_nowait(self, message: Any) -> None:
        if type(message) is Tick:
            self.router.processes.tick()
        elif type(message) is Broadcast and type(message.payload) is Binary:
            self.router.receive(message.payload.data)

    async def terminate(self, reason: ExitReason) -> None:
        if is_normal_exit(reason):
            self.router.close()


class _Watching:
    """The process that a monitor of an entity watches, once it is found."""

    __slots__ = ("_pid", "_router")

    def __init__(self, router: Router) -> None:
        self._router = router
        self._pid: Pid | RemotePid | None = None

    def located(self, ref: RemoteMonitor, request: LocalRequest) -> None:
        """Watch the process that was found, or fire."""
        if not ref.is_active:
            return
        pid = request.value if request.failure is None and request.answered else None
        if request.failure is not None or not request.answered:
            ref.down(None, NOCONNECTION)
        elif isinstance(pid, RemotePid):
            self._pid = pid
            self._router.processes.watch(ref, pid)
        elif pid is None or pid.process is None:
            ref.down(None, NOPROC)
        else:
            self._pid = pid
            pid.runtime.graph.watch(pid, ref)

    def cancel(self, ref: RemoteMonitor) -> None:
        """Watch the process no longer."""
        pid = self._pid
        if isinstance(pid, RemotePid):
            self._router.processes.demonitor(ref)
        elif pid is not None:
            pid.runtime.graph.unwatch(pid, ref)


def _unavailable(problem: str, retry_after: float = 0.0) -> Failure:
    return Failure("EntityUnavailable", problem, retry_after=retry_after)


def _request_in(entry: Any) -> EntityRequest | None:
    """Return the request in a message of a mailbox; None if it is another message."""
    if type(entry) is CallRequest:
        entry = entry.sender
    elif type(entry) is Cast:
        entry = entry.message
    return entry if isinstance(entry, EntityRequest) else None


def _in_words(reason: ExitReason) -> str:
    return str(reason) if isinstance(reason, Crash | RemoteCrash) else repr(reason)

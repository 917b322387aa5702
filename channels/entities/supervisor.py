"""The supervisor of entities: the addresses, starts and stops of processes that run once for each key in a cluster."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Coroutine
from itertools import count
from typing import Any, final

import msgspec

from actors.addresses import RemoteAddress
from actors.arguments import check_not_negative, check_positive, check_whole
from actors.errors import InvalidArgument, InvalidCallback, InvalidOption, StartIgnored
from actors.exits import NOPROC
from actors.process import on_exit
from actors.refs import Pid, Ref
from actors.runtime import current_runtime
from actors.text import brief
from channels.entities.arbiter import Arbiter
from channels.entities.arbiters.choice import arbiter_for
from channels.entities.entity import Entity
from channels.entities.errors import EntityUnavailable
from channels.entities.logger import attach
from channels.entities.messages import MAX_KEY
from channels.entities.ownership import Limits
from channels.entities.remote import RemotePid
from channels.entities.router import Router, Settings
from channels.entities.streams import Refusals
from channels.errors import ChannelsError
from channels.pubsub.pubsub import PubSub
from channels.serving.services import EndpointChild, Services
from supervision.backoff import Backoff, check_backoff
from supervision.child_spec import ChildSpec
from supervision.strategy import DEFAULT_MAX_RESTARTS, DEFAULT_MAX_SECONDS, RestartIntensity
from supervision.supervisor import Supervisor

__all__ = ["EntityAddress", "EntitySupervisor", "EntitySupervisorError", "Placement"]

DEFAULT_BACKOFF = Backoff(1.0, 60.0)
"""The waits of a key after too many crashes."""


class EntitySupervisorError(ChannelsError, RuntimeError):
    """A mistake in the use of an `EntitySupervisor`. The message states the correction."""


class Placement(msgspec.Struct, frozen=True):
    """The place of a running entity.

    Attributes:
        node: the name of its node.
        pid: its process, a `RemotePid` if it runs on another node. The next process of the key has another pid, and a
            message to a pid of another node must be one of the `answers`. So send requests to
            `EntitySupervisor.via(key)` instead.
    """

    node: str
    pid: Pid | RemotePid


@final
class EntityAddress(RemoteAddress):
    """The address of the entity with a key. `EntitySupervisor.via` makes it.

    Attributes:
        key: the key.
    """

    __slots__ = ("_supervisor", "key")

    instead = (
        "only call, cast, send, send_after, send_every and monitor take the address of an entity; "
        "`await supervisor.where(key)` returns its process, and `await supervisor.stop(key)` stops it"
    )

    def __init__(self, supervisor: EntitySupervisor, key: str) -> None:
        self._supervisor = supervisor
        self.key = key

    @property
    def supervisor(self) -> EntitySupervisor:
        """The supervisor whose `via` has made this address."""
        return self._supervisor

    def __repr__(self) -> str:
        return f"<{self._supervisor.name} {brief(self.key)}>"

    def __eq__(self, other: object) -> bool:
        if type(other) is not EntityAddress:
            return NotImplemented
        return self.key == other.key and self._supervisor is other._supervisor

    def __hash__(self) -> int:
        return hash(self.key)

    def call(self, request: Any, *, timeout: float) -> Coroutine[Any, Any, Any]:
        """Call the entity, which starts if it does not run. The time limit must be finite.

        Raises:
            EntityError, CallTimeout, CallingSelf: There was no answer. See `channels.entities.errors`.
            InvalidOption: The time limit is infinite.
        """
        supervisor = self._supervisor
        router = supervisor.router or supervisor.running(self, request, timeout)
        return router.call(self, "call", request, timeout)

    def cast(self, message: Any) -> None:
        """Send a message to the `handle_cast` of the entity, which starts if it does not run.

        The message is lost with the node that has it, and dropped if the entity does not start, or if another node has
        not accepted it within 30 s. The caller does not learn of this: see `ENTITY_DROPPED`.

        Raises:
            RequestRefused: the message cannot travel.
            EntityUnavailable: the supervisor of the entities does not run.
        """
        self._supervisor.running(self, message, 0.0).tell(self, "cast", message)

    def send(self, message: Any) -> None:
        """Send a message to the `handle_info` of the entity, as `cast` does."""
        self._supervisor.running(self, message, 0.0).tell(self, "send", message)

    def monitor(self) -> Ref:
        """Monitor the present process of the entity. If none runs, the `Down` has the reason `NOPROC`."""
        return self._supervisor.running(self, "monitor", 0.0).monitor(self)


class EntitySupervisor(EndpointChild):
    """The entities of one class: one process for each key in the whole cluster, started by its first message.

        auctions = EntitySupervisor("auctions", Auction, idle_timeout=300)
        endpoint = Endpoint(sockets={"/socket": UserSocket}, children=[auctions])

        answer = await call(auctions.via("42"), Bid(100), timeout=5)

    Args:
        name: the name of these entities. Write the same name on every node, and another one for each class.
        cls: the class of the entities.
        idle_timeout: seconds without a message after which an entity stops. The next message starts it again. An entity
            does not stop while it has a timer, a monitor or an unanswered call.
        labels: the labels of this node.
        pin: a function that returns the label that a node must have for a key, or None for any node. It must return the
            same on every node, and must not raise.
        max_entities: the most entities of this node. Requests for further keys fail with `EntityBusy`.
        max_waiting: the most requests that wait for one key.
        max_request_bytes: the most bytes of an encoded request.
        max_remote_waiting: the most requests of this node that wait for one other node.
        max_handover_bytes: the most bytes of the state and the waiting requests of a key that moves. The waiting
            requests of a larger handover fail with `EntityBusy`. With a larger state, the next `init` gets None.
        max_moves_per_second: the most keys of this node that move to other nodes in a second.
        max_restarts: restarts of one key after crashes, within `max_seconds`. At the next crash only this key stops.
        max_seconds: length of this window in seconds.
        backoff: waits of a key after too many crashes. During a wait, requests fail with `EntityStartFailed`.
        handover_timeout: seconds that the next owner of a key waits for its state, before it runs `init` without it. A
            state of more than 256 KiB comes in parts, and each part extends the wait. A move waits as long for calls
            that the entity has not answered.
        arbiter: the part that decides which node owns a key. By default, the adapter of the PubSub chooses it.

    Raises:
        InvalidOption: an option has an invalid value.
        InvalidCallback: the class cannot be the class of an entity.
    """

    def __init__(
        self,
        name: str,
        cls: type[Entity],
        *,
        idle_timeout: float = 300.0,
        labels: Collection[str] = (),
        pin: Callable[[str], str | None] | None = None,
        max_entities: int = 100_000,
        max_waiting: int = 1_000,
        max_request_bytes: int = 64 * 1024,
        max_remote_waiting: int = 10_000,
        max_handover_bytes: int = 4 * 1024 * 1024,
        max_moves_per_second: float = 500.0,
        max_restarts: float = DEFAULT_MAX_RESTARTS,
        max_seconds: float = DEFAULT_MAX_SECONDS,
        backoff: Backoff = DEFAULT_BACKOFF,
        handover_timeout: float = 2.0,
        arbiter: Arbiter | None = None,
    ) -> None:
        owner = "EntitySupervisor"
        if not isinstance(name, str) or not name:
            raise InvalidOption(owner, "name", name, "text that is the same on every node")
        _check_class(cls)
        check_positive(owner, "idle_timeout", idle_timeout)
        if isinstance(labels, str) or not all(isinstance(each, str) for each in labels):
            raise InvalidOption(owner, "labels", labels, 'a list of texts, such as ["gpu"]')
        if pin is not None and not callable(pin):
            raise InvalidOption(
                owner, "pin", pin, "a function of a key that returns a label or None"
            )
        check_positive(owner, "max_moves_per_second", max_moves_per_second)
        check_not_negative(owner, "handover_timeout", handover_timeout)
        RestartIntensity(max_restarts, max_seconds)
        check_backoff(backoff)
        self.name = name
        self._chosen_arbiter = arbiter
        # These outlive a restart of the processes, because other nodes and the arbiter remember what they say.
        self._arbiter: Arbiter | None = None
        self._pubsub: PubSub | None = None
        self._numbers = count(1)
        self._refusals = Refusals()
        self._settings = Settings(
            name=name,
            cls=cls,
            idle_timeout=idle_timeout,
            labels=frozenset(labels),
            pin=pin,
            max_entities=max_entities,
            max_waiting=max_waiting,
            max_request_bytes=max_request_bytes,
            max_remote_waiting=max_remote_waiting,
            max_handover_bytes=max_handover_bytes,
            max_moves_per_second=max_moves_per_second,
            limits=Limits(max_restarts, max_seconds, backoff),
            handover_timeout=handover_timeout,
        )
        for option in ("entities", "waiting", "request_bytes", "remote_waiting", "handover_bytes"):
            check_whole(owner, f"max_{option}", getattr(self._settings, f"max_{option}"))
        self.router: Router | None = None

    def __repr__(self) -> str:
        return f"<entities {self.name}>"

    # Starting

    def child_spec(self, services: Services | PubSub) -> ChildSpec:
        """Return a child spec for a supervisor. An endpoint uses it.

        Args:
            services: the services of the endpoint; or the PubSub, for a program without an endpoint.
        """
        pubsub = services if isinstance(services, PubSub) else services.pubsub
        return ChildSpec(
            f"entities {self.name}", self.start_link, args=(pubsub,), type="supervisor"
        )

    async def start_link(self, pubsub: PubSub) -> Pid:
        """Start the processes of this node under a supervisor.

        Args:
            pubsub: carries the messages between nodes. It runs already.

        Returns:
            The pid of the supervisor.

        Raises:
            EntitySupervisorError: the processes run already.
            InvalidOption: there is no arbiter for the adapter of the PubSub.
            StartError: a process did not start.
        """
        if self.router is not None:
            raise EntitySupervisorError(
                f"{self!r} is running already; make another EntitySupervisor"
            )
        if self._arbiter is None or self._pubsub is not pubsub:
            self._arbiter = self._chosen_arbiter or arbiter_for(pubsub)
        self._pubsub = pubsub
        router = self.router = Router(
            self._settings, pubsub, self._arbiter, self._numbers, self._refusals
        )
        hold = ChildSpec("hold", self._hold, restart="temporary")
        try:
            return await Supervisor.start_link([hold, *router.children()], label=self.name)
        except BaseException:
            self.router = None
            raise

    async def _hold(self) -> Pid:
        """Forget the router when the supervisor ends. Runs in the supervisor's process, and starts none."""
        on_exit(attach(current_runtime().telemetry, self.router))
        on_exit(self._stopped)
        raise StartIgnored

    def _stopped(self) -> None:
        self.router = None

    async def drain(self) -> None:
        """Move all keys of this node to other nodes, if there are some. An endpoint calls this when it drains."""
        if self.router is not None:
            await self.router.drain()

    # Entities

    def via(self, key: str) -> EntityAddress:
        """Return the address of an entity, for `call`, `cast`, `send`, `monitor` and the timers.

        Args:
            key: text with 1 to 255 characters.

        Raises:
            InvalidArgument: the key is something else.
        """
        if not isinstance(key, str) or not 0 < len(key) <= MAX_KEY:
            raise InvalidArgument(
                f"{self.name}.via", key, f"{brief(key)}; write a text of 1 to {MAX_KEY} characters"
            )
        return EntityAddress(self, key)

    def running(self, address: EntityAddress, request: Any, timeout: float) -> Router:
        """Return the router of this node.

        Raises:
            EntityUnavailable: it does not run.
        """
        if self.router is None:
            raise EntityUnavailable(
                NOPROC,
                address,
                request,
                timeout,
                f"{self!r} does not run; pass it to the endpoint, Endpoint(children=[...])",
            )
        return self.router

    async def where(self, key: str, *, timeout: float = 5.0) -> Placement | None:
        """Return the place of an entity, or None if it does not run. This starts no process.

        Args:
            key: the key.
            timeout: seconds for the answer of its node.

        Raises:
            EntityError, CallTimeout: the arbiter or the node of the entity did not answer.
        """
        address = self.via(key)
        router = self.running(address, "where", timeout)
        pid = await router.call(address, "locate", None, timeout)
        if pid is None:
            return None
        return Placement(pid.node.name if isinstance(pid, RemotePid) else router.node.name, pid)

    async def start(self, key: str, *, timeout: float = 5.0) -> None:
        """Start an entity, unless it runs.

        Args:
            key: the key.
            timeout: seconds for the answer of its node.

        Raises:
            EntityError, CallTimeout: it did not start.
        """
        address = self.via(key)
        await self.running(address, "start", timeout).call(address, "start", None, timeout)

    async def stop(self, key: str, *, timeout: float = 5.0) -> None:
        """Stop an entity after the requests that wait for it. The next message starts it again.

        Args:
            key: the key.
            timeout: seconds for the answer of its node.

        Raises:
            EntityError, CallTimeout: it did not stop in time.
        """
        address = self.via(key)
        await self.running(address, "stop", timeout).call(address, "stop", None, timeout)

    def statistics(self) -> dict[str, Any]:
        """Return the numbers of entities and requests of this node, and counters since its start."""
        return {} if self.router is None else self.router.statistics()

    def rows(self, limit: int) -> list[dict[str, Any]]:
        """Return rows for the table of the observer: the newest keys of this node, and those that it has handed over.

        A row has `key`, `node`, and `state`, which is `"moved"` for a key that this node has handed over. A key of this
        node also has `messages`. It has `pid` and `born`, the time of its start, while its process runs. `handover` has
        the other node, as `from` or `to`, and the time of the last handover, `at`. Times are seconds since the epoch.

        Args:
            limit: the most keys of this node.
        """
        return [] if self.router is None else self.router.rows(limit)


def _check_class(cls: Any) -> None:
    if not (isinstance(cls, type) and issubclass(cls, Entity)):
        raise InvalidOption(
            "EntitySupervisor", "cls", cls, "a subclass of channels.entities.Entity"
        )
    try:
        inspect.signature(cls.init).bind(None, "key", None)
    except TypeError:
        raise InvalidCallback(cls.__name__, "init", ("key", "state=None")) from None

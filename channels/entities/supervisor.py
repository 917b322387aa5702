"""The supervisor of entities: addresses, starts and stops of processes that run once for each key in a cluster."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, final

import msgspec

from actors.addresses import RemoteAddress
from actors.refs import Ref
from channels.entities.arbiter import Arbiter
from channels.entities.entity import Entity
from channels.pubsub.pubsub import PubSub
from supervision.backoff import Backoff
from supervision.child_spec import ChildSpec
from supervision.strategy import DEFAULT_MAX_RESTARTS, DEFAULT_MAX_SECONDS

__all__ = ["EntityAddress", "EntitySupervisor", "Placement"]


class Placement(msgspec.Struct, frozen=True):
    """The place of a running entity.

    Attributes:
        node: the name of its node.
        process: its pid, which is a `RemotePid` if it runs on another node.
    """

    node: str
    process: Any


@final
class EntityAddress(RemoteAddress):
    """The address of the entity with a key. `EntitySupervisor.via` makes it. Equal addresses have equal keys."""

    __slots__ = ("_supervisor", "key")

    def __init__(self, supervisor: EntitySupervisor, key: str) -> None:
        self._supervisor = supervisor
        self.key = key

    async def call(self, request: Any, *, timeout: float) -> Any: ...
    def cast(self, message: Any) -> None: ...
    def send(self, message: Any) -> None: ...
    def monitor(self) -> Ref: ...


class EntitySupervisor:
    """The entities of one class: one process for each key in the whole cluster, started by the first message.

        auctions = EntitySupervisor("auctions", Auction, idle_timeout=300)
        endpoint = Endpoint(sockets={"/socket": UserSocket}, children=[auctions])

        answer = await call(auctions.via("42"), Bid(100), timeout=5)
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
        max_handover_bytes: int = 16 * 1024 * 1024,
        max_moves_per_second: float = 500.0,
        max_restarts: float = DEFAULT_MAX_RESTARTS,
        max_seconds: float = DEFAULT_MAX_SECONDS,
        backoff: Backoff = Backoff(1.0, 60.0),
        handover_timeout: float = 2.0,
        drain_timeout: float = 30.0,
        arbiter: Arbiter | None = None,
    ) -> None: ...

    def child_spec(self, pubsub: PubSub) -> ChildSpec:
        """Return a child spec for a supervisor. An endpoint uses it."""
        raise NotImplementedError

    def via(self, key: str) -> EntityAddress:
        """Return the address of an entity, for `call`, `cast`, `send`, `monitor` and the timers."""
        return EntityAddress(self, key)

    async def where(self, key: str) -> Placement | None:
        """Return the place of a running entity, or None if it does not run."""
        raise NotImplementedError

    async def start(self, key: str, *, timeout: float = 5.0) -> None:
        """Start an entity, unless it runs."""

    async def stop(self, key: str, *, timeout: float = 5.0) -> None:
        """Stop an entity after the requests that wait for it. The next message starts it again."""

    def statistics(self) -> dict[str, Any]:
        """Return counters of this node."""
        raise NotImplementedError

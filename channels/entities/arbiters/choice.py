"""The arbiter that fits the adapter of a PubSub."""

from __future__ import annotations

from actors.errors import InvalidOption
from channels.entities.arbiter import Arbiter
from channels.entities.arbiters.local import LocalArbiter
from channels.entities.arbiters.redis import RedisArbiter
from channels.entities.arbiters.workers import WorkersArbiter
from channels.pubsub.adapter import LocalAdapter
from channels.pubsub.pubsub import PubSub
from channels.pubsub.redis.adapter import RedisAdapter
from channels.pubsub.workers.adapter import WorkersAdapter

__all__ = ["arbiter_for"]


def arbiter_for(pubsub: PubSub) -> Arbiter:
    """Return the arbiter that fits the adapter of a PubSub, whose nodes share it.

    Args:
        pubsub: the PubSub of the endpoint.

    Raises:
        InvalidOption: Ashtree has no arbiter for an adapter of this kind.
    """
    adapter = pubsub.adapter
    if isinstance(adapter, LocalAdapter):
        return LocalArbiter()
    if isinstance(adapter, RedisAdapter):
        return RedisArbiter(adapter.server)
    if isinstance(adapter, WorkersAdapter) and adapter.grants is not None:
        return WorkersArbiter(adapter.grants)
    raise InvalidOption(
        "EntitySupervisor",
        "arbiter",
        None,
        f"an arbiter that all nodes share, because the adapter {adapter.name!r} has none of its own",
    )

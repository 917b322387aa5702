"""Entities: processes that run once for each key in the whole cluster."""

from channels.entities.arbiter import Arbiter, ArbiterUnavailable
from channels.entities.arbiters.local import LocalArbiter
from channels.entities.arbiters.redis import RedisArbiter
from channels.entities.entity import Entity
from channels.entities.errors import (
    EntityBusy,
    EntityCrashed,
    EntityError,
    EntityLost,
    EntityStartFailed,
    EntityTimeout,
    EntityUnavailable,
    RequestRefused,
)
from channels.entities.remote import ProcessAddress, RemoteCrash, RemotePid
from channels.entities.supervisor import (
    EntityAddress,
    EntitySupervisor,
    EntitySupervisorError,
    Placement,
)

__all__ = [
    "Arbiter",
    "ArbiterUnavailable",
    "Entity",
    "EntityAddress",
    "EntityBusy",
    "EntityCrashed",
    "EntityError",
    "EntityLost",
    "EntityStartFailed",
    "EntitySupervisor",
    "EntitySupervisorError",
    "EntityTimeout",
    "EntityUnavailable",
    "LocalArbiter",
    "Placement",
    "ProcessAddress",
    "RedisArbiter",
    "RemoteCrash",
    "RemotePid",
    "RequestRefused",
]

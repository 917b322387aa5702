"""The errors of calls to entities. Each error says if the entity may have begun to handle the request.

CallExit (actors.errors)
├── EntityError             a call to an entity got no answer
│   ├── RequestRefused      ... because the request or its size cannot travel between nodes
│   ├── EntityBusy          ... because too many requests or entities wait
│   ├── EntityUnavailable   ... because no node could be found that owns the key
│   ├── EntityStartFailed   ... because the entity does not start, or crashes too often
│   ├── EntityCrashed       ... because the entity crashed while it handled this request
│   └── EntityLost          ... because the node, its lease or a handover was lost
└── CallTimeout
    └── EntityTimeout       ... because the entity did not begin to handle the request in time

`may_have_run` is True only in `EntityCrashed`, `EntityLost` and a plain `CallTimeout`. A caller may repeat the request
after the other errors, because the entity has not begun to handle it.
"""

from __future__ import annotations

from typing import Any

import msgspec

from actors.declared import declared, fixed
from actors.errors import CallExit, CallTimeout
from actors.exits import NOCONNECTION, TIMEOUT, ExitReason

__all__ = [
    "EntityBusy",
    "EntityCrashed",
    "EntityError",
    "EntityLost",
    "EntityStartFailed",
    "EntityTimeout",
    "EntityUnavailable",
    "Failure",
    "RequestRefused",
]


@declared("call({server!r}, {request!r}) got no answer: {problem}")
class EntityError(CallExit):
    """A call to an entity got no answer.

    Attributes:
        problem: the cause, as text.
    """

    problem: str


class RequestRefused(EntityError):
    """The request cannot travel between nodes, because its type is not declared or it is too large. It has not run."""

    may_have_run = False


class EntityBusy(EntityError):
    """Too many requests wait for the entity or its node, or the node has too many entities. The request has not run."""

    may_have_run = False


@declared()
class EntityUnavailable(EntityError):
    """Ashtree found no node that can own the key, or the arbiter did not answer. The request has not run.

    Attributes:
        retry_after: the seconds until the arbiter grants keys again, if it says this, as after a restart of Redis; 0
            otherwise.
    """

    retry_after: float = 0.0
    may_have_run = False


@declared()
class EntityStartFailed(EntityError):
    """The entity does not start, or crashes so often that it waits before the next start. The request has not run.

    Attributes:
        retry_after: the seconds until the next request may start the entity again; 0 if the next one may do so at once.
    """

    retry_after: float = 0.0
    may_have_run = False


class EntityCrashed(EntityError):
    """The entity crashed while it handled this request. `reason` is its exit reason."""


class EntityLost(EntityError):
    """The node, its lease or a handover was lost, or the entity stopped without an answer. The request may have run."""


@declared(
    "call({server!r}, {request!r}) got no answer within {timeout:g} s; "
    "the entity has not begun to handle it, and will not"
)
class EntityTimeout(CallTimeout):
    """The entity did not begin to handle the request in time, and never will."""

    reason: ExitReason = fixed(TIMEOUT)
    may_have_run = False


_ERRORS: dict[str, type[EntityError]] = {
    each.__name__: each
    for each in (
        RequestRefused,
        EntityBusy,
        EntityUnavailable,
        EntityStartFailed,
        EntityCrashed,
        EntityLost,
    )
}


class Failure(msgspec.Struct, frozen=True):
    """The failure of a request to an entity, from which the node of the caller makes an exception. *pure*.

    Attributes:
        error: the name of the class of the error.
        problem: the text.
        reason: the exit reason.
        retry_after: see `EntityStartFailed` and `EntityUnavailable`.
    """

    error: str
    problem: str
    reason: ExitReason = NOCONNECTION
    retry_after: float = 0.0

    @property
    def may_have_run(self) -> bool:
        """True if the entity may have begun to handle the request."""
        return self._class.may_have_run

    @property
    def _class(self) -> type[EntityError]:
        # A node of a later version may have further errors.
        return _ERRORS.get(self.error, EntityLost)

    def as_error(self, server: object, request: Any, timeout: float) -> EntityError:
        """Return the error for a caller."""
        error = self._class(self.reason, server, request, timeout, self.problem)
        if isinstance(error, EntityStartFailed | EntityUnavailable):
            error.retry_after = self.retry_after
        return error

"""The process of an entity: it acquires its key, guards each callback with the lease, and gives the key up at its end.

`process_class` makes a subclass of the entity's class, whose callbacks do this work around those of the application.

The process itself asks the arbiter: it acquires the key before `init`, and releases or transfers the key after
`terminate`. So no callback of a key can run outside its ownership, and there is no moment between the last check and
the end in which a message could be lost.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, Protocol, final

from actors.exits import NORMAL, Crash, ExitReason, Shutdown, is_normal_exit
from actors.instrumentation.telemetry import Event
from actors.process import exit
from actors.refs import ProcessLike
from actors.servers.gen_server import Sender
from actors.servers.results import Fail, Ignore, NoReply, Reply, Stop, Within
from channels.durable.storage import FenceRefused
from channels.entities.entity import Entity
from channels.entities.errors import Failure
from channels.entities.lease import Lease
from channels.entities.ownership import State
from channels.entities.requests import Anyone, EntityRequest
from channels.telemetry import ENTITY_BEGAN, ENTITY_FINISHED

__all__ = ["LEASE_LOST", "MOVED", "NUDGE", "EntityProcess", "process_class", "serving"]

MOVED = Shutdown("moved")
"""The exit reason of a process whose key has moved to another node."""

LEASE_LOST = Shutdown("lease lost")
"""The exit reason of a process that found the lease of its node invalid."""

_MOST_CLAIMS = 3


@final
class _Nudge:
    """A message that wakes an entity, so that it looks at the state of its record."""

    def __repr__(self) -> str:
        return "<nudge>"


NUDGE = _Nudge()
_NO_REQUEST = object()
# A look-up of a member costs more than a global variable.
_RUNNING = State.RUNNING


class Host(Protocol):
    """The part of a router that the process of an entity uses."""

    @property
    def observes(self) -> Callable[[Event], Any]: ...
    @property
    def lease(self) -> Lease: ...
    def address_of(self, key: str) -> str: ...
    async def acquire(self, record: Anyone, at_least: int) -> Any: ...
    def postpones_move(self, record: Anyone) -> bool: ...
    async def give_up(self, record: Anyone) -> None: ...
    async def set_alarm(self, record: Anyone, at: float | None) -> None: ...
    async def clear_alarm(self, record: Anyone, at: float) -> None: ...
    def encode_handoff(self, record: Anyone, state: Any) -> None: ...
    def started(self, record: Anyone) -> None: ...
    def report(self, event: Event, record: Anyone, request: EntityRequest | None) -> None: ...


serving: ContextVar[Callable[[ProcessLike | None], tuple[str, ...]] | None] = ContextVar(
    "channels_serving_entity", default=None
)
"""In the process of an entity: a function that returns the entities that wait for the running callback."""


class EntityProcess(Entity):
    """The callbacks around those of an entity's class. `process_class` puts this class before the entity's class."""

    # Two underscores, because the application's class may have attributes of any other name.
    __host: Host
    __record: Anyone
    # The request of the callback that runs now, or _NO_REQUEST; None while none runs.
    __current: object = None

    async def init(self, host: Host, record: Anyone, /) -> Any:  # type: ignore[override]
        self.__host, self.__record = host, record
        serving.set(self.__calls)
        self.key = record.key
        result = await self.__init(record.next_fence())
        if isinstance(result, Ignore | Fail | Stop):
            reason = NORMAL if isinstance(result, Ignore) else result.reason
            problem = f"its init returned {result!r}"
            record.failure = Failure("EntityStartFailed", problem, reason)
            return result
        self.__host.started(record)
        return result

    async def __init(self, at_least: int) -> Any:
        record = self.__record
        claims = 0
        while True:
            state = await self.__host.acquire(record, at_least)
            self.fence = record.fence
            try:
                return await self.__run(None, super().init(self.key, state))
            except FenceRefused as error:
                claims += 1
                if error.verb != "claim" or claims == _MOST_CLAIMS:
                    record.reason = Crash(error)
                    raise
                # A clock was set back, or an earlier arbiter has issued greater fences.
                at_least = error.claimed + 1
            except Exception as error:
                record.reason = Crash(error)
                raise

    def __calls(self, process: ProcessLike | None) -> tuple[str, ...]:
        """Return the entities that wait for the running callback, this entity last; empty if no callback runs.

        Args:
            process: the process that calls. A process that the entity has spawned is another one, whose calls nobody
                waits for.
        """
        current = self.__current
        if current is None or self.__record.process is not process:
            return ()
        chain = current.chain if isinstance(current, EntityRequest) else ()
        return (*chain, self.__host.address_of(self.key))

    # Messages

    async def handle_call(self, request: Any, sender: Sender, /) -> Any:
        record, host = self.__record, self.__host
        # A plain call of the pid has another sender.
        known = sender if isinstance(sender, EntityRequest) else None
        if (
            (record.state is not _RUNNING and not host.postpones_move(record))
            or not host.lease.is_valid
            or (known is not None and not known.begin(record))
        ):
            return await self.__instead(known)
        if known is not None and known.verb == "stop":
            return Stop(NORMAL, reply=None)
        # As `__run`, without two more calls for each request.
        record.messages += 1
        self.__current = sender
        if host.observes(ENTITY_BEGAN):
            host.report(ENTITY_BEGAN, record, known)
        try:
            result = await super().handle_call(request, sender)
        finally:
            self.__current = None
            if host.observes(ENTITY_FINISHED):
                host.report(ENTITY_FINISHED, record, known)
        if type(result) is not Reply or result.then is not None or record.has_timeout:
            record.has_timeout = _has_timeout(result)
        return result

    async def handle_cast(self, message: Any, /) -> Any:
        known = message if isinstance(message, EntityRequest) else None
        if not self.__may_begin(known):
            return await self.__instead(known)
        content = message if known is None else known.content
        return await self.__run(known, super().handle_cast(content))

    async def handle_info(self, message: Any, /) -> Any:
        known = message if isinstance(message, EntityRequest) else None
        if not self.__may_begin(known):
            return await self.__instead(known)
        if message is NUDGE:
            return NoReply()
        if known is None:
            return await self.__run(None, super().handle_info(message))
        if known.verb == "alarm":
            result = await self.__run(known, self.handle_alarm(known.content))
            await self.__host.clear_alarm(self.__record, known.content)
            return result
        return await self.__run(known, super().handle_info(known.content))

    async def handle_continue(self, argument: Any, /) -> Any:
        # This belongs to the message before it, so only a lost lease prevents it.
        if not self.__host.lease.is_valid:
            exit(LEASE_LOST)
        return await self.__run(None, super().handle_continue(argument))

    def __may_begin(self, request: EntityRequest | None) -> bool:
        """Return True if the callback for a message may begin now."""
        record, host = self.__record, self.__host
        return (
            (record.state is _RUNNING or host.postpones_move(record))
            and host.lease.is_valid
            and (request is None or request.begin(record))
        )

    async def __run(self, request: EntityRequest | None, callback: Awaitable[Any]) -> Any:
        """Run a callback of the application."""
        record, host = self.__record, self.__host
        record.messages += 1
        self.__current = _NO_REQUEST if request is None else request
        if host.observes(ENTITY_BEGAN):
            host.report(ENTITY_BEGAN, record, request)
        try:
            result = await callback
        finally:
            self.__current = None
            if host.observes(ENTITY_FINISHED):
                host.report(ENTITY_FINISHED, record, request)
        record.has_timeout = _has_timeout(result)
        return result

    async def __instead(self, request: EntityRequest | None) -> NoReply | Stop:
        """Do what the state of the record demands instead of the callback for a request, which stays in the record."""
        record = self.__record
        if not self.__host.lease.is_valid:
            record.popped = request
            exit(LEASE_LOST)
        if record.state is _RUNNING:
            # The caller of the request has given up.
            return NoReply()
        record.popped = request
        if record.state is State.STOPPING:
            return Stop(NORMAL)
        state = await self.__run(None, super().handle_handoff())
        self.__host.encode_handoff(record, state)
        return Stop(MOVED)

    # The end, and alarms

    async def terminate(self, reason: ExitReason, /) -> None:
        host, record = self.__host, self.__record
        if not host.lease.is_valid:
            # Another node may own the key already.
            return
        record.reason = reason
        if record.state is State.RUNNING:
            # From now on, requests wait in the record.
            record.state = State.STOPPING
        try:
            await self.__run(None, super().terminate(reason))
        except Exception as error:
            record.reason = Crash(error)
            raise
        if is_normal_exit(reason):
            await host.give_up(record)

    async def set_alarm(self, at: float | None) -> None:
        await self.__host.set_alarm(self.__record, at)


def _has_timeout(result: Any) -> bool:
    """Return True if the result of a callback is a `Within`, or contains one."""
    return type(getattr(result, "then", result)) is Within


def process_class(cls: type[Entity]) -> type[EntityProcess]:
    """Return the class of the processes of an entity's class. It has the same name, which logs and pages show."""
    names = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
    return type(cls.__name__, (EntityProcess, cls), names)

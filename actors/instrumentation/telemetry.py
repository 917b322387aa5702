"""Named events, and the handlers that listen to them.

Ashtree emits events instead of log lines. `actors.instrumentation.logger` writes some of the events to the log, and you
can replace it. An event without a handler costs one dictionary look-up.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from actors.errors import ProcessExit, ProcessKilled
from actors.text import log_exception

__all__ = ["OPERATION_BEGAN", "OPERATION_ENDED", "Event", "Handler", "Telemetry"]

Event: TypeAlias = tuple[str, ...]
"""The name of an event, from general to specific: `("actors", "process", "crash")`."""

Handler: TypeAlias = Callable[[Event, Mapping[str, Any], Mapping[str, Any]], None]
"""A function that takes the event, its measurements (numbers) and its metadata (context)."""

OPERATION_BEGAN: Event = ("actors", "operation", "began")
"""A client outside of the calls of a runtime, such as that of a socket, began an operation. A history records it."""

OPERATION_ENDED: Event = ("actors", "operation", "ended")
"""Such an operation has an answer, or its client no longer waits for one."""

_log = logging.getLogger("actors.instrumentation.telemetry")


class Telemetry:
    """The event handlers of one runtime.

        detach = runtime.telemetry.attach(("actors", "process", "crash"), on_crash)

    Handlers run synchronously in the process that emits the event, in the order of `attach`. They must be quick and
    must not block. If a handler raises, telemetry detaches it and logs the error, so a broken handler does not harm the
    code that emits the event.

    Attributes:
        handlers: A function that returns the handlers of an event, as a tuple. If it is empty, the caller need not
            build the metadata.

    Source: Elixir's `:telemetry`. There, all code shares one table of handlers. Here, each runtime has its own.
    """

    __slots__ = ("_handlers", "handlers")

    handlers: Callable[[Event], tuple[Handler, ...]]

    def __init__(self) -> None:
        self._handlers: defaultdict[Event, tuple[Handler, ...]] = defaultdict(tuple)
        # The method of the dict itself, because every push, join and crash looks up handlers.
        self.handlers = self._handlers.__getitem__

    def attach(self, event: Event, handler: Handler) -> Callable[[], None]:
        """Call `handler` on each `event`, until the caller calls the returned function.

        Args:
            event: The event.
            handler: A function of the event, its measurements and its metadata. It must be quick and must not block.

        Returns:
            A function that detaches the handler.
        """
        self._handlers[event] = (*self._handlers.get(event, ()), handler)

        def detach() -> None:
            self._detach(event, handler)

        return detach

    def execute(
        self, event: Event, measurements: Mapping[str, Any], metadata: Mapping[str, Any]
    ) -> None:
        """Emit `event`: call its handlers. Never raises.

        Args:
            event: The event.
            measurements: Numbers by name, such as a duration in seconds.
            metadata: The context by name.
        """
        for handler in self._handlers.get(event, ()):
            try:
                handler(event, measurements, metadata)
            except (Exception, ProcessExit, ProcessKilled) as error:
                # A handler's bug must not crash the process that emits the event.
                self._detach(event, handler)
                log_exception(
                    _log,
                    "A telemetry handler for %r raised and was detached: %r",
                    event,
                    handler,
                    exception=error,
                )

    def _detach(self, event: Event, handler: Handler) -> None:
        rest = tuple(other for other in self._handlers.get(event, ()) if other is not handler)
        if rest:
            self._handlers[event] = rest
        else:
            self._handlers.pop(event, None)

"""Named events: machinery emits them, and whoever cares listens.

No machinery of Ashtree logs. It executes events, and `actors.instrumentation.logger` is the replaceable listener that
turns some of them into log lines. An event that nobody listens to costs one dictionary look-up.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from actors.errors import ProcessExit, ProcessKilled

__all__ = ["Event", "Handler", "Telemetry"]

Event: TypeAlias = tuple[str, ...]
"""The name of an event, from the general to the particular: `("actors", "process", "crash")`."""

Handler: TypeAlias = Callable[[Event, Mapping[str, Any], Mapping[str, Any]], None]
"""Called with the event, its measurements (numbers) and its metadata (what they are about)."""

_log = logging.getLogger("actors.instrumentation.telemetry")


class Telemetry:
    """The listeners of one runtime.

        detach = runtime.telemetry.attach(("actors", "process", "crash"), on_crash)

    Handlers run at once, in the process that executes the event, in the order in which they were attached; they must
    be quick and must not block. A handler that raises is detached and logged: a broken listener must not break what
    it listens to. After Elixir's `:telemetry`, but owned by a runtime instead of being global.
    """

    __slots__ = ("_handlers",)

    def __init__(self) -> None:
        self._handlers: dict[Event, tuple[Handler, ...]] = {}

    def attach(self, event: Event, handler: Handler) -> Callable[[], None]:
        """Call `handler` whenever `event` is executed, until the returned function is called."""
        self._handlers[event] = (*self._handlers.get(event, ()), handler)

        def detach() -> None:
            self._detach(event, handler)

        return detach

    def handlers(self, event: Event) -> tuple[Handler, ...]:
        """Who listens to `event`; empty when nobody does, so that a hot path need not build its metadata."""
        return self._handlers.get(event, ())

    def execute(
        self, event: Event, measurements: Mapping[str, Any], metadata: Mapping[str, Any]
    ) -> None:
        """Tell everybody who listens to `event`. Never raises."""
        for handler in self._handlers.get(event, ()):
            try:
                handler(event, measurements, metadata)
            except (
                Exception,
                ProcessExit,
                ProcessKilled,
            ):  # a listener's bug belongs to the listener, not to the process that is observed
                self._detach(event, handler)
                _log.exception(
                    "A telemetry handler for %r raised and was detached: %r", event, handler
                )

    def _detach(self, event: Event, handler: Handler) -> None:
        rest = tuple(other for other in self._handlers.get(event, ()) if other is not handler)
        if rest:
            self._handlers[event] = rest
        else:
            self._handlers.pop(event, None)

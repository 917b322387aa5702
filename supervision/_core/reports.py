"""One supervisor's voice: executes the events of `supervision.events` if somebody listens."""

from __future__ import annotations

from typing import Any

import trio

from actors.exits import ExitReason
from actors.instrumentation.telemetry import Event
from actors.process import current_pid
from actors.refs import Pid
from actors.runtime import current_runtime
from supervision.child_spec import ChildType
from supervision.events import (
    CHILD_RESTARTED,
    CHILD_START_FAILED,
    CHILD_STARTED,
    CHILD_STARTING,
    CHILD_STOP_FAILED,
    CHILD_TERMINATED,
    GAVE_UP,
)
from supervision.intensity import RestartIntensity

__all__ = ["Reports"]


class Reports:
    """The events of the supervisor in whose process this is made."""

    __slots__ = ("_intensity", "_supervisor", "_telemetry")

    def __init__(self, intensity: RestartIntensity) -> None:
        self._telemetry = current_runtime().telemetry
        self._supervisor = current_pid()
        self._intensity = intensity

    def starting(self, id: Any, type: ChildType) -> None:
        if self._telemetry.handlers(CHILD_STARTING):
            self._execute(CHILD_STARTING, {}, id, None, type)

    def started(self, id: Any, pid: Pid, type: ChildType) -> None:
        if self._telemetry.handlers(CHILD_STARTED):
            self._execute(CHILD_STARTED, {}, id, pid, type)

    def terminated(
        self, id: Any, pid: Pid, type: ChildType, *, reason: ExitReason, stopped: bool = False
    ) -> None:
        if self._telemetry.handlers(CHILD_TERMINATED):
            self._execute(CHILD_TERMINATED, {}, id, pid, type, reason=reason, stopped=stopped)

    def restarted(self, id: Any, pid: Pid, type: ChildType, *, reason: ExitReason) -> None:
        if self._telemetry.handlers(CHILD_RESTARTED):
            self._execute(CHILD_RESTARTED, self._restarts(), id, pid, type, reason=reason)

    def start_failed(self, id: Any, type: ChildType, *, reason: ExitReason, restart: bool) -> None:
        if self._telemetry.handlers(CHILD_START_FAILED):
            self._execute(CHILD_START_FAILED, {}, id, None, type, reason=reason, restart=restart)

    def stop_failed(self, id: Any, pid: Pid, type: ChildType, *, reason: ExitReason) -> None:
        if self._telemetry.handlers(CHILD_STOP_FAILED):
            self._execute(CHILD_STOP_FAILED, {}, id, pid, type, reason=reason)

    def gave_up(self, id: Any, pid: Pid | None, type: ChildType, *, reason: ExitReason) -> None:
        if self._telemetry.handlers(GAVE_UP):
            limit = self._intensity
            self._execute(
                GAVE_UP,
                self._restarts(),
                id,
                pid,
                type,
                reason=reason,
                max_restarts=limit.max_restarts,
                max_seconds=limit.max_seconds,
            )

    def _restarts(self) -> dict[str, int]:
        return {"restarts": self._intensity.recent(trio.current_time())}

    def _execute(
        self,
        event: Event,
        measurements: dict[str, int],
        id: Any,
        pid: Pid | None,
        type: ChildType,
        **more: Any,
    ) -> None:
        self._telemetry.execute(
            event,
            measurements,
            {"supervisor": self._supervisor, "id": id, "pid": pid, "type": type, **more},
        )

"""The fields of trace events about children, exits, problems and dead letters. All recorders use them."""

from __future__ import annotations

from collections.abc import Mapping
from traceback import walk_tb
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from actors.exits import ExitReason
from actors.instrumentation.instrument import payload_of
from actors.instrumentation.telemetry import Event
from actors.masking import shown_kind
from actors.places import is_program
from actors.refs import Pid
from supervision.events import (
    CHILD_RESTARTED,
    CHILD_START_FAILED,
    CHILD_STARTED,
    CHILD_STOP_FAILED,
    CHILD_TERMINATED,
    GAVE_UP,
)
from supervision.recording.describe import describe, without_addresses
from supervision.recording.places import component_of
from supervision.recording.schema import exit_class, kind_of, transport_of

__all__ = [
    "CALL_REFUSED",
    "CHILD_EVENTS",
    "DEAD_LETTER",
    "LABELLED",
    "LATE_ANSWER",
    "PROCESS_EVENTS",
    "TEXT_LENGTH",
    "Data",
    "child_fields",
    "cut_texts",
    "dead_letter_fields",
    "frames_of",
    "late_answer_fields",
    "problem_fields",
    "reason_fields",
    "refused_fields",
]

Data: TypeAlias = Mapping[str, Any]
"""The measurements or the metadata of a telemetry event."""

TEXT_LENGTH: Final = 2000
"""The maximal length of any other text in a recording, in characters."""

_FRAMES: Final = 40

DEAD_LETTER: Final[Event] = ("actors", "message", "dead_letter")

CALL_REFUSED: Final[Event] = ("actors", "call", "refused")

LABELLED: Final[Event] = ("actors", "process", "labelled")

LATE_ANSWER: Final[Event] = ("actors", "call", "late_answer")

PROCESS_EVENTS: Final[tuple[Event, ...]] = tuple(
    ("actors", "process", kind) for kind in ("crash", "zombie", "cleanup_failed")
)
"""The telemetry events about problems of a process. The last part is the kind of the trace event."""

CHILD_EVENTS: Final[Mapping[Event, str]] = MappingProxyType(
    {
        CHILD_STARTED: "child_started",
        CHILD_RESTARTED: "child_restarted",
        CHILD_TERMINATED: "child_terminated",
        CHILD_START_FAILED: "child_start_failed",
        CHILD_STOP_FAILED: "child_stop_failed",
        GAVE_UP: "gave_up",
    }
)
"""The telemetry events of supervisors, each with the kind of its trace event."""


def reason_fields(reason: ExitReason) -> dict[str, Any]:
    """Return the fields of an exit reason."""
    return {"reason": describe(reason), "exit": exit_class(reason)}


def child_fields(measurements: Data, metadata: Data) -> dict[str, Any]:
    """Return the fields of a supervisor's event about a child, with the numbers behind the supervisor's decision."""
    child: Pid | None = metadata["pid"]
    fields: dict[str, Any] = {
        "id": describe(metadata["id"]),
        "component": component_of(metadata["id"]),
        "child": None if child is None else child.number,
    }
    if "reason" in metadata:
        fields |= reason_fields(metadata["reason"])
    if "restarts" in measurements:
        fields["restarts"] = measurements["restarts"]
    for name in ("max_restarts", "max_seconds"):
        if name in metadata:
            # JSON has no infinity.
            fields[name] = None if metadata[name] == float("inf") else metadata[name]
    for name in ("strategy", "restart_type", "stopped", "restart"):
        if name in metadata:
            fields[name] = metadata[name]
    return fields


def problem_fields(metadata: Data) -> dict[str, Any]:
    """Return the fields of a crash, a zombie or a failed clean-up."""
    exception = metadata["exception"]
    return {
        "process": without_addresses(metadata["process"]),
        **reason_fields(metadata["reason"]),
        "error": describe(exception),
        "exception": None if exception is None else type(exception).__qualname__,
    }


def dead_letter_fields(metadata: Data, *, contents: bool = True) -> dict[str, Any]:
    """Return the fields of a message for a process that has ended."""
    address, message = metadata["address"], metadata["message"]
    fields: dict[str, Any] = {
        "to": describe(address),
        "to_pid": address.number if isinstance(address, Pid) else None,
        "via": transport_of(message),
        "message_kind": shown_kind(kind_of(message)),
    }
    if contents:
        fields["message"] = describe(payload_of(message))
    return fields


def refused_fields(metadata: Data) -> dict[str, Any]:
    """Return the fields of a call that found no process."""
    address, request = metadata["address"], metadata["request"]
    return {
        "to": describe(address),
        "to_pid": address.number if isinstance(address, Pid) else None,
        "message_kind": shown_kind(kind_of(request)),
        "message": describe(request),
    }


def late_answer_fields(measurements: Data, metadata: Data) -> dict[str, Any]:
    """Return the fields of an answer that came after its caller had given up."""
    caller = metadata["caller"]
    return {
        # The pid of a caller on another node has no meaning here.
        "to": caller.number if isinstance(caller, Pid) else None,
        "how": metadata["how"],
        "seconds": round(measurements["seconds"], 6),
    }


def frames_of(exception: BaseException) -> list[tuple[str, int, str]]:
    """Return the file, the line number and the function of each frame, from the first frame of the program's own code.

    The result contains no source text, because reading files would block the program.
    """
    frames = list(walk_tb(exception.__traceback__))
    own = (
        position
        for position, (frame, _) in enumerate(frames)
        if is_program(frame.f_code.co_filename)
    )
    return [
        (frame.f_code.co_filename, line, frame.f_code.co_qualname)
        for frame, line in frames[next(own, 0) :][-_FRAMES:]
    ]


def cut_texts(fields: dict[str, Any]) -> dict[str, Any]:
    """Shorten long texts in place. An application chooses the texts of its errors, so they can have any length."""
    for name, value in fields.items():
        if type(value) is str and len(value) > TEXT_LENGTH:
            fields[name] = f"{value[:TEXT_LENGTH]}... ({len(value)} characters)"
    return fields

"""The clients of a simulated run, with the contents of their frames.

An endpoint offers `record_frames` to the recorder of a simulated runtime. A recording of a running server has only the
sizes of frames; see `channels.recording.clients`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from actors.refs import Pid
from actors.runtime import Runtime
from channels.connection.session import Deliver, Effect, Start
from channels.filters import FilterRule, filter_parameters
from channels.messages import Message
from channels.recording.clients import Clients, Session
from channels.telemetry import PUBSUB_SUBSCRIBED, PUBSUB_UNSUBSCRIBED
from supervision.recording.describe import describe
from supervision.recording.recorder import Recorder, sender_now

__all__ = ["message_of", "record_frames"]

_LONG = 80
_Data = Mapping[str, Any]
_decode = msgspec.json.Decoder().decode
# The first byte of a WebSocket frame that holds a whole text message, and the marks of longer lengths.
_TEXT = 0x81
_TWO_BYTES, _EIGHT_BYTES = 126, 127


def record_frames(recorder: Recorder) -> None:
    """Record the clients of a runtime in the trace of a simulated run, until the runtime ends."""
    _Clients(recorder).attach(recorder.runtime)


class _Clients(Clients):
    """The clients of a simulated runtime."""

    def __init__(self, recorder: Recorder) -> None:
        self._trace = _Trace(recorder)
        super().__init__(self._trace.add)

    def attach(self, runtime: Runtime) -> list[Callable[[], None]]:
        telemetry = runtime.telemetry
        return [
            *super().attach(runtime),
            telemetry.attach(PUBSUB_SUBSCRIBED, self._subscribed),
            telemetry.attach(PUBSUB_UNSUBSCRIBED, self._unsubscribed),
        ]

    def session_started(self, event: object, measured: _Data, about: _Data) -> None:
        self._trace.add_rule(about["endpoint"].filter_parameters)
        super().session_started(event, measured, about)
        server = about["server"]
        server.out = server.link.out = _Out(server.out, about["pid"], self._trace)

    def session(self, session: Any, pid: Pid) -> Any:
        return _Session(session, pid, self._trace)

    def _subscribed(self, _event: object, measured: _Data, about: _Data) -> None:
        fields = {"topic": about["topic"][:_LONG], "count": measured["count"]}
        self._trace.add("subscribed", about["pid"], fields)

    def _unsubscribed(self, _event: object, _measured: _Data, about: _Data) -> None:
        self._trace.add("unsubscribed", about["pid"], {"topic": about["topic"][:_LONG]})


class _Trace:
    """The events of clients in the trace of a simulated run."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._rules: list[FilterRule] = []
        # The last frame and its fields. A broadcast writes the same frame to many clients.
        self._last: tuple[bytes, dict[str, Any]] = (b"", {})

    def add_rule(self, rule: FilterRule) -> None:
        """Apply a filter rule of an endpoint to all payloads."""
        if rule not in self._rules:
            self._rules.append(rule)

    def add(self, kind: str, pid: Pid, fields: dict[str, Any]) -> None:
        """Add an event about a process."""
        if kind == "joined":
            # The duration is a difference of virtual times, so its last digits may be wrong.
            fields = {**fields, "seconds": round(fields["seconds"], 6)}
        self._recorder.add(kind, pid, fields, causes=False)

    def frame_in(self, pid: Pid, message: Message, size: int) -> None:
        """Record a frame of a client."""
        self.add("frame", pid, {"direction": "in", "size": size, **self._fields(message)})

    def frame_out(self, pid: Pid, frame: bytes) -> None:
        """Record a frame for a client."""
        fields = {"direction": "out", "size": len(frame), **self._fields_of(frame)}
        writer = sender_now()
        if writer is not None:
            fields["by"] = writer.number
        self.add("frame", pid, fields)

    def _fields_of(self, frame: bytes) -> dict[str, Any]:
        if self._last[0] is not frame:
            message = message_of(frame)
            self._last = frame, {} if message is None else self._fields(message)
        return self._last[1]

    def _fields(self, message: Message) -> dict[str, Any]:
        payload = message.payload
        fields: dict[str, Any] = {}
        for rule in self._rules:
            payload = filter_parameters(payload, rule)
        if message.event == "phx_reply" and type(payload) is dict and "status" in payload:
            fields["status"] = str(payload["status"])[:_LONG]
            payload = payload.get("response")
        if message.ref is not None:
            fields["ref"] = str(message.ref)[:_LONG]
        return {
            "topic": str(message.topic)[:_LONG],
            "event": str(message.event)[:_LONG],
            "payload": describe(payload),
            **fields,
        }


class _Session(Session):
    """A session that also records the frames of its client."""

    def __init__(self, session: Any, pid: Pid, trace: _Trace) -> None:
        super().__init__(session, pid, trace.add)
        self._frame_in = trace.frame_in
        self.receive = self._receive

    def _receive(self, data: bytes, *, binary: bool) -> list[Effect]:
        effects: list[Effect] = self._session.receive(data, binary=binary)
        for effect in effects:
            if type(effect) is Deliver or type(effect) is Start:
                self._frame_in(self._pid, effect.message, len(data))
        return effects


class _Out:
    """An out-buffer that records its frames."""

    def __init__(self, out: Any, pid: Pid, trace: _Trace) -> None:
        self._out = out
        self._pid = pid
        self._trace = trace

    def put(self, frame: bytes) -> None:
        self._out.put(frame)
        self._trace.frame_out(self._pid, frame)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._out, name)


def message_of(frame: bytes) -> Message | None:
    """Return the text message in a frame for a client; None for a binary, compressed or control frame.

    Args:
        frame: a WebSocket frame of a server, or a message of long polling, in the format V1 or V2.
    """
    text = frame
    if frame[:1] == bytes((_TEXT,)):
        header = {_TWO_BYTES: 4, _EIGHT_BYTES: 10}.get(frame[1], 2)
        text = frame[header:]
    if text[:1] not in (b"[", b"{"):
        return None
    try:
        found = _decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if isinstance(found, list) and len(found) == 5:
        join_ref, ref, topic, event, payload = found
        return Message(join_ref, ref, topic, event, payload)
    if isinstance(found, dict) and {"topic", "event", "payload"} <= found.keys():
        ref = found.get("ref")
        return Message(found.get("join_ref"), ref, found["topic"], found["event"], found["payload"])
    return None

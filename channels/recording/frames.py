"""The clients of a simulated run, with the contents of their frames.

An endpoint offers `record_frames` to the recorder of a simulated runtime. A recording of a running server has only the
sizes of frames; see `channels.recording.clients`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import msgspec

from actors.refs import Pid
from actors.runtime import Runtime
from channels.messages import Message
from channels.protocol.session import Deliver, Effect, Start
from channels.recording.clients import Clients, RecordedSession
from channels.recording.watched_out import WatchedOut, text_of
from channels.telemetry import PUBSUB_SUBSCRIBED, PUBSUB_UNSUBSCRIBED
from supervision.recording.describe import describe
from supervision.recording.recorder import Recorder, sender_now

__all__ = ["message_of", "record_frames"]

_LONG = 80
_Data = Mapping[str, Any]
_decode = msgspec.json.Decoder().decode


def record_frames(recorder: Recorder) -> None:
    """Record the clients of a runtime in the trace of a simulated run, until the runtime ends."""
    _Clients(recorder).attach(recorder.runtime)


class _Clients(Clients):
    """The clients of a simulated runtime, with the contents of their frames."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__(self._record)
        self._recorder = recorder
        # The last frame and its fields. A broadcast writes the same frame to many clients.
        self._last: tuple[bytes, dict[str, Any]] = (b"", {})

    def attach(self, runtime: Runtime) -> list[Callable[[], None]]:
        telemetry = runtime.telemetry
        return [
            *super().attach(runtime),
            telemetry.attach(PUBSUB_SUBSCRIBED, self._subscribed),
            telemetry.attach(PUBSUB_UNSUBSCRIBED, self._unsubscribed),
        ]

    def session_started(self, event: object, measured: _Data, about: _Data) -> None:
        super().session_started(event, measured, about)
        pid, server = about["pid"], about["server"]
        server.out = server.link.out = WatchedOut(server.out, partial(self._frame_out, pid))

    def session(self, session: Any, pid: Pid) -> Any:
        return _Session(session, pid, self._record, partial(self._frame_in, pid))

    def _record(self, kind: str, pid: Pid, fields: dict[str, Any]) -> None:
        if kind == "joined":
            # The duration is a difference of virtual times, so its last digits may be wrong.
            fields = {**fields, "seconds": round(fields["seconds"], 6)}
        self._recorder.add(kind, pid, fields, causes=False)

    def _subscribed(self, _event: object, measured: _Data, about: _Data) -> None:
        fields = {"topic": about["topic"][:_LONG], "count": measured["count"]}
        self._record("subscribed", about["pid"], fields)

    def _unsubscribed(self, _event: object, _measured: _Data, about: _Data) -> None:
        self._record("unsubscribed", about["pid"], {"topic": about["topic"][:_LONG]})

    def _frame_in(self, pid: Pid, message: Message, size: int) -> None:
        self._record("frame", pid, {"direction": "in", "size": size, **self._fields(message)})

    def _frame_out(self, pid: Pid, frame: bytes) -> None:
        fields = {"direction": "out", "size": len(frame), **self._fields_of(frame)}
        writer = sender_now()
        if writer is not None:
            fields["by"] = writer.number
        self._record("frame", pid, fields)

    def _fields_of(self, frame: bytes) -> dict[str, Any]:
        if self._last[0] is not frame:
            message = message_of(frame)
            self._last = frame, {} if message is None else self._fields(message)
        return self._last[1]

    def _fields(self, message: Message) -> dict[str, Any]:
        payload = self.filtered_payload(message.payload)
        fields: dict[str, Any] = {}
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


class _Session(RecordedSession):
    """A session that also records the frames of its client."""

    def __init__(
        self, session: Any, pid: Pid, add: Any, frame_in: Callable[[Message, int], object]
    ) -> None:
        super().__init__(session, pid, add)
        self._frame_in = frame_in
        self.receive = self._receive

    def _receive(self, data: bytes, *, binary: bool) -> list[Effect]:
        effects: list[Effect] = self._session.receive(data, binary=binary)
        for effect in effects:
            if type(effect) is Deliver or type(effect) is Start:
                self._frame_in(effect.message, len(data))
        return effects


def message_of(frame: bytes) -> Message | None:
    """Return the text message in a frame for a client; None for a binary, compressed or control frame.

    Args:
        frame: a WebSocket frame of a server, or a message of long polling, in the format V1 or V2.
    """
    text = text_of(frame)
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

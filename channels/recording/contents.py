"""The contents of the frames between a server and its clients, as the fields of `frame` events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from actors.refs import Pid
from channels.messages import Message
from channels.recording.watched_out import text_of
from supervision.recording.describe import describe
from supervision.recording.recorder import sender_now

__all__ = ["FrameContents", "message_of"]

_LONG = 80
_decode = msgspec.json.Decoder().decode


class FrameContents:
    """Records the frames of clients with their contents.

    Args:
        add: records an event about a process.
        filtered: applies the filter rules of the endpoints to a payload.
        longest: the most characters of a payload; None for no limit.
    """

    def __init__(
        self,
        add: Callable[[str, Pid, dict[str, Any]], object],
        filtered: Callable[[Any], Any],
        longest: int | None = None,
    ) -> None:
        self._add = add
        self._filtered = filtered
        self._longest = longest
        # The last frame and its fields. A broadcast writes the same frame to many clients.
        self._last: tuple[bytes, dict[str, Any]] = (b"", {})

    def frame_in(self, pid: Pid, message: Message, size: int) -> None:
        """Record a message of a client."""
        self._add("frame", pid, {"direction": "in", "size": size, **self._fields(message)})

    def frame_out(self, pid: Pid, frame: bytes) -> None:
        """Record a frame for a client."""
        fields = {"direction": "out", "size": len(frame), **self._fields_of(frame)}
        writer = sender_now()
        if writer is not None:
            fields["by"] = writer.number
        self._add("frame", pid, fields)

    def _fields_of(self, frame: bytes) -> dict[str, Any]:
        if self._last[0] is not frame:
            message = message_of(frame)
            self._last = frame, {} if message is None else self._fields(message)
        return self._last[1]

    def _fields(self, message: Message) -> dict[str, Any]:
        payload = self._filtered(message.payload)
        fields: dict[str, Any] = {}
        if message.event == "phx_reply" and type(payload) is dict and "status" in payload:
            fields["status"] = str(payload["status"])[:_LONG]
            payload = payload.get("response")
        if message.ref is not None:
            fields["ref"] = str(message.ref)[:_LONG]
        return {
            "topic": str(message.topic)[:_LONG],
            "event": str(message.event)[:_LONG],
            "payload": describe(payload)[: self._longest],
            **fields,
        }


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

"""The texts of each protocol for joins, pushes and keep-alives. *pure*.

- `PhoenixV2`: the array of five items of Phoenix, version 2. All servers with a plain WebSocket speak it here, so all
  of them get the same bytes.
- `SocketIO`: the text packets of Engine.IO 4 and Socket.IO 5, for python-socketio.
"""

from __future__ import annotations

import json
from typing import Protocol

__all__ = ["DIALECTS", "Dialect", "Refused"]


class Refused(Exception):
    """The server refused a join."""


class Dialect(Protocol):
    """The texts of one protocol."""

    def greeting(self, topic: str, ref: str) -> list[str]:
        """Return the texts that a client sends as soon as the WebSocket is open."""

    def joining(self, text: bytes, topic: str, ref: str) -> tuple[list[str], bool]:
        """Return the client's answers to a text of the server, and True once the client has joined.

        Raises:
            Refused: the server refused the join.
        """

    def push(self, topic: str, join_ref: str, ref: str, event: str, payload: str) -> str:
        """Return the text of a push. The payload is JSON. `ref` may be a placeholder for a number."""

    def reply_number(self, text: bytes) -> int:
        """Return the number of the push that a text answers, or -1 if the text is not a successful answer."""

    def keep_alive(self, text: bytes) -> str | None:
        """Return the answer to a text that only asks if the client is alive, or None for other texts."""


class PhoenixV2:
    """`[join_ref, ref, topic, event, payload]`."""

    def greeting(self, topic: str, ref: str) -> list[str]:
        return [self.push(topic, ref, ref, "phx_join", "{}")]

    def joining(self, text: bytes, topic: str, ref: str) -> tuple[list[str], bool]:
        _, answered, of, event, payload = json.loads(text)
        if (answered, of, event) != (ref, topic, "phx_reply"):
            return [], False
        if payload["status"] != "ok":
            raise Refused(f"the server refused the join of {topic}: {payload}")
        return [], True

    def push(self, topic: str, join_ref: str, ref: str, event: str, payload: str) -> str:
        return f'["{join_ref}","{ref}","{topic}","{event}",{payload}]'

    def reply_number(self, text: bytes) -> int:
        parts = text.split(b'"', 8)
        # The fourth string is the event, whatever the order of the keys and the white space.
        if len(parts) < 9 or parts[7] != b"phx_reply" or not parts[3].isdigit():
            return -1
        return int(parts[3])

    def keep_alive(self, text: bytes) -> str | None:
        return None


class SocketIO:
    """Packets of Socket.IO. A join is an event with an acknowledgement, because the protocol has no joins."""

    def greeting(self, topic: str, ref: str) -> list[str]:
        return []

    def joining(self, text: bytes, topic: str, ref: str) -> tuple[list[str], bool]:
        if text.startswith(b"0"):
            return ["40"], False
        if text.startswith(b"40"):
            return [self.push(topic, ref, ref, "join", json.dumps({"room": topic}))], False
        if text.startswith(b"44"):
            raise Refused(f"the server refused the connection: {text!r}")
        return [], text.startswith(b"43")

    def push(self, topic: str, join_ref: str, ref: str, event: str, payload: str) -> str:
        return f'42{ref}["{event}",{payload}]'

    def reply_number(self, text: bytes) -> int:
        if not text.startswith(b"43"):
            return -1
        number = text[2:10]
        return int(number) if number.isdigit() else -1

    def keep_alive(self, text: bytes) -> str | None:
        return "3" if text == b"2" else None


DIALECTS: dict[str, Dialect] = {"phoenix": PhoenixV2(), "socketio": SocketIO()}
"""The dialects by name."""

"""The operations of a client, announced to histories such as `supervision.histories.OperationHistory`."""

from __future__ import annotations

from typing import Any

from actors.instrumentation.telemetry import OPERATION_BEGAN, OPERATION_ENDED, Telemetry
from channels.client import events
from channels.client.records import Arrived, ChannelRecord, PushRecord

__all__ = ["Operations"]

# The server's answer to a push to a topic that the client has not joined. So no handler has run.
_NOT_JOINED = {"reason": "unmatched topic"}


class Operations:
    """The joins, pushes, leaves and receipts of one socket. Without a history, it is not called.

    A push whose task was cancelled, and a push without an answer, may have run, unless the client never sent it. Each
    attempt to join is an operation. So is each loss of a topic, which begins the next join.

    Args:
        socket: the socket, which stands for the client.
        telemetry: emits the events.
        name: the name of the client's host in a simulated or proxied network; None without one.
    """

    __slots__ = ("_joins", "_name", "_socket", "_telemetry")

    def __init__(self, socket: object, telemetry: Telemetry, name: str | None) -> None:
        self._socket = socket
        self._name = name
        self._telemetry = telemetry
        self._joins: set[ChannelRecord] = set()

    def begin(
        self, operation: object, kind: str, channel: ChannelRecord, event: str, payload: Any
    ) -> None:
        """Announce the start of an operation."""
        about = {"kind": kind, "topic": channel.topic, "event": event, "payload": payload}
        about |= {"operation": operation, "client": self._socket, "name": self._name}
        self._telemetry.execute(OPERATION_BEGAN, {}, about)

    def end(self, operation: object, how: str, status: str = "ok", response: Any = None) -> None:
        """Announce the end of an operation: `"answered"`, `"refused"` if it had no effect, or `"open"`."""
        about = {"operation": operation, "how": how, "status": status, "response": response}
        self._telemetry.execute(OPERATION_ENDED, {}, about)

    def pushed(self, push: PushRecord, payload: Any) -> None:
        """Announce a push."""
        push.is_observed = True
        self.begin(push, "push", push.channel, push.event, payload)

    def settled(self, push: PushRecord, status: str, response: Any) -> None:
        """Announce the result of a push, which is the status of the answer, "timeout" or "closed"."""
        if not push.was_sent:
            self.end(push, "refused")
        elif push.ref is None or status in ("timeout", "closed"):
            self.end(push, "open")
        elif status != "ok" and response == _NOT_JOINED:
            self.end(push, "refused")
        else:
            self.end(push, "answered", status, response)

    def joining(self, channel: ChannelRecord) -> None:
        """Announce a join."""
        if channel not in self._joins:
            self._joins.add(channel)
            self.begin((channel, "join"), "join", channel, "phx_join", channel.params)

    def told(self, channel: ChannelRecord, event: events.Lifecycle) -> None:
        """Announce the joins that an event begins or ends."""
        match event:
            case events.Joined() | events.Rejoined():
                self._joined(channel, "answered", "ok", event.response)
            case events.JoinRejected():
                self._joined(channel, "answered", event.status, event.response)
                self.joining(channel)
            case events.ChannelLost():
                self.joining(channel)
            case events.ChannelEnded():
                self._joined(channel, "open")

    def _joined(self, channel: ChannelRecord, how: str, status: str = "", *response: Any) -> None:
        if channel in self._joins:
            self._joins.remove(channel)
            self.end((channel, "join"), how, status, *response)

    def received(self, arrived: Arrived) -> None:
        """Announce a message of the server, which is an operation without a duration."""
        message, operation = arrived.message, object()
        self.begin(operation, "message", arrived.channel, message.event, message.payload)
        self.end(operation, "answered")

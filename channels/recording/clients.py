"""The events of clients and channels in a recording: connections, joins, frames, final frames and closes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Protocol

from actors.process import current_pid
from actors.refs import Pid
from actors.runtime import Runtime
from channels.channel import connection_of
from channels.connection.session import Effect, Membership, Send
from channels.filters import FilterRule, filter_parameters
from channels.messages import Broadcast, Message
from channels.telemetry import CHANNEL_JOINED, CONNECTION_CLOSED, SESSION_STARTED
from supervision.child_spec import ChildSpec
from supervision.recording import files
from supervision.recording.files import RecorderFiles
from supervision.recording.flight import FlightRecorder

__all__ = [
    "ClientRecorder",
    "Clients",
    "Session",
    "open_recorder",
    "record_channels",
    "recorder_spec",
]

_LONG = 80

_Data = Mapping[str, Any]


@asynccontextmanager
async def open_recorder(**options: Any) -> AsyncIterator[RecorderFiles]:
    """Record the current runtime, its channels and their clients while the body runs.

        async with open_runtime(), open_recorder(file="run.jsonl"):
            await endpoint.start_link()
            ...

    Args:
        **options: the options of `supervision.recording.files.open_recorder`.

    The recording has no frames of clients that connected before it began.
    """
    extensions = (*options.pop("extensions", ()), record_channels)
    async with files.open_recorder(extensions=extensions, **options) as opened:
        yield opened


def recorder_spec(**options: Any) -> ChildSpec:
    """Return the spec of a child that records while it runs. Put the child before the endpoint, so that it stops last.

        Supervisor.start_link([recorder_spec(file="run.jsonl"), endpoint.child_spec()])

    Args:
        **options: the options of `open_recorder`.
    """
    extensions = (*options.pop("extensions", ()), record_channels)
    return files.recorder_spec(extensions=extensions, **options)


def record_channels(recorder: FlightRecorder) -> None:
    """Attach a recorder to the channels of its runtime, until the recorder closes."""
    clients = Clients(recorder)
    recorder.filters = (*recorder.filters, clients.filtered)
    for detach in clients.attach():
        recorder.on_close(detach)


class ClientRecorder(Protocol):
    """The part of a recorder that records clients."""

    runtime: Runtime
    connections: dict[Pid, None]

    def add(self, kind: str, pid: Pid | None, fields: Mapping[str, Any]) -> int:
        """Record an event."""

    def recording_put(self, pid: Pid, put: Callable[[bytes], object]) -> Callable[[bytes], None]:
        """Return a function that records a frame for a client, and passes the frame on."""


class Clients:
    """The clients of one runtime."""

    def __init__(self, recorder: ClientRecorder) -> None:
        self._recorder = recorder
        # By connection: the id of the client's socket, if it has one.
        self._ids: dict[Pid, str] = {}
        self._rules: list[FilterRule] = []

    def attach(self) -> list[Callable[[], None]]:
        """Attach to the events of the runtime. Return the functions that detach."""
        telemetry = self._recorder.runtime.telemetry
        return [
            telemetry.attach(SESSION_STARTED, self.session_started),
            telemetry.attach(CHANNEL_JOINED, self.joined),
            telemetry.attach(CONNECTION_CLOSED, self.closed),
        ]

    def filtered(self, content: Any) -> Any:
        """Apply the filter rules of the endpoints to the content of a message."""
        if not isinstance(content, Message | Broadcast):
            return content
        payload = self.filtered_payload(content.payload)
        return {"topic": content.topic, "event": content.event, "payload": payload}

    def filtered_payload(self, payload: Any) -> Any:
        """Apply the filter rules of the endpoints to a payload."""
        for rule in self._rules:
            payload = filter_parameters(payload, rule)
        return payload

    def session_started(self, _event: object, _measured: _Data, about: _Data) -> None:
        pid, server, id = about["pid"], about["server"], about["id"]
        rule = about["endpoint"].filter_parameters
        if rule not in self._rules:
            self._rules.append(rule)
        fields = {"socket": type(server.socket).__name__, "transport": type(server).__name__}
        if id is not None:
            fields["client"] = self._ids[pid] = id[:_LONG]
        self._recorder.connections[pid] = None
        self._recorder.add("client_connected", pid, fields)
        server.session = self.session(server.session, pid)
        server.out = server.link.out = _Out(server.out, pid, self._recorder)

    def session(self, session: Any, pid: Pid) -> Any:
        """Return the session that stands in for the session of a client."""
        return Session(session, pid, self._recorder)

    def joined(self, _event: object, measured: _Data, about: _Data) -> None:
        channel = about["channel"]
        connection = connection_of(channel)
        fields = {
            "connection_pid": connection.number,
            "topic": channel.topic[:_LONG],
            "channel": type(channel).__name__,
            "result": about["result"],
            "seconds": measured["duration"],
        }
        id = self._ids.get(connection)
        if id is not None:
            fields["client"] = id
        self._recorder.add("joined", current_pid(), fields)

    def closed(self, _event: object, _measured: _Data, about: _Data) -> None:
        pid = about["pid"]
        self._ids.pop(pid, None)
        topics = [topic[:_LONG] for topic in about["topics"]]
        fields = {"code": about["code"], "why": about["cause"], "topics": topics}
        self._recorder.add("client_closed", pid, fields)


class Session:
    """A session that records its final frames about a topic."""

    def __init__(self, session: Any, pid: Pid, recorder: ClientRecorder) -> None:
        self._session = session
        # Avoid `__getattr__` for this method, because it is called most often.
        self.receive = session.receive
        self._pid = pid
        self._recorder = recorder

    def exited(self, membership: Membership) -> list[Effect]:
        joining = membership.status in ("joining", "superseded")
        effects: list[Effect] = self._session.exited(membership)
        if any(isinstance(effect, Send) for effect in effects):
            event = "join crashed" if joining else "phx_error"
            fields = {"topic": membership.topic[:_LONG], "event": event}
            process = membership.process
            if process is not None:
                fields["channel"] = process.number
            self._recorder.add("client_told", self._pid, fields)
        return effects

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)


class _Out:
    """An out-buffer that records its frames."""

    def __init__(self, out: Any, pid: Pid, recorder: ClientRecorder) -> None:
        self._out = out
        self.put = recorder.recording_put(pid, out.put)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._out, name)

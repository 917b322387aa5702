"""The events of clients and channels in a recording: connections, joins, frames, final frames and closes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar
from weakref import WeakSet

from actors.instrumentation.telemetry import Event, Handler
from actors.masking import SECRETS, bounded_copy, mask
from actors.process import current_pid
from actors.refs import Pid
from actors.runtime import Runtime
from channels.channel import connection_of
from channels.connection.session_server import SessionServer
from channels.filters import FilterRule, filter_parameters
from channels.messages import Broadcast, Message
from channels.protocol.session import Membership
from channels.recording.contents import FrameContents
from channels.recording.nodes import record_nodes
from channels.recording.watched_out import WatchedOut
from channels.telemetry import CHANNEL_JOINED, CONNECTION_CLOSED, SESSION_STARTED
from channels.transports.out_buffer import Flusher, OutBuffer
from supervision.child_spec import ChildSpec
from supervision.recording import files
from supervision.recording.fields import TEXT_LENGTH
from supervision.recording.files import RecorderFiles
from supervision.recording.flight import FlightRecorder
from supervision.recording.recorder import Recorder

__all__ = [
    "Clients",
    "RecordedSession",
    "open_recorder",
    "record_channels",
    "recorder_spec",
    "trace_clients",
]

_LONG = 80

_L = TypeVar("_L", bound=Callable[..., object])

_Data = Mapping[str, Any]
_Add = Callable[[str, Pid, dict[str, Any]], object]
_FrameIn = Callable[[Pid, Message, int], object]


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
    clients = _FlightClients(recorder)
    recorder.filters = (*recorder.filters, clients.filtered)
    for detach in clients.attach(recorder.runtime):
        recorder.on_close(detach)
    recorder.on_close(clients.leave_flushers)
    record_nodes(recorder)


def trace_clients(recorder: Recorder) -> None:
    """Attach the recorder of a trace to the clients of its runtime, until the runtime ends.

    It records connections, joins, final frames about topics, and closes. It records no frames.
    """

    def add(kind: str, pid: Pid, fields: dict[str, Any]) -> None:
        recorder.add(kind, pid, fields, causes=False)

    recorder.has_clients = True
    Clients(add).attach(recorder.runtime)


class Clients:
    """The clients of one runtime.

    Args:
        add: records an event about a process.
    """

    def __init__(self, add: _Add) -> None:
        self._add = add
        self._contents: FrameContents | None = None
        # By connection: the id of the client's socket, if it has one.
        self._ids: dict[Pid, str] = {}
        self._rules: list[FilterRule] = []

    def attach(self, runtime: Runtime) -> list[Callable[[], None]]:
        """Record the events of a runtime. Return functions that stop the recording."""
        handlers: dict[Event, Handler] = {
            SESSION_STARTED: self.session_started,
            CHANNEL_JOINED: self.joined,
            CONNECTION_CLOSED: self.closed,
        }
        return [runtime.telemetry.attach(event, handler) for event, handler in handlers.items()]

    def session_started(self, _event: object, _measured: _Data, about: _Data) -> None:
        pid, server, id = about["pid"], about["server"], about["id"]
        rule = about["endpoint"].filter_parameters
        if rule not in self._rules:
            self._rules.append(rule)
        fields = {"socket": type(server.socket).__name__, "transport": type(server).__name__}
        if id is not None:
            fields["client"] = self._ids[pid] = id[:_LONG]
        self._add("client_connected", pid, fields)
        server.session = self.session(server.session, pid)

    def session(self, session: Any, pid: Pid) -> Any:
        """Wrap the session of a client, so that the wrapper records events."""
        frame_in = None if self._contents is None else self._contents.frame_in
        return RecordedSession(session, pid, self._add, frame_in)

    def filtered_payload(self, payload: Any) -> Any:
        """Apply the filter rules of the endpoints to a payload."""
        for rule in self._rules:
            payload = filter_parameters(payload, rule)
        return payload

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
        self._add("joined", current_pid(), fields)

    def closed(self, _event: object, _measured: _Data, about: _Data) -> None:
        pid = about["pid"]
        self._ids.pop(pid, None)
        topics = [topic[:_LONG] for topic in about["topics"]]
        fields = {"code": about["code"], "why": about["cause"], "topics": topics}
        self._add("client_closed", pid, fields)


class _FlightClients(Clients):
    """Recording of the clients of one runtime, with their messages and frames, by a flight recorder."""

    def __init__(self, recorder: FlightRecorder) -> None:
        super().__init__(recorder.add)
        self._recorder = recorder
        self._tap = recorder.tap()
        if recorder.contents and recorder.records_frames:
            self._contents = FrameContents(
                recorder.add_message,
                lambda payload: mask(self.filtered_payload(payload), recorder.hide),
                TEXT_LENGTH,
            )
        # The flushers that call the recorder. An endpoint that ends leaves the set with its flusher.
        self._flushers: WeakSet[Flusher] = WeakSet()

    def filtered(self, content: Any) -> Any:
        """Apply the filter rules of the endpoints to the content of a message, or to an answer."""
        if not isinstance(content, Message | Broadcast):
            # A channel may pass a secret of its client on to any process. The recorder applies the usual terms itself.
            for rule in self._rules:
                if rule is not SECRETS:
                    content = filter_parameters(bounded_copy(content), rule)
            return content
        payload = self.filtered_payload(content.payload)
        return {"topic": content.topic, "event": content.event, "payload": payload}

    def session_started(self, event: object, measured: _Data, about: _Data) -> None:
        super().session_started(event, measured, about)
        pid = about["pid"]
        self._recorder.connections[pid] = self._attach(about["server"], pid)

    def _attach(self, server: SessionServer, pid: Pid) -> Callable[[], None]:
        """Record the reads and writes of a connection. Return a function that stops this."""
        tap, out, session = self._tap, server.out, server.session
        recorder = self._recorder
        if server.tap is None and (recorder.records_messages or recorder.records_frames):
            # A server has one tap. A second recorder sees the messages only through the hooks of an instrument.
            server.tap = tap
        wrote = partial(tap.wrote, pid.number)
        watched: WatchedOut | None = None
        if not recorder.records_frames:
            pass
        elif self._contents is not None:
            watched = WatchedOut(out, partial(self._contents.frame_out, pid))
        elif not isinstance(out, OutBuffer):
            # The buffer of a test. It delivers each frame immediately.
            watched = WatchedOut(out, lambda frame: wrote(len(frame), 1))
        else:
            out.client = pid.number
            out.on_write = (*out.on_write, wrote)
            self._listen(server.services.transports.flusher)
        if watched is not None:
            server.out = server.link.out = watched

        def detach() -> None:
            if server.tap is tap:
                server.tap = None
            if isinstance(out, OutBuffer):
                out.on_write = _without(out.on_write, wrote)
            if watched is not None:
                watched.end()
            if isinstance(session, RecordedSession):
                session.end()

        return detach

    def _listen(self, flusher: Flusher) -> None:
        """Record the writes of a flusher until the recorder closes."""
        # `Tap.wrote_all` is one function for all connections, so the flusher calls a recorder once a turn.
        if flusher not in self._flushers:
            self._flushers.add(flusher)
            flusher.on_written = (*flusher.on_written, self._tap.wrote_all)

    def leave_flushers(self) -> None:
        """Stop the recording of the writes of all flushers."""
        for flusher in self._flushers:
            flusher.on_written = _without(flusher.on_written, self._tap.wrote_all)
        self._flushers.clear()


class RecordedSession:
    """A session that records when the client learns that a channel has crashed.

    Args:
        session: the session.
        pid: the process of the connection.
        add: records an event about a process.
        frame_in: records a message of the client; None to record none.
    """

    def __init__(self, session: Any, pid: Pid, add: _Add, frame_in: _FrameIn | None = None) -> None:
        self._session = session
        self._pid = pid
        self._add = add
        # The server calls `receive` most often, so this attribute avoids `__getattr__`.
        self.receive = session.receive
        self._owner: _RecordedOwner | None = None
        if frame_in is not None:
            self._owner = session.owner = _RecordedOwner(session.owner, pid, frame_in)

    @property
    def codec(self) -> Any:
        """The codec of the wrapped session. An observer may replace it, for example to see the frames."""
        return self._session.codec

    @codec.setter
    def codec(self, codec: Any) -> None:
        self._session.codec = codec

    @property
    def owner(self) -> Any:
        """The owner of the wrapped session. An observer may replace it, for example to see the starts of channels."""
        return self._session.owner

    @owner.setter
    def owner(self, owner: Any) -> None:
        self._session.owner = owner

    def exited(self, membership: Membership) -> str | None:
        news: str | None = self._session.exited(membership)
        if news is not None:
            fields = {"topic": membership.topic[:_LONG], "event": news}
            process = membership.process
            if process is not None:
                fields["channel"] = process.number
            self._add("client_told", self._pid, fields)
        return news

    def end(self) -> None:
        """Record nothing more. A connection can live longer than a recorder, so drop the recorder here."""
        self._add = _ignore
        if self._owner is not None:
            self._owner.frame_in = _ignore

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)


class _RecordedOwner:
    """The owner of a session, which records the messages that the session passes to channels."""

    def __init__(self, owner: Any, pid: Pid, frame_in: _FrameIn) -> None:
        self._owner = owner
        self._pid = pid
        self.frame_in = frame_in

    def start_channel(self, membership: Membership, message: Message, size: int) -> None:
        self.frame_in(self._pid, message, size)
        self._owner.start_channel(membership, message, size)

    def deliver(self, membership: Membership, message: Message, size: int) -> None:
        self.frame_in(self._pid, message, size)
        self._owner.deliver(membership, message, size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._owner, name)


def _ignore(*_: object) -> None:
    pass


def _without(listeners: tuple[_L, ...], listener: _L) -> tuple[_L, ...]:
    return tuple(each for each in listeners if each is not listener)

"""Spans over connects, joins and pushes, and the context that a client gives."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from actors import InvalidOption
from channels import (
    Channel,
    ConnectInfo,
    ConnectRefused,
    Endpoint,
    JoinRefused,
    Mount,
    PushReply,
    Socket,
    handle_in,
)
from channels.errors import ChannelsError
from channels.operations.tracing import Tracing
from tests.channels.conftest import Serve
from tests.channels.polling import Poller
from tests.channels.support import UPGRADE, head, settle

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"
OTHER = f"00-{'1' * 32}-{'2' * 16}-01"


class Room(Channel):
    async def join(self, topic: str, payload: Any) -> None:
        if "refuse" in payload:
            raise JoinRefused({})

    @handle_in("work")
    async def work(self, payload: Any) -> PushReply:
        with trace.get_tracer("app", tracer_provider=PROVIDERS[-1]).start_as_current_span("query"):
            return PushReply({})

    @handle_in("crash")
    async def crash(self, payload: Any) -> None:
        raise LookupError("on purpose")


class UserSocket(Socket):
    channels = {"room:*": Room}

    async def connect(self, params: dict[str, Any], connect_info: ConnectInfo) -> None:
        if "refuse" in params:
            raise ConnectRefused
        if "crash" in params:
            raise LookupError("on purpose")


PROVIDERS: list[TracerProvider] = []


class Traced:
    """An endpoint with tracing, and the spans that have ended."""

    def __init__(self, **options: Any) -> None:
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        PROVIDERS[:] = [provider]
        plugs = [Tracing(tracer_provider=provider, **options)]
        self.endpoint = Endpoint(sockets={"/socket": Mount(UserSocket, longpoll=True)}, plugs=plugs)

    def spans(self) -> dict[str, ReadableSpan]:
        return {span.name: span for span in self._exporter.get_finished_spans()}

    def span(self, name: str) -> ReadableSpan:
        return self.spans()[name]


def trace_of(span: ReadableSpan) -> str:
    assert span.context is not None
    return format(span.context.trace_id, "032x")


def parent_of(span: ReadableSpan) -> int | None:
    return None if span.parent is None else span.parent.span_id


def id_of(span: ReadableSpan) -> int:
    assert span.context is not None
    return int(span.context.span_id)


async def test_connect_join_and_push_are_one_trace_with_that_of_the_client(serve: Serve) -> None:
    traced = Traced()
    server = await serve(traced.endpoint)
    client = await server.connect(query=f"&traceparent={PARENT}")
    await client.join("room:1")
    await client.exchange(("1", "2", "room:1", "work"))
    spans = traced.spans()
    assert list(spans) == ["UserSocket.connect", "Room.join", "query", "Room.handle_in"]
    assert {trace_of(span) for span in spans.values()} == {TRACE}
    connect = spans["UserSocket.connect"]
    assert parent_of(connect) == 0xB7AD6B7169203331
    assert parent_of(spans["Room.join"]) == parent_of(spans["Room.handle_in"]) == id_of(connect)
    assert parent_of(spans["query"]) == id_of(spans["Room.handle_in"])
    assert dict(spans["Room.handle_in"].attributes or {}) == {
        "ashtree.topic": "room:1",
        "ashtree.event": "work",
    }


async def test_the_header_of_the_handshake_wins_over_the_parameter(serve: Serve) -> None:
    traced = Traced()
    server = await serve(traced.endpoint)
    client = await server.accept()
    path = f"/socket/websocket?vsn=2.0.0&traceparent={OTHER}"
    client.write(head(path, f"{UPGRADE}traceparent: {PARENT}\r\n"))
    await settle()
    assert trace_of(traced.span("UserSocket.connect")) == TRACE


async def test_a_polling_client_has_a_trace_too(serve: Serve) -> None:
    traced = Traced()
    server = await serve(traced.endpoint)
    poller = await Poller(server, query=f"vsn=2.0.0&traceparent={PARENT}").open()
    await poller.join("room:1")
    assert {trace_of(span) for span in traced.spans().values()} == {TRACE}
    assert "Room.join" in traced.spans()


@pytest.mark.parametrize("context", ["", "&traceparent=nonsense", "&traceparent[]=a"])
async def test_without_a_valid_context_a_trace_begins(serve: Serve, context: str) -> None:
    traced = Traced()
    server = await serve(traced.endpoint)
    await server.connect(query=context)
    span = traced.span("UserSocket.connect")
    assert span.parent is None
    assert trace_of(span) != TRACE


async def test_an_untrusted_client_is_linked_and_not_followed(serve: Serve) -> None:
    traced = Traced(follow_clients=False)
    server = await serve(traced.endpoint)
    await server.connect(query=f"&traceparent={PARENT}")
    span = traced.span("UserSocket.connect")
    assert span.parent is None
    assert [format(link.context.trace_id, "032x") for link in span.links] == [TRACE]
    assert trace_of(span) != TRACE


async def test_each_push_can_have_a_trace_of_its_own(serve: Serve) -> None:
    traced = Traced(pushes="trace")
    server = await serve(traced.endpoint)
    client = await server.connect()
    await client.join("room:1")
    await client.exchange(("1", "2", "room:1", "work"))
    push, connect = traced.span("Room.handle_in"), traced.span("UserSocket.connect")
    assert push.parent is None
    assert [link.context.span_id for link in push.links] == [id_of(connect)]


async def test_a_crash_of_a_handler_is_recorded_in_its_span(serve: Serve) -> None:
    traced = Traced()
    server = await serve(traced.endpoint)
    client = await server.connect()
    await client.join("room:1")
    await client.exchange(("1", "2", "room:1", "crash"))
    span = traced.span("Room.handle_in")
    assert not span.status.is_ok
    assert [event.attributes and event.attributes["exception.type"] for event in span.events] == [
        "LookupError"
    ]


async def test_refusals_are_no_errors_but_a_crash_of_connect_is(serve: Serve) -> None:
    traced = Traced()
    server = await serve(traced.endpoint)
    for query, status, is_error in (("refuse", 403, False), ("crash", 500, True)):
        client = await server.accept()
        client.write(head(f"/socket/websocket?vsn=2.0.0&{query}=1"))
        await settle()
        span = traced.span("UserSocket.connect")
        assert (span.attributes or {})["http.response.status_code"] == status
        assert (span.status.status_code is trace.StatusCode.ERROR) == is_error
        assert bool(span.events) == is_error
    client = await server.connect()
    await client.exchange(("1", "1", "room:1", "phx_join", {"refuse": True}))
    assert (traced.span("Room.join").attributes or {})["ashtree.result"] == "error"


async def test_topics_and_events_of_clients_are_cut(serve: Serve) -> None:
    traced = Traced()
    server = await serve(traced.endpoint)
    client = await server.connect()
    await client.join(f"room:{'x' * 5000}")
    topic = (traced.span("Room.join").attributes or {})["ashtree.topic"]
    assert len(str(topic)) == 200


def test_an_invalid_option_is_refused() -> None:
    with pytest.raises(InvalidOption) as refused:
        Tracing(pushes="none")  # type: ignore[arg-type]
    assert refused.value.option == "pushes"


def test_a_missing_library_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    monkeypatch.delitem(sys.modules, "channels.operations.tracing")
    with pytest.raises(ChannelsError, match=r"pip install opentelemetry-api"):
        importlib.import_module("channels.operations.tracing")

"""OpenTelemetry spans over the connects, joins and pushes of clients.

    from channels.operations.tracing import Tracing

    endpoint = Endpoint(sockets={"/socket": UserSocket}, plugs=[Tracing()])

Needs the library opentelemetry-api, which the extra `tracing` installs. The application sets up the SDK and an exporter
as usual, before it serves. Without them, OpenTelemetry drops the spans.

Each span is the current span while the code of the application runs. So the spans of your database and HTTP libraries
become its children.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal, TypeVar

from actors.errors import InvalidOption
from actors.servers.results import Stop
from channels import telemetry as events
from channels.connect_info import ConnectInfo
from channels.errors import MissingLibrary
from channels.serving.plug import Plug
from channels.serving.services import Services
from channels.socket import Refusal, Socket

try:
    from opentelemetry import trace
    from opentelemetry.context import Context
    from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError as error:
    raise MissingLibrary("traces", "opentelemetry-api") from error

__all__ = ["Tracing"]

Result = TypeVar("Result")
_CARRIED = ("traceparent", "tracestate")
_propagator = TraceContextTextMapPropagator()
# The most bytes of a topic or an event in an attribute. The limit exists because the client chooses these texts.
_LONGEST = 200


class Tracing(Plug):
    """Spans for one endpoint, for `Endpoint(plugs=[Tracing()])`.

    Args:
        tracer_provider: the provider of OpenTelemetry; None takes the global one.
        follow_clients: True makes the trace context of a client the parent of its spans. False only links to it, so
            that clients control neither the trace nor its sampling.
        pushes: `"child"` makes the spans of pushes children of the client's context, so one trace has the whole
            connection. `"trace"` begins a trace for each push, with a link to the connect.

    The context comes from the headers `traceparent` and `tracestate` of the handshake, as W3C Trace Context defines
    them. Browsers cannot set headers of a WebSocket, so send these values as parameters of the socket:
    `new Socket("/socket", {params: {traceparent}})`. If both are present, the headers take precedence.

    Raises:
        InvalidOption: `pushes` is another value.

    The spans are `UserSocket.connect`, `RoomChannel.join` and `RoomChannel.handle_in`. Their attributes have the
    topic and the event, but never payloads or parameters. A crash is recorded with its traceback.
    """

    def __init__(
        self,
        *,
        tracer_provider: trace.TracerProvider | None = None,
        follow_clients: bool = True,
        pushes: Literal["child", "trace"] = "child",
    ) -> None:
        if pushes not in {"child", "trace"}:
            raise InvalidOption("Tracing", "pushes", pushes, '"child" or "trace"')
        self.tracer = self
        self.follow_clients = follow_clients
        self.pushes = pushes
        self.spans = trace.get_tracer("ashtree", tracer_provider=tracer_provider)

    def attach(self, services: Services) -> Callable[[], None]:
        """Record the exceptions of `connect`, which the server turns into an answer."""

        def failed(event: Any, measured: Any, about: Mapping[str, Any]) -> None:
            # The callback runs within its span, so this is the current span.
            if about["endpoint"] is services.endpoint:
                trace.get_current_span().record_exception(about["exception"])

        return services.runtime.telemetry.attach(events.SOCKET_CONNECT_FAILED, failed)

    async def connect(
        self,
        socket: type[Socket],
        params: Mapping[str, Any],
        info: ConnectInfo,
        transport: str,
        deciding: Awaitable[Result],
    ) -> tuple[Result, ClientTrace]:
        """Await the decision about a client within a span."""
        client = _context_of(params, info)
        parent, links = client, []
        if not self.follow_clients:
            parent, links = Context(), _links_to(trace.get_current_span(client))
        with self.spans.start_as_current_span(
            f"{socket.__name__}.connect",
            context=parent,
            kind=SpanKind.SERVER,
            links=links,
            attributes={"ashtree.transport": transport},
        ) as span:
            decision = await deciding
            if isinstance(decision, Refusal):
                span.set_attribute("http.response.status_code", decision.status)
                if decision.status >= 500:
                    span.set_status(Status(StatusCode.ERROR))
        return decision, ClientTrace(self, span)


class ClientTrace:
    """The trace of one client. Its parent is the span of the connect."""

    __slots__ = ("_connect", "_parent", "_tracing")

    def __init__(self, tracing: Tracing, connect: Span) -> None:
        self._tracing = tracing
        self._connect = connect
        self._parent = trace.set_span_in_context(connect, Context())

    async def join(self, channel: Any, joining: Awaitable[Result]) -> Result:
        """Await a join within a span."""
        with self._tracing.spans.start_as_current_span(
            f"{type(channel).__name__}.join",
            context=self._parent,
            kind=SpanKind.SERVER,
            attributes={"ashtree.topic": channel.topic[:_LONGEST]},
        ) as span:
            result = await joining
            span.set_attribute("ashtree.result", "error" if type(result) is Stop else "ok")
        return result

    async def handle_in(self, channel: Any, event: str, handling: Awaitable[Result]) -> Result:
        """Await the handler of a push within a span."""
        is_child = self._tracing.pushes == "child"
        with self._tracing.spans.start_as_current_span(
            f"{type(channel).__name__}.handle_in",
            context=self._parent if is_child else Context(),
            kind=SpanKind.SERVER,
            links=[] if is_child else _links_to(self._connect),
            attributes={
                "ashtree.topic": channel.topic[:_LONGEST],
                "ashtree.event": str(event)[:_LONGEST],
            },
        ):
            return await handling


def _context_of(params: Mapping[str, Any], info: ConnectInfo) -> Context:
    """Return the trace context of a request. The context is empty if the request has none, or a malformed one."""
    carrier = {name: params[name] for name in _CARRIED if isinstance(params.get(name), str)}
    carrier.update({name: value for name in _CARRIED if (value := info.header(name)) is not None})
    return _propagator.extract(carrier, context=Context())


def _links_to(span: Span) -> list[Link]:
    context = span.get_span_context()
    return [Link(context)] if context.is_valid else []

"""An endpoint as an ASGI application: the calls of servers, and the mounts of the endpoint in other applications.

The test plays the server: it passes its own `receive` and `send`, which may misbehave.
`tests/contracts/test_channels_over_transports.py` uses a real server.
"""

from __future__ import annotations

import contextvars
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import trio

from actors import Instrument, Pid, Runtime, kill
from channels import ConnectInfo, Endpoint, EndpointError, Mount, PeerData
from channels.transports.asgi_stream import AsgiStream, client_frame, path_of, split_frames
from channels.wire.websocket import WebSocketProtocol, close_frame, frame
from tests.channels.rooms import UserSocket
from tests.channels.support import Server, settle

PATH = "/socket/websocket"


class Call:
    """One call of an ASGI application. The test plays the server."""

    def __init__(self, app: Any, **scope: Any) -> None:
        self.scope = {
            "type": "websocket",
            "scheme": "ws",
            "path": PATH,
            "root_path": "",
            "query_string": b"vsn=2.0.0",
            "headers": [(b"Host", b"test")],
            "client": ("10.0.0.7", 4711),
            "subprotocols": [],
            "extensions": {"websocket.http.response": {}},
            **scope,
        }
        self.sent: list[dict[str, Any]] = []
        self.returned = False
        self.gate = trio.Event()
        self.gate.set()
        self._app = app
        self._put, self._take = trio.open_memory_channel[dict[str, Any]](100)
        self._scope = trio.CancelScope()

    def start(self, nursery: trio.Nursery) -> Call:
        def start() -> None:
            nursery.start_soon(self._run)

        # Without the runtime of this test, because the tasks of a web server have none.
        contextvars.Context().run(start)
        return self

    async def _run(self) -> None:
        with self._scope:
            await self._app(self.scope, self._take.receive, self._send)
        self.returned = True

    async def _send(self, message: dict[str, Any]) -> None:
        await self.gate.wait()
        self.sent.append(message)

    async def say(self, kind: str, **message: Any) -> list[dict[str, Any]]:
        """Send an event to the application, and return its answer."""
        self._put.send_nowait({"type": kind, **message})
        return await self.answers()

    async def message(self, *message: Any) -> list[Any]:
        """Send a message of the client, and take the answers."""
        sent = await self.say("websocket.receive", text=json.dumps(message))
        return [json.loads(each["text"]) for each in sent]

    async def answers(self) -> list[dict[str, Any]]:
        await settle()
        sent, self.sent = self.sent, []
        return sent

    def cancel(self) -> None:
        """Cancel the call, as a server does at its time limit."""
        self._scope.cancel()


@pytest.fixture
async def nursery() -> AsyncIterator[trio.Nursery]:
    async with trio.open_nursery() as opened:
        yield opened
        opened.cancel_scope.cancel()


@pytest.fixture
async def server(runtime: Runtime) -> Server:
    endpoint = Endpoint(sockets={"/socket": UserSocket})
    return Server(endpoint, runtime, await endpoint.start_link(port=None))


@pytest.fixture
def call(server: Server, nursery: trio.Nursery) -> Callable[..., Call]:
    return lambda **scope: Call(server.endpoint, **scope).start(nursery)


async def test_a_websocket_is_accepted_and_joins(call: Callable[..., Call]) -> None:
    here = call()
    assert await here.say("websocket.connect") == [
        {"type": "websocket.accept", "subprotocol": None}
    ]
    (answer,) = await here.message("1", "1", "room:a", "phx_join", {})
    assert answer[4] == {"status": "ok", "response": {}}
    assert not here.returned


async def test_no_answer_is_sent_before_the_connect_message(call: Callable[..., Call]) -> None:
    here = call()
    assert await here.answers() == []
    await here.say("websocket.disconnect", code=1006)
    assert here.returned


async def test_a_connection_killed_before_its_first_step_ends_the_asgi_call(
    server: Server, call: Callable[..., Call]
) -> None:
    class Killer(Instrument):
        def process_spawned(self, pid: Pid, parent: Pid, label: str) -> None:
            if label == "Connection":
                kill(pid)

    server.runtime.add_instrument(Killer())
    here = call()
    await here.say("websocket.connect")
    assert here.returned


@pytest.mark.parametrize(
    ("token", "status"), [("deny", 403), ("crash", 500)], ids=["refused", "crashed"]
)
async def test_a_refusal_is_an_http_response_if_the_server_supports_it(
    call: Callable[..., Call], token: str, status: int
) -> None:
    here = call(query_string=f"vsn=2.0.0&token={token}".encode())
    start, body = await here.say("websocket.connect")
    assert (start["type"], start["status"]) == ("websocket.http.response.start", status)
    assert body == {"type": "websocket.http.response.body", "body": b""}
    assert here.returned


async def test_a_refusal_is_a_close_if_the_server_has_no_response_extension(
    call: Callable[..., Call],
) -> None:
    here = call(query_string=b"vsn=2.0.0&token=deny", extensions=None)
    assert await here.say("websocket.connect") == [{"type": "websocket.close"}]
    assert here.returned


async def test_a_full_endpoint_answers_503(runtime: Runtime, nursery: trio.Nursery) -> None:
    endpoint = Endpoint(sockets={"/socket": UserSocket}, max_connections=1)
    await endpoint.start_link(port=None)
    one, two = Call(endpoint).start(nursery), Call(endpoint).start(nursery)
    assert (await one.say("websocket.connect"))[0]["type"] == "websocket.accept"
    assert (await two.say("websocket.connect"))[0]["status"] == 503
    assert two.returned
    assert endpoint.statistics()["counts"] == {("connection", "not_started"): 1}


async def test_connect_gets_the_facts_of_the_scope(runtime: Runtime, nursery: trio.Nursery) -> None:
    seen: list[Any] = []

    class Curious(UserSocket):
        async def connect(self, params: dict[str, Any], connect_info: ConnectInfo) -> None:
            seen.append((params, connect_info))
            self.assigns["user"] = None

    mount = Mount(Curious, subprotocols=["v1"], auth_token=True)
    endpoint = Endpoint(sockets={"/socket/:tenant": mount})
    await endpoint.start_link(port=None)
    headers = [
        (b"host", b"example.org"),
        (b"x-a", b"1"),
        (b"sec-websocket-protocol", b"phoenix, base64url.bearer.phx.c2VjcmV0"),
    ]
    path = "/live/socket/a b/websocket"
    here = Call(endpoint, path=path, root_path="/live", scheme="wss", headers=headers)
    (accept,) = await here.start(nursery).say("websocket.connect")
    assert accept["subprotocol"] == "phoenix"
    ((params, info),) = seen
    assert params == {"vsn": "2.0.0", "tenant": "a b"}
    assert info.peer_data == PeerData(address="10.0.0.7", port=4711)
    assert str(info.uri) == "https://example.org/socket/a%20b/websocket?vsn=2.0.0"
    assert (info.x_headers, info.auth_token) == ((("x-a", "1"),), "secret")


@pytest.mark.parametrize(
    ("scope", "path"),
    [
        ({"path": "/a", "root_path": ""}, "/a"),
        ({"path": "/live/a", "root_path": "/live"}, "/a"),
        ({"path": "/live/a", "root_path": "/live/"}, "/a"),
        ({"path": "/live", "root_path": "/live"}, "/"),
        ({"path": "/livery/a", "root_path": "/live"}, "/livery/a"),
        ({"path": "/a", "root_path": "/stripped/by/a/proxy"}, "/a"),
        ({"path": "/ä b/c", "root_path": "/ä b"}, "/c"),
        ({"path": "/x/y", "raw_path": b"/x%2Fy?q", "root_path": ""}, "/x%2Fy"),
        ({"path": ""}, "/"),
    ],
)
def test_the_path_is_relative_to_the_mount(scope: dict[str, Any], path: str) -> None:
    assert path_of(scope) == path


async def test_the_disconnect_of_the_client_ends_the_connection(
    server: Server, call: Callable[..., Call]
) -> None:
    for message in ({"code": 1006}, {"code": 1001, "reason": "going"}, {"code": 4000}, {}):
        here = call()
        await here.say("websocket.connect")
        await here.message("1", "1", "room:a", "phx_join", {})
        assert len(server.channels("room:a")) == 1
        assert await here.say("websocket.disconnect", **message) == [], "it would not be read"
        assert here.returned
        assert server.channels("room:a") == []
    assert server.endpoint.statistics()["counts"] == {}, "none of these is a broken frame"


async def test_a_cancelled_asgi_call_ends_the_connection(
    server: Server, call: Callable[..., Call]
) -> None:
    here = call()
    await here.say("websocket.connect")
    await here.message("1", "1", "room:a", "phx_join", {})
    here.cancel()
    await settle()
    assert here.returned
    assert server.channels("room:a") == []
    assert server.connections() == []


async def test_an_exception_of_the_server_ends_only_its_connection(
    server: Server, nursery: trio.Nursery
) -> None:
    crashes = server.crashes()
    here = Call(server.endpoint)

    async def broken(message: dict[str, Any]) -> None:
        if message["type"] != "websocket.accept":
            raise RuntimeError("the connection is closed, says the server in its own words")

    here._send = broken  # type: ignore[method-assign]  # a server of another kind
    here.start(nursery)
    await here.say("websocket.connect")
    await here.message("1", "1", "room:a", "phx_join", {})
    await settle()
    assert here.returned
    assert server.connections() == []
    assert crashes == []


async def test_a_client_that_reads_nothing_is_cut_off_after_five_seconds(
    runtime: Runtime, nursery: trio.Nursery
) -> None:
    endpoint = Endpoint(sockets={"/socket": UserSocket}, max_buffered_messages=5)
    server = Server(endpoint, runtime, await endpoint.start_link(port=None))
    here = Call(endpoint).start(nursery)
    await here.say("websocket.connect")
    await here.message("1", "1", "room:a", "phx_join", {})
    here.gate = trio.Event()
    for _ in range(10):
        endpoint.broadcast("room:a", "shouted", {})
        await settle()
    assert not here.returned
    await trio.sleep(5.1)
    assert here.returned
    assert server.connections() == []


async def test_anything_else_goes_to_the_http_side(
    call: Callable[..., Call],
) -> None:
    page = call(type="http", method="GET", path="/page")
    start, body = await page.answers()
    assert (start["status"], body["body"]) == (404, b"not found")
    websocket = call(path="/socket/elsewhere")
    assert (await websocket.say("websocket.connect"))[0]["status"] == 404
    upgrade = call(type="http", method="GET", path=PATH)
    assert (await upgrade.answers())[0]["status"] == 400


# Starting


async def test_an_endpoint_that_is_not_running_raises_with_a_correction() -> None:
    with pytest.raises(EndpointError, match="lifespan=endpoint"):
        await Endpoint(sockets={})({"type": "http", "path": "/"}, None, None)


async def test_an_endpoint_runs_with_the_lifespan_of_its_server(nursery: trio.Nursery) -> None:
    endpoint = Endpoint(sockets={"/socket": UserSocket})
    here = Call(endpoint, type="lifespan").start(nursery)
    assert await here.say("lifespan.startup") == [{"type": "lifespan.startup.complete"}]
    socket = Call(endpoint).start(nursery)
    assert (await socket.say("websocket.connect"))[0]["type"] == "websocket.accept"
    assert await here.say("lifespan.shutdown") == [{"type": "lifespan.shutdown.complete"}]
    (close,) = await socket.answers()
    assert (close["type"], close["code"]) == ("websocket.close", 1012)
    assert here.returned
    assert socket.returned
    with pytest.raises(EndpointError, match="is not running"):
        await endpoint({"type": "http", "path": "/"}, None, None)


async def test_drain_closes_clients_before_the_server_stops(
    server: Server, call: Callable[..., Call]
) -> None:
    here, late = call(), call()
    await here.say("websocket.connect")

    def drain() -> None:
        call_nursery.start_soon(server.endpoint.drain)

    async with trio.open_nursery() as call_nursery:
        contextvars.Context().run(drain)
    (close,) = await here.answers()
    assert (close["type"], close["code"]) == ("websocket.close", 1012)
    assert (await late.say("websocket.connect"))[0]["status"] == 503
    await server.endpoint.drain()
    await server.stop()
    with pytest.raises(EndpointError, match="cannot drain, because it is not running"):
        await server.endpoint.drain()


async def test_an_endpoint_that_cannot_start_reports_it_to_the_server(
    nursery: trio.Nursery,
) -> None:
    endpoint = Endpoint(sockets={"socket": UserSocket})
    (answer,) = await Call(endpoint, type="lifespan").start(nursery).say("lifespan.startup")
    assert answer["type"] == "lifespan.startup.failed"
    assert 'write "/socket"' in answer["message"]


async def test_an_endpoint_starts_only_once_at_a_time(server: Server) -> None:
    with pytest.raises(EndpointError, match="already running"):
        await server.endpoint.start_link(port=None)
    await server.stop()
    await server.endpoint.start_link(port=None)


async def test_it_can_be_mounted_and_listen_at_the_same_time(
    runtime: Runtime, nursery: trio.Nursery
) -> None:
    endpoint = Endpoint(sockets={"/socket": UserSocket})
    server = Server(endpoint, runtime, await endpoint.start_link(port=0))
    native = await server.connect()
    await native.join()
    mounted = Call(endpoint).start(nursery)
    await mounted.say("websocket.connect")
    await mounted.message("1", "1", "room:a", "phx_join", {})
    endpoint.broadcast("room:a", "shouted", {"to": "all"})
    shouted = [None, None, "room:a", "shouted", {"to": "all"}]
    assert [json.loads(each["text"]) for each in await mounted.answers()] == [shouted]
    assert native.frames() == [shouted]


# Frames


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536])
def test_client_frames_of_all_sizes_round_trip(size: int) -> None:
    data = b"x" * size
    assert WebSocketProtocol().receive(client_frame(0x81, data)) == [data]
    joined = frame(data) + close_frame(1001, "bye")
    assert list(split_frames(joined)) == [(0x81, data), (0x88, b"\x03\xe9bye")]


async def test_a_stream_can_be_read_in_pieces_and_not_after_its_end() -> None:
    async def receive() -> dict[str, Any]:
        await trio.lowlevel.checkpoint()
        return {"type": "websocket.receive", "text": None, "bytes": b"abc"}

    async def send(message: Any) -> None:
        raise AssertionError("nothing was to be sent")

    scope = {"type": "websocket", "path": "/", "headers": []}
    stream = AsgiStream(scope, receive, send, path="/")
    assert stream.peer is None
    await stream.wait_send_all_might_not_block()
    assert await stream.receive_some(4) + await stream.receive_some() == client_frame(0x82, b"abc")
    await stream.aclose()
    with pytest.raises(trio.ClosedResourceError):
        await stream.receive_some()


async def test_no_frames_are_sent_after_the_client_has_gone() -> None:
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        await trio.lowlevel.checkpoint()
        return {"type": "websocket.disconnect", "code": 1001, "reason": "going"}

    async def send(message: Any) -> None:
        await trio.lowlevel.checkpoint()
        sent.append(message)

    stream = AsgiStream({"type": "websocket", "path": "/", "headers": []}, receive, send, path="/")
    await stream.send_all(frame(b"before"))
    assert await stream.receive_some() == client_frame(0x88, b"\x03\xe9going")
    await stream.send_all(frame(b"after") + close_frame(1000))
    assert await stream.receive_some() == b"", "the end, as often as it is asked for"
    assert sent == [{"type": "websocket.send", "text": "before"}]


async def test_a_read_after_the_server_has_ended_the_stream_fails_as_a_lost_client_does() -> None:
    async def never() -> dict[str, Any]:
        raise AssertionError("nothing was to be read")

    async def send(message: Any) -> None:
        await trio.lowlevel.checkpoint()

    stream = AsgiStream({"type": "websocket", "path": "/", "headers": []}, never, send, path="/")
    stream.end()
    with pytest.raises(trio.BrokenResourceError):
        await stream.receive_some()


async def test_a_connection_ends_if_its_server_cancels_it_right_after_the_accept(
    runtime: Runtime, nursery: trio.Nursery
) -> None:
    endpoint = Endpoint(sockets={"/socket": UserSocket})
    await endpoint.start_link(port=None)
    cut = trio.CancelScope()
    sent: list[str] = []

    async def send(message: Any) -> None:
        sent.append(message["type"])
        cut.cancel()

    async def receive() -> dict[str, Any]:
        await trio.lowlevel.checkpoint()
        return {"type": "websocket.connect"}

    with cut:
        await endpoint(Call(endpoint).scope, receive, send)
    await settle()
    labels = [(runtime.process_info(each) or {}).get("label") for each in runtime.processes()]
    connections = [label for label in labels if label == "Connection"]
    assert (sent, connections) == (["websocket.accept"], [])

"""The internal port: what it serves, what leaves the public port, and its independence of drains and limits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import trio

from actors import InvalidOption, Runtime, kill, spawn, whereis
from actors.errors import StartError
from channels import Draining, Endpoint
from channels.endpoint.endpoint import EndpointError
from channels.endpoint.listening import CONNECTION, SamePort
from channels.observer import Observer
from channels.operations.health import Health
from channels.operations.metrics import Metrics
from supervision import DynamicSupervisor
from tests.channels.rooms import UserSocket
from tests.channels.support import UPGRADE, Client, Server, head, named, settle
from tests.channels.trees import child

SOCKETS = {"/socket": UserSocket}
PAGE = "/_ashtree/observer/"
PAGE_SOCKET = "/_ashtree/observer/socket/websocket?vsn=2.0.0"
PLAIN = "host: test\r\n"


class Both(Server):
    """A running endpoint with an internal port, and ways into both ports that need no network."""

    async def accept_internal(self) -> Client:
        client, services = Client(), self.endpoint._internal
        assert services is not None
        supervisor = (self.endpoint, "internal_connections")
        client.process = await DynamicSupervisor.start_child(
            supervisor, CONNECTION, services, client.stream
        )
        return client

    async def internal(self, path: str, headers: str = PLAIN) -> tuple[int, str]:
        return await self._answer(await self.accept_internal(), path, headers)

    async def public(self, path: str, headers: str = PLAIN) -> tuple[int, str]:
        return await self._answer(await self.accept(), path, headers)

    async def _answer(self, client: Client, path: str, headers: str) -> tuple[int, str]:
        client.write(head(path, headers))
        await settle()
        answer = client.answer()
        assert answer is not None
        client.end()
        return answer.status, (answer.body or b"").decode()


@pytest.fixture
def observer(tmp_path: Path) -> Observer:
    file = tmp_path / "phoenix.mjs"
    file.write_text("export class Socket {}")
    announced: list[str] = []
    made = Observer(phoenix_js=file, check=lambda headers: True, announce=announced.append)
    made.announced = announced  # type: ignore[attr-defined]
    return made


async def start(runtime: Runtime, endpoint: Endpoint, **options: Any) -> Both:
    pid = await endpoint.start_link(port=0, internal_port=0, **options)
    return Both(endpoint, runtime, pid)


async def test_only_the_internal_port_serves_metrics_and_the_observer(
    runtime: Runtime, observer: Observer
) -> None:
    plugs = [Health(), Metrics(token=None)]
    server = await start(runtime, Endpoint(sockets=SOCKETS, plugs=plugs, observer=observer))
    for path in ("/metrics", PAGE, f"{PAGE}page.js", "/_ashtree/observer"):
        assert await server.public(path) == (404, "not found")
    assert (await server.public(PAGE_SOCKET, UPGRADE))[0] == 404
    assert (await server.internal("/metrics"))[0] == 200
    assert (await server.internal(PAGE))[0] == 200
    # Without a ticket, the socket of the page refuses the client.
    assert (await server.internal(PAGE_SOCKET, UPGRADE))[0] == 403


async def test_without_an_internal_port_the_public_port_serves_everything(
    runtime: Runtime, observer: Observer
) -> None:
    endpoint = Endpoint(sockets=SOCKETS, plugs=[Metrics(token=None)], observer=observer)
    server = Both(endpoint, runtime, await endpoint.start_link(port=0))
    assert endpoint.internal_address is None
    assert (await server.public("/metrics"))[0] == 200
    assert (await server.public(PAGE))[0] == 200
    assert (await server.public(PAGE_SOCKET, UPGRADE))[0] == 403


async def test_both_ports_answer_probes_unless_the_plug_is_not_public(runtime: Runtime) -> None:
    server = await start(runtime, Endpoint(sockets=SOCKETS, plugs=[Health()]))
    hidden = await start(runtime, Endpoint(sockets=SOCKETS, plugs=[Health(public=False)]))
    for path in ("/health/live", "/health/ready"):
        assert (await server.public(path))[0] == 200
        assert (await server.internal(path))[0] == 200
        assert (await hidden.public(path))[0] == 404
        assert (await hidden.internal(path))[0] == 200


async def test_the_internal_port_serves_neither_sockets_nor_pages_of_the_application(
    runtime: Runtime,
) -> None:
    async def pages(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"a page"})

    server = await start(runtime, Endpoint(sockets=SOCKETS, http=pages))
    upgrade = "/socket/websocket?vsn=2.0.0"
    assert "a page" in (await server.public("/"))[1]
    assert (await server.public(upgrade, UPGRADE))[0] == 101
    assert await server.internal("/") == (404, "not found")
    assert (await server.internal(upgrade, UPGRADE))[0] == 404


async def test_a_page_of_another_origin_gets_neither_the_socket_nor_a_ticket(
    runtime: Runtime, observer: Observer
) -> None:
    server = await start(runtime, Endpoint(sockets=SOCKETS, observer=observer))
    refused = server.listen(("phoenix", "socket_origin_refused"))
    foreign = UPGRADE + "origin: https://evil.example\r\n"
    assert (await server.internal(PAGE_SOCKET, foreign))[0] == 403
    assert len(refused) == 1
    client = await server.accept_internal()
    client.write(
        b"POST /_ashtree/observer/ticket HTTP/1.1\r\nhost: test\r\norigin: https://evil.example\r\n"
        b"content-length: 0\r\n\r\n"
    )
    await settle()
    answer = client.answer()
    assert answer is not None
    assert answer.status == 403


async def test_a_drain_can_be_watched_on_the_internal_port(
    runtime: Runtime, observer: Observer
) -> None:
    plugs = [Health(), Metrics(token=None)]
    draining = Draining(notice=5.0)
    endpoint = Endpoint(sockets=SOCKETS, plugs=plugs, observer=observer, draining=draining)
    server = await start(runtime, endpoint)
    # This client does not answer the close frame, so the drain takes five seconds.
    await server.connect()
    spawn(server.stop)

    async def figures() -> tuple[int, int, int, bool]:
        text = (await server.internal("/metrics"))[1]
        return (
            (await server.internal("/health/live"))[0],
            (await server.internal("/health/ready"))[0],
            (await server.internal(PAGE))[0],
            "ashtree_draining 1.0" in text,
        )

    await trio.sleep(1.0)
    assert await figures() == (200, 503, 200, True)
    assert (await server.public("/socket/websocket?vsn=2.0.0", UPGRADE))[0] == 101
    await trio.sleep(5.0)
    assert await figures() == (200, 503, 200, True)
    assert (await server.public("/"))[0] == 503
    await trio.sleep(10.0)
    assert endpoint.internal_address is None
    assert whereis((endpoint, "internal_connections")) is None


async def test_the_internal_port_answers_while_the_application_starts(runtime: Runtime) -> None:
    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await trio.sleep(30.0)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})

    endpoint = Endpoint(sockets=SOCKETS, http=slow, plugs=[Health(), Metrics(token=None)])
    answers: list[tuple[str, int, Any]] = []

    async def probe() -> None:
        await trio.sleep(10.0)
        for path in ("/health/live", "/health/ready", "/health/workers", "/metrics"):
            client = Client()
            supervisor = (endpoint, "internal_connections")
            await DynamicSupervisor.start_child(supervisor, CONNECTION, internal[0], client.stream)
            client.write(head(path, PLAIN))
            await settle()
            answer = client.answer()
            assert answer is not None
            is_probe = path.startswith("/health")
            answers.append((path, answer.status, json.loads(answer.body) if is_probe else None))
            client.end()

    internal: list[Any] = []
    make = endpoint._internal_services
    endpoint._internal_services = lambda *args: internal.append(make(*args)) or internal[0]  # type: ignore[method-assign, func-returns-value]
    spawn(probe)
    server = await start(runtime, endpoint)
    assert answers == [
        ("/health/live", 200, {"status": "live"}),
        ("/health/ready", 503, {"status": "starting"}),
        ("/health/workers", 503, {"status": "starting"}),
        ("/metrics", 200, None),
    ]
    assert await server.internal("/health/ready") == (200, '{"status":"ready"}')


async def test_the_internal_port_finishes_its_answers_when_the_endpoint_stops(
    runtime: Runtime,
) -> None:
    began = trio.Event()

    async def slow() -> None:
        began.set()
        await trio.sleep(0.5)

    endpoint = Endpoint(sockets=SOCKETS, plugs=[Health(checks={"slow": slow})])
    server = await start(runtime, endpoint)
    idle, asking = await server.accept_internal(), await server.accept_internal()
    idle.write(head("/health/live", PLAIN))
    asking.write(head("/health/ready", PLAIN))
    await began.wait()
    spawn(server.stop)
    await settle()
    assert idle.is_closed
    assert not asking.is_closed
    await trio.sleep(0.5)
    await settle()
    answer = asking.answer()
    assert answer is not None
    assert answer.status == 200
    assert asking.is_closed


async def test_the_observer_announces_the_address_of_its_page(
    runtime: Runtime, observer: Observer
) -> None:
    server = await start(runtime, Endpoint(sockets=SOCKETS, observer=observer))
    address = server.endpoint.internal_address
    assert address is not None
    assert address != server.endpoint.address
    (line,) = observer.announced  # type: ignore[attr-defined]
    assert line == f"The observer page is at http://127.0.0.1:{address[1]}/_ashtree/observer"


async def test_a_restarted_listener_and_a_restarted_endpoint_keep_the_internal_port(
    runtime: Runtime,
) -> None:
    endpoint = Endpoint(sockets=SOCKETS, plugs=[Health()])
    restart = SamePort(endpoint)
    server = Both(endpoint, runtime, await restart(port=0, internal_port=0))
    first = endpoint.internal_address
    assert first is not None
    kill(await child(server.pid, "internal_listener"))
    await settle()
    assert endpoint.internal_address == first
    kill(named((endpoint, "internal_connections")))
    await settle()
    assert (await server.internal("/health/live"))[0] == 200
    await server.stop()
    await restart(port=0, internal_port=0)
    assert endpoint.internal_address == first


async def test_an_endpoint_that_stops_accepting_closes_both_listeners(runtime: Runtime) -> None:
    server = await start(runtime, Endpoint(sockets=SOCKETS))
    address = server.endpoint.internal_address
    assert address is not None
    await server.endpoint.stop_accepting()
    with pytest.raises(OSError, match="failed"):
        await trio.open_tcp_stream(*address)


async def test_equal_ports_and_a_port_in_use_are_refused(runtime: Runtime) -> None:
    with pytest.raises(EndpointError) as caught:
        await Endpoint(sockets={}).start_link(port=4000, internal_port=4000)
    assert str(caught.value) == (
        "the public port and the internal port are both 4000; write two different ports"
    )
    server = await start(runtime, Endpoint(sockets={}))
    taken = server.endpoint.internal_address
    assert taken is not None
    with pytest.raises(StartError, match=f"cannot listen on 127.0.0.1:{taken[1]}: the port is in"):
        await Endpoint(sockets={}).start_link(port=0, internal_port=taken[1])


def test_the_limit_of_the_internal_port_is_checked() -> None:
    with pytest.raises(InvalidOption, match="max_internal_connections"):
        Endpoint(sockets={}, max_internal_connections=0).check()

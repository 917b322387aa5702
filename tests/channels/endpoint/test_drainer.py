"""Draining: clients are sent elsewhere in batches, new ones are turned away, and it ends in time."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import pytest
import trio

from actors import InvalidOption, Shutdown, is_alive, kill, spawn
from channels import Draining, Endpoint
from channels.endpoint.listening import CONNECTION
from channels.telemetry import ENDPOINT_DRAIN
from channels.transports.out_buffer import Flusher
from channels.transports.poller import Poller
from supervision import DynamicSupervisor, Supervisor
from tests.channels.conftest import Serve
from tests.channels.rooms import UserSocket
from tests.channels.support import (
    EOF,
    Client,
    Close,
    Reader,
    Server,
    head,
    named,
    reason_of,
    reply,
    settle,
    text,
)
from tests.channels.transports.sockets import local_pair
from tests.channels.trees import child

ENDPOINT = {"/socket": UserSocket}


class Stopping:
    """An endpoint that is being stopped, and the time at which it had stopped."""

    def __init__(self, server: Server) -> None:
        self.began = trio.current_time()
        self.took: float | None = None
        self._server = server
        spawn(self._stop)

    async def _stop(self) -> None:
        await self._server.stop()
        self.took = trio.current_time() - self.began


def answers(client: Client) -> None:
    """Act as a client that the server has closed."""
    client.end()


async def test_every_connection_is_closed_with_1012_whatever_it_has_joined(serve: Serve) -> None:
    server = await serve(Endpoint(sockets=ENDPOINT))
    one, other = await server.connect(), await server.connect()
    await one.join(payload={"farewell": True})
    reasons = await reason_of(server.channel("room:a"))
    stopping = Stopping(server)
    await settle()
    assert one.frames() == other.frames() == [Close(1012), EOF]
    assert reasons == [Shutdown("draining")]
    assert stopping.took is None
    answers(one)
    answers(other)
    await settle()
    assert stopping.took == 0.0


async def test_an_endpoint_without_connections_stops_at_once(serve: Serve) -> None:
    server = await serve(Endpoint(sockets=ENDPOINT))
    drained = server.listen(ENDPOINT_DRAIN)
    stopping = Stopping(server)
    await settle()
    assert stopping.took == 0.0
    assert drained == []


async def test_clients_are_closed_in_batches_and_each_batch_is_an_event(serve: Serve) -> None:
    draining = Draining(batch_size=2, batch_interval=3.0)
    server = await serve(Endpoint(sockets=ENDPOINT, draining=draining))
    drained = server.listen(ENDPOINT_DRAIN)
    clients = [await server.connect() for _ in range(5)]
    Stopping(server)
    told: list[int] = []
    for _ in range(3):
        await settle()
        closed = [client for client in clients if Close(1012) in client.frames()]
        told.append(len(closed))
        for client in closed:
            answers(client)
        await trio.sleep(3.0)
    assert told == [2, 2, 1]
    assert [measured["count"] for measured, _ in drained] == [2, 2, 1]
    assert [(m["index"], m["rounds"], m["total"]) for m, _ in drained] == [
        (1, 3, 5),
        (2, 3, 5),
        (3, 3, 5),
    ]
    assert all(about == {"endpoint": server.endpoint, "interval": 3.0} for _, about in drained)
    assert not is_alive(server.pid)


async def test_a_drain_counts_clients_and_not_the_connections_of_pages(serve: Serve) -> None:
    server = await serve(Endpoint(sockets=ENDPOINT))
    drained = server.listen(ENDPOINT_DRAIN)
    tabs = [await server.connect() for _ in range(3)]
    pages = [await server.accept() for _ in range(3)]
    for page in pages:
        page.write(head("/", "host: test\r\n"))
    await settle()
    answering = server.services.admission.answering
    assert len(answering) == 3
    Stopping(server)
    await settle()
    assert [(measured["count"], measured["total"]) for measured, _ in drained] == [(3, 3)]
    for tab in tabs:
        assert tab.frames() == [Close(1012), EOF]
        answers(tab)
    await settle()
    assert not is_alive(server.pid)
    for page in pages:
        answer = page.answer()
        assert answer is not None
        assert answer.status == 404
    assert answering == {}


async def test_a_client_that_connects_while_the_drain_begins_is_closed_too(serve: Serve) -> None:
    class SlowSocket(UserSocket):
        async def connect(self, params: Any, connect_info: Any) -> None:
            await trio.sleep(1.0)
            await super().connect(params, connect_info)

    server = await serve(Endpoint(sockets={"/socket": SlowSocket}))
    client = await server.accept()
    client.write(head("/socket/websocket?vsn=2.0.0"))
    await trio.sleep(0.5)
    stopping = Stopping(server)
    await trio.sleep(0.6)
    answer = client.answer()
    assert answer is not None
    assert answer.status == 101
    assert client.frames() == [Close(1012), EOF]
    answers(client)
    await settle()
    assert stopping.took is not None


async def test_while_it_drains_requests_on_new_connections_get_503(serve: Serve) -> None:
    server = await serve(Endpoint(sockets=ENDPOINT))
    stubborn = await server.connect()
    stopping = Stopping(server)
    await settle()
    assert stubborn.frames() == [Close(1012), EOF]
    for data in (head(), head("/", "host: test\r\n")):
        client = await server.accept()
        client.write(data)
        await settle()
        answer = client.answer()
        assert answer is not None
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert client.frames() == [EOF]
    assert stopping.took is None


async def test_a_client_that_does_not_react_is_cut_off_after_five_seconds(serve: Serve) -> None:
    server = await serve(Endpoint(sockets=ENDPOINT))
    await (await server.connect()).join()
    stopping = Stopping(server)
    await trio.sleep(4.9)
    assert stopping.took is None
    await trio.sleep(0.2)
    assert stopping.took == 5.0


async def test_a_client_without_a_request_does_not_delay_the_drain(serve: Serve) -> None:
    server = await serve(Endpoint(sockets=ENDPOINT))
    silent = await server.accept()
    await settle()
    stopping = Stopping(server)
    await settle()
    assert stopping.took == 0.0
    assert silent.frames() == [EOF]
    assert server.endpoint.statistics()["counts"] == {}


async def test_a_client_that_has_sent_a_part_of_its_request_is_answered_503(serve: Serve) -> None:
    server = await serve(Endpoint(sockets=ENDPOINT))
    client = await server.accept()
    client.write(head()[:20])
    await settle()
    stopping = Stopping(server)
    await settle()
    answer = client.answer()
    assert answer is not None
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert stopping.took == 0.0


async def test_a_silent_client_that_connects_during_the_drain_delays_it_for_one_second(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await serve(Endpoint(sockets=ENDPOINT))
    silent = Client()
    drain = server.services.http.drain

    async def drain_while_somebody_comes() -> None:
        await drain()
        await server.accept(silent)

    monkeypatch.setattr(server.services.http, "drain", drain_while_somebody_comes)
    stopping = Stopping(server)
    await trio.sleep(1.5)
    assert stopping.took == 1.0
    assert silent.frames() == [EOF]


async def test_a_client_that_connects_at_the_end_of_the_drain_gets_503(
    serve: Serve,
) -> None:
    server = await serve(Endpoint(sockets=ENDPOINT))
    await server.connect()  # does not react, so the drain takes five seconds
    stopping = Stopping(server)
    await trio.sleep(4.9)
    late, silent = await server.accept(), await server.accept()
    await trio.sleep(0.2)
    late.write(head())
    await settle()
    answer = late.answer()
    assert answer is not None
    assert answer.status == 503
    await trio.sleep(2.0)
    assert silent.frames() == [EOF]
    assert stopping.took == pytest.approx(5.9)


async def test_an_idle_http_connection_does_not_delay_the_drain_and_a_busy_one_is_served(
    serve: Serve,
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        await trio.sleep(2.0)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})

    server = await serve(Endpoint(sockets=ENDPOINT, http=app))
    idle, busy = await server.accept(), await server.accept()
    idle.write(head("/", "host: test\r\n"))
    await trio.sleep(3.0)
    answer = idle.answer()
    assert answer is not None
    busy.write(head("/", "host: test\r\n"))
    await settle()
    stopping = Stopping(server)
    await settle()
    assert idle.frames() == [EOF]
    assert stopping.took is None
    await trio.sleep(3.0)
    answer = busy.answer()
    assert answer is not None
    assert answer.status == 200
    assert stopping.took == 2.0


async def test_the_timeout_bounds_the_drain(serve: Serve) -> None:
    draining = Draining(batch_size=1, batch_interval=100.0, timeout=3.0)
    server = await serve(Endpoint(sockets=ENDPOINT, draining=draining))
    first, second = await server.connect(), await server.connect()
    await second.join()
    stopping = Stopping(server)
    await trio.sleep(2.9)
    told = [Close(1012) in client.frames() for client in (first, second)]
    assert sorted(told) == [False, True]
    assert stopping.took is None
    await trio.sleep(0.2)
    assert stopping.took == 3.0
    assert first.is_closed
    assert second.is_closed
    assert server.runtime.processes() == []


async def test_a_slow_connect_is_drained_after_it_has_become_a_socket(serve: Serve) -> None:
    class Slow(UserSocket):
        async def connect(self, params: dict[str, Any], connect_info: Any) -> None:
            await super().connect(params, connect_info)
            await trio.sleep(2.0)

    server = await serve(Endpoint(sockets={"/socket": Slow}))
    client = await server.accept()
    client.write(head())
    await settle()
    stopping = Stopping(server)
    await trio.sleep(3.0)
    answer = client.answer()
    assert answer is not None
    assert answer.status == 101
    assert client.frames() == [Close(1012), EOF]
    answers(client)
    await settle()
    assert stopping.took == 2.0 + 1.0


async def test_a_drainer_that_is_killed_has_not_drained(serve: Serve) -> None:
    server = await serve(Endpoint(sockets=ENDPOINT))
    client = await server.connect()
    kill(await child(server.pid, "drainer"))
    await settle()
    assert client.frames() == []
    await server.connect()
    Stopping(server)
    await settle()
    assert client.frames() == [Close(1012), EOF]


async def test_a_drain_without_the_supervisor_of_connections_does_nothing(serve: Serve) -> None:
    server = await serve(Endpoint(sockets=ENDPOINT))
    crashes = server.crashes()
    await Supervisor.terminate_child(server.pid, "connections")
    with pytest.raises(AssertionError):
        named((server.endpoint, "connections"))
    stopping = Stopping(server)
    await settle()
    assert stopping.took == 0.0
    assert crashes == []


@pytest.mark.parametrize(
    "options", [{"batch_size": 0}, {"batch_size": 1.5}, {"batch_interval": 0}, {"timeout": -1}]
)
def test_invalid_numbers_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidOption) as refused:
        Draining(**options)
    assert refused.value.option in options


class SocketClient:
    """A client on a plain socket, which the flusher writes and the poller reads."""

    def __init__(self, stack: ExitStack) -> None:
        self._theirs, self._ours = stack.enter_context(local_pair())
        self._reader = Reader()

    async def join(self, server: Server) -> None:
        await DynamicSupervisor.start_child(
            (server.endpoint, "connections"), CONNECTION, server.services, self._theirs
        )
        self._ours.send(head("/socket/websocket?vsn=2.0.0"))
        await settle()
        assert b" 101 " in self._ours.recv(65536)
        self._ours.send(text("1", "1", "room:a", "phx_join", {}))
        await settle()
        assert self.frames() == [reply("1", "1", "room:a")]

    def frames(self) -> list[Any]:
        """The frames that have arrived since the last call."""
        try:
            while data := self._ours.recv(65536):
                self._reader.feed(data)
            self._reader.ended = True
        except BlockingIOError:
            pass
        return self._reader.frames()

    def leave(self) -> None:
        self._ours.close()


@pytest.mark.parametrize("loop", ["flusher", "poller"])
async def test_an_endpoint_whose_loop_dies_too_often_still_closes_its_clients_at_once(
    serve: Serve, loop: str
) -> None:
    with ExitStack() as stack:
        server = await serve(Endpoint(sockets=ENDPOINT))
        clients = [SocketClient(stack) for _ in range(2)]
        for client in clients:
            await client.join(server)
        began = trio.current_time()
        for number in range(4):
            kill(await child(server.pid, loop))
            # The flusher is dead now, so the endpoint must write this later.
            server.endpoint.broadcast("room:a", "new", {"n": number})
            await settle()
        news = [[None, None, "room:a", "new", {"n": number}] for number in range(4)]
        for client in clients:
            assert client.frames() == [*news, Close(1012), EOF]
            client.leave()
        await settle()
        assert not is_alive(server.pid)
        assert trio.current_time() == began


@pytest.mark.parametrize("kind", [Flusher, Poller])
async def test_a_loop_that_fails_in_the_drainer_runs_again_and_does_not_end_the_drain(
    serve: Serve,
    kind: type[Flusher | Poller],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    run = kind.main
    left: list[int] = []

    async def failing(loop: Any) -> None:
        if left and not getattr(loop, "is_quiet", False):
            left.pop()
            await trio.lowlevel.checkpoint()
            raise ValueError("a bug")
        await run(loop)

    monkeypatch.setattr(kind, "main", failing)
    with ExitStack() as stack:
        server = await serve(Endpoint(sockets=ENDPOINT, draining=Draining(notice=3.0)))
        clients = [SocketClient(stack) for _ in range(2)]
        for client in clients:
            await client.join(server)
        began = trio.current_time()
        # The supervisor gives up after four ends of the loop. The first is the kill.
        left += range(3 + 2)
        name = kind.__name__.lower()
        kill(await child(server.pid, name))
        await trio.sleep(2.9)
        assert [client.frames() for client in clients] == [[], []]
        await trio.sleep(0.2)
        for client in clients:
            assert client.frames() == [Close(1012), EOF]
            client.leave()
        await settle()
        assert not is_alive(server.pid)
        assert trio.current_time() - began < 4
    lines = [each.getMessage() for each in caplog.records if each.name == "channels.endpoint"]
    problem = f"the {name} failed while the endpoint drains; running it again in 1 s"
    assert lines == [problem, problem]


async def test_a_poller_that_always_fails_does_not_end_the_drain(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Poller.main
    fails = False

    async def failing(poller: Poller) -> None:
        if fails and not poller.is_quiet:
            raise ValueError("a bug")
        await run(poller)

    monkeypatch.setattr(Poller, "main", failing)
    with ExitStack() as stack:
        server = await serve(Endpoint(sockets=ENDPOINT))
        client = SocketClient(stack)
        await client.join(server)
        fails = True
        kill(await child(server.pid, "poller"))
        await settle()
        assert client.frames() == [Close(1012), EOF]
        assert is_alive(server.pid)
        # Nobody reads the sockets, so only the close grace ends the connections.
        await trio.sleep(5.5)
        assert not is_alive(server.pid)

"""The client on real sockets: a server that is killed and comes back, both transports, TLS, and the blocking form."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme

from actors import open_runtime
from actors.errors import InvalidOption
from channels import Binary, Endpoint, Mount
from channels.client import (
    ChannelClosed,
    NotConnected,
    PushTimeout,
    Refused,
    Rejoined,
    blocking,
    open_socket,
)
from examples.conformance import UserSocket
from tests.integration.servers import Server, serving
from tests.patience import PATIENCE, until

TRANSPORTS = ("websocket", "longpoll")
both = pytest.mark.parametrize("transport", TRANSPORTS)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server for one test alone, which may kill it."""
    with serving("examples.conformance", tmp_path) as server:
        yield server


@both
async def test_a_killed_server_is_found_again_and_nothing_that_waits_is_lost(
    server: Server, transport: Any
) -> None:
    with trio.fail_after(PATIENCE):
        async with (
            open_socket(server.socket_url, transport=transport, timeout=PATIENCE) as socket,
            socket.channel("room:lobby") as channel,
        ):
            assert await channel.push("echo", {"n": 1}) == {"n": 1}
            server.kill()
            await until(lambda: channel.state == "errored")
            pushes = [channel.push_nowait("echo", {"n": n}) for n in range(10)]
            server.start()
            assert [await push.wait() for push in pushes] == [{"n": n} for n in range(10)]
            assert socket.statistics().connections == 2


async def test_a_stopping_server_closes_its_clients_and_they_come_back(server: Server) -> None:
    with trio.fail_after(PATIENCE):
        async with (
            open_socket(server.socket_url) as socket,
            socket.channel("room:lobby") as channel,
        ):
            with socket.events() as events:
                await trio.to_thread.run_sync(server.stop)
                server.start()
                async for event in events:
                    if isinstance(event, Rejoined):
                        break
            assert await channel.push("ping") == {}


@both
async def test_two_clients_hear_each_other(conformance: Server, transport: Any) -> None:
    with trio.fail_after(PATIENCE):
        async with (
            open_socket(conformance.socket_url, transport=transport) as one,
            open_socket(conformance.socket_url) as other,
            one.channel("room:both") as first,
            other.channel("room:both") as second,
        ):
            second.push_nowait("new_msg", {"body": "žluťoučký kůň"})
            message = await anext(aiter(first))
            assert (message.event, message.payload) == ("new_msg", {"body": "žluťoučký kůň"})
            assert await first.push("bytes", Binary(b"\x00\xff")) == {"bytes": [0, 255]}


@pytest.mark.parametrize("event", ["boom", "throw", "exit", "bad_return", "stop_reason"])
async def test_a_channel_that_crashes_is_joined_again(conformance: Server, event: str) -> None:
    with trio.fail_after(PATIENCE):
        async with (
            open_socket(conformance.socket_url) as socket,
            socket.channel(f"room:{event}") as channel,
        ):
            channel.push_nowait(event)
            await until(lambda: channel.state == "errored")
            await channel.wait_joined()
            assert await channel.push("ping") == {}


@pytest.mark.parametrize("event", ["stop", "stop_shutdown", "stop_left", "stop_reply"])
async def test_a_channel_that_stops_in_good_order_is_over(conformance: Server, event: str) -> None:
    with trio.fail_after(PATIENCE):
        async with (
            open_socket(conformance.socket_url) as socket,
            socket.channel(f"room:{event}") as channel,
        ):
            push = channel.push_nowait(event)
            assert [message async for message in channel] == []
            assert channel.state == "closed"
            if event == "stop_reply":
                assert await push.wait() == {"bye": True}
            else:
                with pytest.raises(ChannelClosed, match="the server closed it"):
                    await push.wait()


async def test_refusals_are_told_apart_from_servers_that_are_not_there(conformance: Server) -> None:
    with pytest.raises(NotConnected) as caught:
        async with open_socket(conformance.socket_url, params={"token": "deny"}):
            pass
    assert caught.value.status == 403
    with pytest.raises(NotConnected) as caught:
        async with open_socket(f"{conformance.url}/nowhere"):
            pass
    assert caught.value.status == 404
    with pytest.raises(NotConnected) as caught:
        async with open_socket("ws://127.0.0.1:1/socket", connect_timeout=0.1):
            pass
    assert caught.value.status is None
    with pytest.raises(NotConnected, match="does not speak TLS; write ws://"):
        async with open_socket(conformance.socket_url.replace("ws:", "wss:"), connect_timeout=1):
            pass


@pytest.mark.parametrize("scheme", ["wss", "https"])
@both
async def test_the_client_speaks_tls_and_checks_the_certificate(
    scheme: str, transport: Any
) -> None:
    authority = trustme.CA()
    ours, theirs = ssl.create_default_context(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(theirs)
    authority.configure_trust(ours)
    endpoint = Endpoint(sockets={"/socket": Mount(UserSocket, longpoll=True)})
    with trio.fail_after(PATIENCE):
        async with open_runtime(log=False):
            await endpoint.start_link(host="localhost", port=0, ssl_context=theirs)
            url = f"{scheme}://localhost:{endpoint.address[1]}/socket"
            async with (
                open_socket(url, ssl_context=ours, transport=transport) as socket,
                socket.channel("room:lobby") as channel,
            ):
                assert await channel.push("echo", {"n": 1}) == {"n": 1}
            with pytest.raises(
                NotConnected, match=r"certificate is not valid.*pass an ssl_context"
            ):
                async with open_socket(url, transport=transport, connect_timeout=1):
                    pass


# The blocking form


@both
def test_the_blocking_form_pushes_and_reads(conformance: Server, transport: Any) -> None:
    with blocking.open_socket(conformance.socket_url, transport=transport) as socket:
        assert socket.state == "open"
        with socket.channel("room:withreply", {"user": "ann"}) as channel:
            assert channel.response == {"hello": "world", "params": {"user": "ann"}}
            assert channel.push("echo", {"n": 1}) == {"n": 1}
            push = channel.push_nowait("echo", {"n": 2})
            assert push.wait() == {"n": 2}
            assert push.status == "ok"
            with channel.on("pushed") as pushed:
                channel.push_nowait("push", {"n": 3})
                assert pushed.get(PATIENCE) == {"n": 3}
            message = next(iter(channel))
            assert (message.event, message.payload) == ("pushed", {"n": 3})
            assert socket.statistics().joined == 1
        if transport == "websocket":
            assert socket.ping() > 0


def test_the_blocking_form_raises_the_same_errors(conformance: Server) -> None:
    with blocking.open_socket(conformance.socket_url) as socket:
        with pytest.raises(Refused), socket.channel("room:deny"):
            pass
        with socket.channel("room:errors") as channel:
            with pytest.raises(Refused) as caught:
                channel.push("fail", {"why": "asked"})
            assert caught.value.payload == {"why": "asked"}
            with pytest.raises(PushTimeout):
                channel.push("new_msg", {}, timeout=0.05)
        with pytest.raises(ChannelClosed):
            channel.push("ping")
    with (
        pytest.raises(NotConnected),
        blocking.open_socket(conformance.socket_url, params={"token": "deny"}),
    ):
        pass
    socket = blocking.open_socket(conformance.socket_url)
    with pytest.raises(RuntimeError, match="with open_socket"):
        socket.channel("room:a")
    with socket:
        channel = socket.channel("room:a")
        assert repr(channel) == "<blocking channel 'room:a' closed>"
    for use in (socket.ping, socket.statistics, lambda: socket.channel("room:b")):
        with pytest.raises(NotConnected, match="the socket has ended; open another one"):
            use()
    with pytest.raises(RuntimeError, match="call open_socket again"), socket:
        pass
    with pytest.raises(InvalidOption) as refused:
        blocking.open_socket("here")
    assert refused.value.option == "url"


def test_the_blocking_form_comes_back(server: Server) -> None:
    with (
        blocking.open_socket(server.socket_url, timeout=PATIENCE) as socket,
        socket.events() as events,
        socket.channel("room:lobby") as channel,
    ):
        server.kill()
        server.start()
        assert any(isinstance(event, Rejoined) for event in events)
        assert channel.push("echo", {"n": 1}) == {"n": 1}


def test_several_threads_share_a_blocking_socket(conformance: Server) -> None:
    answers: dict[int, Any] = {}
    with (
        blocking.open_socket(conformance.socket_url) as socket,
        socket.channel("room:threads") as channel,
    ):

        def push(number: int) -> None:
            answers[number] = channel.push("echo", {"n": number}, timeout=PATIENCE)

        threads = [threading.Thread(target=push, args=(n,)) for n in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
    assert answers == {n: {"n": n} for n in range(20)}


def test_the_end_of_a_blocking_block_ends_its_thread_and_its_iterations(
    conformance: Server,
) -> None:
    before = threading.active_count()
    got: list[Any] = []
    with blocking.open_socket(conformance.socket_url) as socket:
        with socket.channel("room:end") as channel:
            messages = iter(channel)
            reader = threading.Thread(target=lambda: got.extend(messages))
            reader.start()
        reader.join(PATIENCE)
        assert not reader.is_alive()
    assert threading.active_count() == before
    assert got == []
    assert list(messages) == []

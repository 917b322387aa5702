"""The listening sockets of places: one port for all, and no second server on it by mistake."""

from __future__ import annotations

import os
import socket

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from channels import ChannelsError
from channels.pubsub.workers.places import PlaceSockets, check_platform, open_places
from channels.transports.listener import Listener, ListenError
from tests.patience import until

REAL_CLOCK = True


def close(places: list[list[socket.socket]]) -> None:
    for sockets in places:
        for sock in sockets:
            sock.close()


async def test_all_places_listen_on_one_port_with_sockets_of_their_own() -> None:
    places = await open_places("127.0.0.1", 0, 4)
    assert len({sock.fileno() for sockets in places for sock in sockets}) == 4
    assert len({sock.getsockname() for sockets in places for sock in sockets}) == 1
    assert not any(os.get_inheritable(sock.fileno()) for sockets in places for sock in sockets)
    close(places)


async def test_the_system_spreads_connections_over_the_places() -> None:
    places = await open_places("127.0.0.1", 0, 4)
    port = places[0][0].getsockname()[1]
    clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(200)]
    accepted = []
    for (sock,) in places:
        count = 0
        while True:
            try:
                sock.accept()[0].close()
            except BlockingIOError:
                break
            count += 1
        accepted.append(count)
    assert sum(accepted) == 200
    # Each place gets 50 on average. Fewer than 20 would be 5 standard deviations away.
    assert min(accepted) >= 20, accepted
    for client in clients:
        client.close()
    close(places)


@pytest.mark.parametrize("kind", ["listener", "places"])
async def test_a_port_of_another_server_is_in_use(kind: str) -> None:
    first = (
        await open_places("127.0.0.1", 0, 2)
        if kind == "places"
        else [(await Listener.open("127.0.0.1", 0))._sockets]
    )
    port = first[0][0].getsockname()[1]
    with pytest.raises(ListenError) as refused:
        await open_places("127.0.0.1", port, 2)
    assert refused.value.port == port
    close(first)


async def test_a_port_that_was_served_can_be_served_again_at_once() -> None:
    first = await open_places("127.0.0.1", 0, 2)
    port = first[0][0].getsockname()[1]
    close(first)
    close(await open_places("127.0.0.1", port, 2))


def test_other_systems_get_an_explanation() -> None:
    with pytest.raises(ChannelsError, match=r"needs Linux.*this is darwin"):
        check_platform("darwin")
    check_platform("linux")


async def test_a_worker_accepts_from_the_places_that_it_adopts() -> None:
    (own,), adopted = await open_places("127.0.0.1", 0, 2)
    port = own.getsockname()[1]
    accepted: list[socket.socket] = []
    sockets = PlaceSockets([own])
    listener = await sockets.listen("127.0.0.1", 0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listener.main, accepted.append)
        await wait_all_tasks_blocked()
        clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(40)]
        await wait_all_tasks_blocked()
        assert len(accepted) < 40
        sockets.adopt(adopted)
        await until(lambda: len(accepted) == 40)
        # This listener has the last copies of the sockets.
        sockets.close()
        nursery.cancel_scope.cancel()
    listener.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    for sock in (*clients, *accepted):
        sock.close()


async def test_a_worker_that_replaces_another_accepts_nothing_before_it_is_ready() -> None:
    ((own,),) = await open_places("127.0.0.1", 0, 1)
    sockets = PlaceSockets([own], waits=True)
    listener = await sockets.listen("127.0.0.1", 0)
    accepted: list[socket.socket] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listener.main, accepted.append)
        client = socket.create_connection(("127.0.0.1", own.getsockname()[1]))
        await wait_all_tasks_blocked()
        assert not accepted
        sockets.begin()
        await until(lambda: len(accepted) == 1)
        listener.close()
    sockets.close()
    for sock in (client, *accepted):
        sock.close()


async def test_a_restarted_listener_accepts_from_adopted_places_too() -> None:
    (own,), adopted = await open_places("127.0.0.1", 0, 2)
    sockets = PlaceSockets([own])
    first = await sockets.listen("127.0.0.1", 0)
    sockets.adopt(adopted)
    first.close()
    accepted: list[socket.socket] = []
    second = await sockets.listen("127.0.0.1", 0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(second.main, accepted.append)
        address = ("127.0.0.1", own.getsockname()[1])
        clients = [socket.create_connection(address) for _ in range(40)]
        await until(lambda: len(accepted) == 40)
        second.close()
    sockets.close()
    for sock in (*clients, *accepted):
        sock.close()


async def test_a_closed_listener_adopts_nothing() -> None:
    (own,), adopted = await open_places("127.0.0.1", 0, 2)
    sockets = PlaceSockets([own])
    listener = await sockets.listen("127.0.0.1", 0)
    listener.close()
    sockets.adopt(adopted)
    address = own.getsockname()
    sockets.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)


async def test_a_worker_that_has_closed_its_sockets_keeps_no_adopted_socket() -> None:
    (own,), adopted = await open_places("127.0.0.1", 0, 2)
    address = own.getsockname()
    sockets = PlaceSockets([own])
    sockets.close()
    sockets.adopt(adopted)
    assert [sock.fileno() for sock in adopted] == [-1]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)


async def test_a_listener_that_has_ended_adopts_nothing() -> None:
    (own,), adopted = await open_places("127.0.0.1", 0, 2)
    address = own.getsockname()
    sockets = PlaceSockets([own])
    listener = await sockets.listen("127.0.0.1", 0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listener.main, lambda _: None)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    # The endpoint has not called close() yet.
    sockets.adopt(adopted)
    sockets.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)


async def test_a_listener_whose_last_socket_has_just_closed_adopts_nothing() -> None:
    (own,), adopted = await open_places("127.0.0.1", 0, 2)
    address = own.getsockname()
    sockets = PlaceSockets([own])
    listener = await sockets.listen("127.0.0.1", 0)
    async with trio.open_nursery() as nursery:

        async def end_and_adopt() -> None:
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):  # runs on although the nursery is cancelled
                for _ in range(5):
                    await trio.lowlevel.cancel_shielded_checkpoint()
                    for sock in adopted:
                        sockets.adopt([sock.dup()])

        nursery.start_soon(listener.main, lambda _: None)
        await wait_all_tasks_blocked()
        nursery.start_soon(end_and_adopt)
    sockets.close()
    listener.close()
    close([adopted])
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)

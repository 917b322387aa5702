"""The listener: it accepts in bursts, survives a lack of files, and explains why it cannot listen."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from channels.errors import ChannelsError
from channels.transports.listener import Listener, ListenError, inherited, listening_sockets


class Accepted:
    """The connections that a listener has handed over."""

    def __init__(self) -> None:
        self.sockets: list[socket.socket] = []
        self._news = trio.Event()

    def __call__(self, sock: socket.socket) -> None:
        self.sockets.append(sock)
        self._news.set()

    async def wait_for(self, count: int) -> list[socket.socket]:
        while len(self.sockets) < count:
            self._news = trio.Event()
            await self._news.wait()
        return self.sockets

    def close(self) -> None:
        for sock in self.sockets:
            sock.close()


@pytest.fixture
async def accepted() -> AsyncIterator[Accepted]:
    accepted = Accepted()
    yield accepted
    accepted.close()


@pytest.fixture
async def listener(nursery: trio.Nursery, accepted: Accepted) -> AsyncIterator[Listener]:
    listener = await Listener.open("127.0.0.1", 0)
    nursery.start_soon(listener.main, accepted)
    await wait_all_tasks_blocked()
    yield listener
    listener.close()


async def dial(listener: Listener) -> socket.socket:
    """Connect without a wait for `accept`, because the kernel completes the handshake."""
    return socket.create_connection((listener.host, listener.port))


async def test_connections_are_handed_over_ready_to_use(
    listener: Listener, accepted: Accepted
) -> None:
    with await dial(listener) as client:
        (sock,) = await accepted.wait_for(1)
        assert not sock.getblocking()
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        client.sendall(b"hello")
        await trio.lowlevel.wait_readable(sock.fileno())
        assert sock.recv(10) == b"hello"


async def test_port_0_takes_a_free_port(listener: Listener) -> None:
    assert listener.host == "127.0.0.1"
    assert 0 < listener.port < 65536


async def test_a_cancelled_listener_hands_over_established_connections(
    nursery: trio.Nursery, accepted: Accepted
) -> None:
    listener = await Listener.open("127.0.0.1", 0)
    scope = trio.CancelScope()

    async def main() -> None:
        with scope:
            await listener.main(accepted)

    nursery.start_soon(main)
    await wait_all_tasks_blocked()
    clients = [await dial(listener) for _ in range(200)]
    scope.cancel()
    await wait_all_tasks_blocked()
    assert len(accepted.sockets) == len(clients)
    listener.close()
    for client in clients:
        client.close()


async def test_a_burst_is_accepted_in_one_turn(nursery: trio.Nursery, accepted: Accepted) -> None:
    listener = await Listener.open("127.0.0.1", 0)
    clients = [await dial(listener) for _ in range(100)]
    nursery.start_soon(listener.main, accepted)
    rounds = 0
    while not accepted.sockets:
        await trio.lowlevel.checkpoint()
        rounds += 1
    assert len(accepted.sockets) == 100
    listener.close()
    for client in clients:
        client.close()


async def test_other_tasks_run_during_a_very_large_burst(
    nursery: trio.Nursery, accepted: Accepted
) -> None:
    listener = await Listener.open("127.0.0.1", 0)
    clients = [await dial(listener) for _ in range(300)]
    nursery.start_soon(listener.main, accepted)
    while not accepted.sockets:
        await trio.lowlevel.checkpoint()
    assert 0 < len(accepted.sockets) < 300
    await accepted.wait_for(300)
    listener.close()
    for client in clients:
        client.close()


async def test_closing_ends_the_loop_and_keeps_connections_open(accepted: Accepted) -> None:
    listener = await Listener.open("127.0.0.1", 0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listener.main, accepted)
        with await dial(listener) as client:
            (sock,) = await accepted.wait_for(1)
            listener.close()
            listener.close()
            client.sendall(b"still here")
            await trio.lowlevel.wait_readable(sock.fileno())
            assert sock.recv(100) == b"still here"
    with pytest.raises(ConnectionRefusedError):
        await dial(listener)


async def test_a_callback_may_close_the_listener(nursery: trio.Nursery) -> None:
    listener = await Listener.open("127.0.0.1", 0)
    clients = [await dial(listener) for _ in range(3)]
    handed_over: list[socket.socket] = []

    def close(sock: socket.socket) -> None:
        handed_over.append(sock)
        listener.close()

    await listener.main(close)
    assert len(handed_over) == 1
    for sock in (*clients, *handed_over):
        sock.close()


async def test_a_connection_is_closed_if_its_callback_raises() -> None:
    listener = await Listener.open("127.0.0.1", 0)
    handed_over: list[socket.socket] = []

    def refuse(sock: socket.socket) -> None:
        handed_over.append(sock)
        raise RuntimeError("no more processes")

    with await dial(listener), pytest.raises(RuntimeError, match="no more processes"):
        await listener.main(refuse)
    assert handed_over[0].fileno() < 0
    listener.close()


class ScriptedSocket(socket.socket):
    """A listening socket whose `accept` raises the given errors before it works again."""

    errors: list[int]

    def accept(self) -> tuple[socket.socket, object]:
        if self.errors:
            number = self.errors.pop(0)
            raise OSError(number, os.strerror(number))
        return super().accept()


def scripted_listener(*errors: int) -> Listener:
    sock = ScriptedSocket()
    sock.errors = list(errors)
    sock.setblocking(False)
    sock.bind(("127.0.0.1", 0))
    sock.listen()
    return Listener([sock])


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
async def test_without_files_or_memory_the_listener_pauses_and_continues(
    nursery: trio.Nursery, accepted: Accepted, number: int, autojump_clock: MockClock
) -> None:
    listener = scripted_listener(number, number)
    with await dial(listener):
        nursery.start_soon(listener.main, accepted)
        await accepted.wait_for(1)
    assert trio.current_time() == pytest.approx(0.2)
    listener.close()


@pytest.mark.parametrize("number", [errno.ECONNABORTED, errno.EPROTO, errno.EPERM])
async def test_a_connection_that_ends_before_its_accept_is_skipped(
    nursery: trio.Nursery, accepted: Accepted, number: int, autojump_clock: MockClock
) -> None:
    listener = scripted_listener(number)
    with await dial(listener):
        nursery.start_soon(listener.main, accepted)
        await accepted.wait_for(1)
    assert trio.current_time() == 0
    listener.close()


async def test_a_port_in_use_raises_with_a_correction(listener: Listener) -> None:
    with pytest.raises(ListenError) as caught:
        await Listener.open("127.0.0.1", listener.port)
    assert str(caught.value) == (
        f"cannot listen on 127.0.0.1:{listener.port}: the port is in use; "
        f"stop the program that uses it, or choose another port"
    )
    assert (caught.value.host, caught.value.port) == ("127.0.0.1", listener.port)
    assert isinstance(caught.value, ChannelsError)


async def test_an_address_of_another_machine_raises_with_a_correction() -> None:
    with pytest.raises(ListenError, match=r"192\.0\.2\.1 is not an address of this machine"):
        await Listener.open("192.0.2.1", 0)


async def test_an_invalid_host_name_raises_with_a_correction() -> None:
    # Too long a label for any name server to be asked.
    name = "a" * 70
    with pytest.raises(ListenError, match=f"the host name '{name}' is unknown; use"):
        await Listener.open(name, 4000)


async def test_an_unknown_host_name_raises_with_a_correction(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def getaddrinfo(*_: object, **__: object) -> object:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(trio.socket, "getaddrinfo", getaddrinfo)
    with pytest.raises(ListenError, match="the host name 'nowhere' is unknown"):
        await Listener.open("nowhere", 4000)


@pytest.mark.parametrize("port", [-1, 65536])
async def test_a_port_out_of_range_raises_with_a_correction(port: int) -> None:
    with pytest.raises(ListenError, match="the port is out of range"):
        await Listener.open("127.0.0.1", port)


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (errno.EACCES, "permission was denied; ports below 1024 are often reserved"),
        (errno.EPERM, "permission was denied"),
        (errno.EAFNOSUPPORT, "is not an address of this machine"),
        (errno.EINVAL, "the system reported Invalid argument"),
    ],
)
async def test_every_error_of_the_system_has_a_clear_message(
    number: int, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bind(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(socket.socket, "bind", bind, raising=False)
    with pytest.raises(ListenError, match=sentence) as caught:
        await Listener.open("127.0.0.1", 80)
    assert "\n" not in str(caught.value)


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


async def test_the_listener_can_listen_on_an_ipv6_address(
    nursery: trio.Nursery, accepted: Accepted
) -> None:
    if not has_ipv6():
        with pytest.raises(ListenError, match=r"cannot listen on \[::1\]:0: ::1 is not an address"):
            await Listener.open("::1", 0)
        return
    listener = await Listener.open("::1", 0)
    assert listener.host == "::1"
    nursery.start_soon(listener.main, accepted)
    with await dial(listener):
        await accepted.wait_for(1)
    with pytest.raises(ListenError, match=rf"cannot listen on \[::1\]:{listener.port}: "):
        await Listener.open("::1", listener.port)
    listener.close()


Resolver = Callable[..., object]


@pytest.fixture
def two_addresses() -> Resolver:
    """A name that stands for two addresses of this machine and one that it does not have."""

    async def getaddrinfo(_host: object, port: object, **_: object) -> object:
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in ("192.0.2.1", "127.0.0.1", "127.0.0.2")
        ]

    return getaddrinfo


async def test_the_listener_uses_one_port_on_all_addresses_of_a_name(
    nursery: trio.Nursery,
    accepted: Accepted,
    two_addresses: Resolver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trio.socket, "getaddrinfo", two_addresses)
    listener = await Listener.open("somewhere", 0)
    nursery.start_soon(listener.main, accepted)
    for address in ("127.0.0.1", "127.0.0.2"):
        with socket.create_connection((address, listener.port)):
            await accepted.wait_for(1)
    await accepted.wait_for(2)
    listener.close()


def open_files() -> int:
    return len(list(Path("/dev/fd").iterdir()))


async def test_sockets_are_closed_if_one_address_is_taken(
    two_addresses: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trio.socket, "getaddrinfo", two_addresses)
    with socket.socket() as other:
        other.bind(("127.0.0.2", 0))
        other.listen()
        port = other.getsockname()[1]
        before = open_files()
        with pytest.raises(ListenError) as refused:
            await Listener.open("somewhere", port)
        assert refused.value.port == port
        assert open_files() == before


async def test_a_connection_reset_before_its_set_up_does_not_end_the_listener(
    accepted: Accepted, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Reset(socket.socket):
        """Simulate a system where sockets do not inherit options, and where setting one fails after a reset."""

        def setsockopt(self, *_: object) -> None:
            raise OSError(errno.EINVAL, "Invalid argument")

    class Listening:
        def accept(self) -> tuple[socket.socket, object]:
            if not offered:
                raise BlockingIOError
            return offered.pop(), None

        def fileno(self) -> int:
            return 0

    monkeypatch.setattr("channels.transports.listener._LINUX", False)
    good, reset = socket.socket(), Reset()
    offered: list[socket.socket] = [good, reset]
    listener = await Listener.open("127.0.0.1", 0)
    offering: Any = Listening()
    assert listener._accept_waiting(offering, accepted)
    assert accepted.sockets == [good]
    assert reset.fileno() < 0
    listener.close()


# Inherited sockets


async def test_a_listener_on_inherited_sockets_takes_what_waits_and_leaves_the_sockets_open(
    nursery: trio.Nursery, accepted: Accepted
) -> None:
    (sock,) = sockets = await listening_sockets("127.0.0.1", 0)
    listen = inherited(sockets)
    with socket.create_connection(sock.getsockname()):
        first = await listen("127.0.0.1", 0)
        assert first.port == sock.getsockname()[1]
        nursery.start_soon(first.main, accepted)
        await accepted.wait_for(1)
    first.close()
    # As after a crash of its process.
    with socket.create_connection(sock.getsockname()):
        second = await listen("127.0.0.1", 0)
        nursery.start_soon(second.main, accepted)
        await accepted.wait_for(2)
    second.close()
    sock.close()


async def test_inherited_sockets_never_block(nursery: trio.Nursery, accepted: Accepted) -> None:
    (sock,) = await listening_sockets("127.0.0.1", 0)
    # As a worker makes it: a new object for a descriptor, which Python takes for a blocking one.
    again = socket.socket(fileno=os.dup(sock.fileno()))
    listener = await inherited([again])("127.0.0.1", 0)
    assert not os.get_blocking(sock.fileno()), "the flag belongs to all who share the socket"
    listener.close()
    again.close()
    sock.close()


async def test_a_connection_in_the_queue_of_a_shared_socket_goes_to_the_other_listener(
    nursery: trio.Nursery, accepted: Accepted
) -> None:
    (sock,) = sockets = await listening_sockets("127.0.0.1", 0)
    old, new = [await inherited(sockets)("127.0.0.1", 0) for _ in range(2)]
    with socket.create_connection(sock.getsockname()) as client:
        old.close()
        nursery.start_soon(new.main, accepted)
        (server,) = await accepted.wait_for(1)
        client.sendall(b"hello")
        assert server.recv(10) == b"hello"
    new.close()
    sock.close()

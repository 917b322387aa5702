"""The promises of everything that reads for a connection: the poller, and pumps of every kind."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeAlias

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from channels.transports.contract import OnData, Reader
from channels.transports.poller import Poller
from channels.transports.stream_transport import Pump, socket_source, stream_source
from tests.channels.transports.readers import Heard
from tests.channels.transports.sockets import socket_pair


class Peer:
    """The sending end of a reader's stream."""

    def __init__(
        self,
        start: Callable[[OnData], Reader],
        send: Callable[[bytes], Awaitable[None]],
        end: Callable[[], Awaitable[None]],
        break_off: Callable[[], Awaitable[None]],
        *,
        holds_back: bool = True,
    ) -> None:
        # True if the peer must wait while the reader is paused. A stream in memory accepts any amount.
        self.holds_back = holds_back
        self.start = start
        self.send = send
        self.end = end
        self.break_off = break_off


Kind: TypeAlias = Callable[[], contextlib.AbstractAsyncContextManager[Peer]]


@contextlib.asynccontextmanager
async def socket_peer(start: Callable[[socket.socket, OnData], Reader]) -> AsyncIterator[Peer]:
    with socket_pair() as (ours, theirs):

        async def send(data: bytes) -> None:
            while data:
                await trio.lowlevel.wait_writable(theirs.fileno())
                data = data[theirs.send(data) :]

        async def end() -> None:
            theirs.shutdown(socket.SHUT_WR)
            await trio.lowlevel.checkpoint()

        async def break_off() -> None:
            # Zero seconds to linger: closing sends a reset.
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            theirs.close()
            await trio.lowlevel.checkpoint()

        yield Peer(lambda on_data: start(ours, on_data), send, end, break_off)


@contextlib.asynccontextmanager
async def polled() -> AsyncIterator[Peer]:
    poller = Poller()
    async with trio.open_nursery() as nursery, socket_peer(poller.register) as peer:
        nursery.start_soon(poller.main)
        yield peer
        nursery.cancel_scope.cancel()
    assert poller.statistics().sockets <= 1
    poller.close()


@contextlib.asynccontextmanager
async def quietly_polled() -> AsyncIterator[Peer]:
    """A quiet socket. Its second read within five seconds moves it back to the first poller."""
    quiet = Poller(longest_rest=0.01)
    poller = Poller(quiet=quiet)

    def start(sock: socket.socket, on_data: OnData) -> Reader:
        reading = poller.register(sock, on_data)
        poller.hand_over(reading)
        return reading

    async with trio.open_nursery() as nursery, socket_peer(start) as peer:
        nursery.start_soon(poller.main)
        nursery.start_soon(quiet.main)
        yield peer
        nursery.cancel_scope.cancel()
    poller.close()
    quiet.close()


@contextlib.asynccontextmanager
async def pumped_socket() -> AsyncIterator[Peer]:
    async with trio.open_nursery() as nursery:

        def start(sock: socket.socket, on_data: OnData) -> Reader:
            pump = Pump(socket_source(sock), on_data)
            nursery.start_soon(pump.main)
            return pump

        async with socket_peer(start) as peer:
            yield peer
            nursery.cancel_scope.cancel()


class BreakableStream(trio.abc.ReceiveStream):
    """A stream in memory that can break like a stream on a network."""

    def __init__(self, stream: trio.abc.ReceiveStream) -> None:
        self._stream = stream
        self._reading = trio.CancelScope()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        with trio.CancelScope() as self._reading:
            return await self._stream.receive_some(max_bytes)
        raise trio.BrokenResourceError

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def break_off(self) -> None:
        self._reading.cancel()
        await trio.lowlevel.checkpoint()


@contextlib.asynccontextmanager
async def pumped_stream() -> AsyncIterator[Peer]:
    sender, memory = trio.testing.memory_stream_one_way_pair()
    receiver = BreakableStream(memory)

    async with trio.open_nursery() as nursery:

        def start(on_data: OnData) -> Reader:
            pump = Pump(stream_source(receiver), on_data)
            nursery.start_soon(pump.main)
            return pump

        yield Peer(start, sender.send_all, sender.aclose, receiver.break_off, holds_back=False)
        nursery.cancel_scope.cancel()


KINDS: list[Kind] = [pumped_socket, pumped_stream]
if Poller.is_supported():
    KINDS[:0] = [polled, quietly_polled]


@pytest.fixture(params=KINDS, ids=lambda kind: str(kind.__name__))
async def peer(request: pytest.FixtureRequest) -> AsyncIterator[Peer]:
    kind: Kind = request.param
    async with kind() as peer:
        yield peer


async def test_data_of_the_peer_is_delivered_in_order_to_the_end(peer: Peer) -> None:
    heard = Heard()
    peer.start(heard)
    await peer.send(b"hello ")
    await heard.bytes(6)
    await peer.send(b"world")
    assert await heard.bytes(11) == b"hello world"
    await peer.end()
    assert await heard.other() == b""


async def test_data_is_delivered_as_bytes_of_at_most_64_kib(peer: Peer) -> None:
    heard = Heard()
    peer.start(heard)
    sent = b"x" * 300_000
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.send, sent)
        assert await heard.bytes(len(sent)) == sent
    assert all(type(event) is bytes and len(event) <= 65536 for event in heard.events)


async def test_the_end_is_delivered_once_and_nothing_after_it(peer: Peer) -> None:
    heard = Heard()
    reader = peer.start(heard)
    assert not reader.ended
    await peer.end()
    await heard.other()
    assert reader.ended
    reader.pause()
    reader.resume()
    reader.redirect(heard)
    reader.stop()
    await wait_all_tasks_blocked()
    assert heard.events == [b""]


async def test_a_broken_stream_is_delivered_as_an_error_once(peer: Peer) -> None:
    heard = Heard()
    reader = peer.start(heard)
    await wait_all_tasks_blocked()
    await peer.break_off()
    error = await heard.other()
    assert isinstance(error, OSError)
    await wait_all_tasks_blocked()
    assert heard.events == [error]
    assert reader.ended


async def test_nothing_is_delivered_between_pause_and_resume(peer: Peer) -> None:
    heard = Heard()
    reader = peer.start(heard)
    await wait_all_tasks_blocked()
    reader.pause()
    reader.pause()
    await peer.send(b"hello")
    await wait_all_tasks_blocked()
    assert heard.events == []
    reader.resume()
    reader.resume()
    assert await heard.bytes(5) == b"hello"


async def test_a_peer_that_leaves_during_a_pause_is_noticed_without_loss(peer: Peer) -> None:
    heard = Heard()
    reader = peer.start(heard)
    await wait_all_tasks_blocked()
    reader.pause()
    await peer.send(b"hello ")
    await peer.send(b"world")
    await wait_all_tasks_blocked()
    assert heard.events == []
    await peer.end()
    assert await heard.other() == b""
    assert heard.data == b"hello world"
    assert reader.ended
    reader.resume()
    await wait_all_tasks_blocked()
    assert len(heard.others) == 1


async def test_a_stream_that_breaks_during_a_pause_is_noticed(peer: Peer) -> None:
    heard = Heard()
    reader = peer.start(heard)
    await wait_all_tasks_blocked()
    reader.pause()
    await peer.break_off()
    assert isinstance(await heard.other(), OSError)
    assert reader.ended


async def test_the_data_read_during_a_pause_is_bounded(peer: Peer) -> None:
    heard = Heard()
    reader = peer.start(heard)
    await wait_all_tasks_blocked()
    reader.pause()
    sent = b"x" * 8_000_000
    async with trio.open_nursery() as nursery:
        if peer.holds_back:
            nursery.start_soon(peer.send, sent)
            await wait_all_tasks_blocked()
            assert nursery.child_tasks, "the peer has to wait"
            assert heard.events == []
        else:
            await peer.send(sent)
        reader.resume()
        assert await heard.bytes(len(sent)) == sent


async def test_pauses_can_follow_each_other(peer: Peer) -> None:
    heard = Heard()
    reader = peer.start(heard)
    for number in range(1, 4):
        reader.pause()
        await peer.send(b"four")
        await wait_all_tasks_blocked()
        assert len(heard.data) == 4 * (number - 1)
        reader.resume()
        await heard.bytes(4 * number)


async def test_a_callback_may_pause_its_own_reader(peer: Peer) -> None:
    heard = Heard()

    def pause_after_each(data: bytes | OSError) -> None:
        heard(data)
        reader.pause()

    reader = peer.start(pause_after_each)
    await peer.send(b"one")
    await heard.bytes(3)
    await peer.send(b"two")
    await wait_all_tasks_blocked()
    assert heard.data == b"one"
    reader.resume()
    assert await heard.bytes(6) == b"onetwo"


async def test_nothing_is_delivered_after_stop(peer: Peer) -> None:
    heard = Heard()
    reader = peer.start(heard)
    await wait_all_tasks_blocked()
    reader.stop()
    reader.stop()
    await peer.send(b"hello")
    await wait_all_tasks_blocked()
    assert heard.events == []
    assert reader.ended


async def test_undelivered_data_is_not_delivered_after_stop(
    peer: Peer,
) -> None:
    heard = Heard()
    reader = peer.start(heard)
    await wait_all_tasks_blocked()
    await peer.send(b"hello")
    told = list(heard.events)
    reader.stop()
    await wait_all_tasks_blocked()
    assert heard.events == told


async def test_a_reader_may_be_stopped_before_it_has_begun_and_while_it_is_paused(
    peer: Peer,
) -> None:
    heard = Heard()
    reader = peer.start(heard)
    reader.pause()
    reader.stop()
    reader.resume()
    await peer.send(b"hello")
    await wait_all_tasks_blocked()
    assert heard.events == []


async def test_a_callback_may_stop_its_own_reader(peer: Peer) -> None:
    heard = Heard()

    def stop(data: bytes | OSError) -> None:
        heard(data)
        reader.stop()

    reader = peer.start(stop)
    await peer.send(b"one")
    await heard.bytes(3)
    await peer.send(b"two")
    await peer.end()
    await wait_all_tasks_blocked()
    assert heard.events == [b"one"]


async def test_a_reader_can_be_redirected(peer: Peer) -> None:
    before, after = Heard(), Heard()
    reader = peer.start(before)
    await peer.send(b"one")
    await before.bytes(3)
    reader.redirect(after)
    await peer.send(b"two")
    assert await after.bytes(3) == b"two"
    await peer.end()
    assert await after.other() == b""
    assert before.events == [b"one"]

"""A handshake ends for every behaviour of the server."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from trio_websocket import HandshakeError

from examples.scenarios.handshake import HANDSHAKE_TIMEOUT, open_websocket


async def shake_hands(stream: trio.abc.Stream) -> None:
    async with trio.open_nursery() as nursery:
        await open_websocket(nursery, stream, "server")


async def test_a_connection_that_ends_during_the_handshake_ends_the_handshake(
    autojump_clock: trio.testing.MockClock,
) -> None:
    client, server = trio.testing.memory_stream_pair()

    async def close_after_the_request() -> None:
        await server.receive_some()
        await server.aclose()

    with pytest.RaisesGroup(pytest.RaisesExc(HandshakeError, match="ended before")):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(close_after_the_request)
            await open_websocket(nursery, client, "server")
    assert trio.current_time() == 0


async def test_a_connection_that_takes_no_request_ends_the_handshake(
    autojump_clock: trio.testing.MockClock,
) -> None:
    client, server = trio.testing.memory_stream_pair()
    await server.aclose()
    with pytest.RaisesGroup(pytest.RaisesExc(HandshakeError, match="ended before")):
        await shake_hands(client)
    assert trio.current_time() == 0


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 101 Switching"])
async def test_a_server_that_does_not_answer_in_time_ends_the_handshake(
    said: bytes, autojump_clock: trio.testing.MockClock
) -> None:
    client, server = trio.testing.memory_stream_pair()
    if said:
        await server.send_all(said)
    with pytest.RaisesGroup(pytest.RaisesExc(HandshakeError, match="within 10 seconds")):
        await shake_hands(client)
    assert trio.current_time() == HANDSHAKE_TIMEOUT

"""The virtual network and its faults."""

from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from supervision.laboratory.simulation.knobs import Knobs
from supervision.laboratory.simulation.world.network import VirtualListener, VirtualStream
from supervision.laboratory.simulation.world.world import World
from tests.laws.scenarios import simulate

Body = Callable[[World, VirtualStream, VirtualStream], Awaitable[None]]


def between(body: Body, *, knobs: Knobs | None = None, seed: int = 1) -> None:
    """Run `body` with the two ends of a connection, the connecting one first."""

    async def scenario(world: World) -> None:
        listener = world.network.listen("server", 80)
        client = await world.network.connect("server", 80, source="phone")
        await body(world, client, await listener.accept())

    simulate(scenario, seed, knobs=knobs).check()


async def read_all(stream: VirtualStream) -> bytes:
    pieces = [piece async for piece in stream]
    return b"".join(pieces)


@pytest.mark.parametrize("segment", [1, 7, 1460])
def test_bytes_arrive_late_in_order_and_once_for_any_size_of_pieces(segment: int) -> None:
    data = bytes(range(256)) * 20

    async def body(world: World, client: VirtualStream, server: VirtualStream) -> None:
        began = world.seconds
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send_all, data)
            pieces: list[bytes] = []
            while sum(map(len, pieces)) < len(data):
                pieces.append(await server.receive_some())
        assert b"".join(pieces) == data
        assert world.seconds > began
        if segment < 1460:
            assert len(pieces) > 1
        await client.send_eof()
        assert await server.receive_some() == b""
        assert await server.receive_some() == b""
        await server.send_all(b"still open this way")
        assert await client.receive_some(5) == b"still"

    between(body, knobs=Knobs(segment=segment, window=1000))


def test_trio_s_own_checks_of_streams_hold() -> None:
    async def scenario(world: World) -> None:
        listener = world.network.listen("server", 80)

        async def make() -> tuple[VirtualStream, VirtualStream]:
            return await world.network.connect("server", 80), await listener.accept()

        await trio.testing.check_half_closeable_stream(make, None)

    instant = Knobs(quantum=0, latency=(0, 0), max_seconds=10_000)
    simulate(scenario, 1, knobs=instant).check()


def test_a_sender_beyond_the_window_waits_for_the_reader() -> None:
    async def body(world: World, client: VirtualStream, server: VirtualStream) -> None:
        with trio.move_on_after(10) as scope:
            await client.send_all(bytes(1001))
        assert scope.cancelled_caught
        assert len(await server.receive_some()) == 1000
        await client.wait_send_all_might_not_block()

    between(body, knobs=Knobs(window=1000))


def test_the_rate_decides_the_duration_on_a_slow_connection() -> None:
    async def body(world: World, client: VirtualStream, server: VirtualStream) -> None:
        client.connection.slow(100)
        await client.send_all(bytes(1000))
        client.close()
        began = world.seconds
        assert len(await read_all(server)) == 1000
        assert world.seconds - began == pytest.approx(10, abs=0.1)

    between(body)


def test_held_data_arrives_after_the_release_and_the_other_direction_stays_open() -> None:
    async def body(world: World, client: VirtualStream, server: VirtualStream) -> None:
        client.connection.hold("to_target")
        await client.send_all(b"late")
        await server.send_all(b"soon")
        assert await client.receive_some() == b"soon"
        with trio.move_on_after(60) as scope:
            await server.receive_some()
        assert scope.cancelled_caught
        client.connection.release()
        assert await server.receive_some() == b"late"

    between(body)


def test_a_partition_holds_everything_between_two_hosts_until_it_heals() -> None:
    async def body(world: World, client: VirtualStream, server: VirtualStream) -> None:
        await client.send_all(b"on its way")
        world.network.partition("server", "phone")
        with trio.move_on_after(60) as scope:
            await server.receive_some()
        assert scope.cancelled_caught
        other = await world.network.connect("server", 80, source="laptop")
        assert other.socket.getpeername() == ("10.0.0.3", 80)
        world.network.heal("phone", "server")
        assert await server.receive_some() == b"on its way"

    between(body)


def test_a_writer_waits_behind_a_partition_for_a_reader_that_has_gone() -> None:
    async def body(world: World, client: VirtualStream, server: VirtualStream) -> None:
        world.network.partition("server", "phone")
        async with trio.open_nursery() as nursery:

            async def write() -> None:
                with pytest.raises(trio.BrokenResourceError):
                    await client.send_all(bytes(5000))
                broken.append(world.seconds)

            broken: list[float] = []
            nursery.start_soon(write)
            await trio.sleep(1.0)
            server.close()
            await trio.sleep(20.0)
            assert not broken
            world.network.heal()
        assert broken
        # The window is still full, and nobody will read.
        await client.wait_send_all_might_not_block()

    between(body, knobs=Knobs(window=1000))


def test_a_one_way_partition_leaves_the_other_direction_open() -> None:
    async def body(world: World, client: VirtualStream, server: VirtualStream) -> None:
        world.network.partition_oneway("server", "phone")
        await client.send_all(b"up")
        assert await server.receive_some() == b"up"
        await server.send_all(b"down")
        with trio.move_on_after(60) as scope:
            await client.receive_some()
        assert scope.cancelled_caught

    between(body)


def test_a_reset_fails_both_ends_and_loses_data_in_transit() -> None:
    async def body(world: World, client: VirtualStream, server: VirtualStream) -> None:
        await client.send_all(b"lost")
        client.connection.reset()
        for end in (client, server):
            with pytest.raises(trio.BrokenResourceError):
                await end.receive_some()
            with pytest.raises(trio.BrokenResourceError):
                await end.send_all(b"x")
        assert not world.network.connections

    between(body)


def test_a_half_open_connection_raises_no_error() -> None:
    async def body(world: World, client: VirtualStream, server: VirtualStream) -> None:
        client.connection.half_open()
        client.close()
        with trio.move_on_after(600) as scope:
            await server.receive_some()
        assert scope.cancelled_caught
        await server.send_all(b"nobody will read this")

    between(body)


def test_a_send_to_a_closed_peer_raises_an_error() -> None:
    async def body(world: World, client: VirtualStream, server: VirtualStream) -> None:
        await client.send_all(b"bye")
        client.close()
        await trio.sleep(1)
        with pytest.raises(trio.BrokenResourceError):
            await server.send_all(b"x")
        assert await read_all(server) == b"bye"

    between(body)


def test_no_listener_and_no_answer_are_different_errors() -> None:
    async def scenario(world: World) -> None:
        with pytest.raises(ConnectionRefusedError):
            await world.network.connect("server", 80)
        listener = world.network.listen("server", 80)
        with pytest.raises(OSError, match="in use"):
            world.network.listen("server", 80)
        world.network.partition("client", "server")
        began = world.seconds
        with pytest.raises(TimeoutError):
            await world.network.connect("server", 80)
        assert world.seconds - began == pytest.approx(world.knobs.connect_timeout, abs=0.1)
        listener.close()
        assert world.network.listen("server", 80).port == 80

    simulate(scenario, 1).check()


def test_a_listener_serves_as_trio_s_and_as_an_endpoint_s() -> None:
    async def scenario(world: World) -> None:
        async def shout(stream: VirtualStream) -> None:
            async with stream:
                await stream.send_all((await stream.receive_some()).upper())

        accepted: list[VirtualStream] = []
        async with trio.open_nursery() as nursery:
            listener: VirtualListener = world.network.listen("trio")
            nursery.start_soon(trio.serve_listeners, shout, [listener])
            client = await world.network.connect("trio", listener.port)
            await client.send_all(b"hello")
            assert await client.receive_some() == b"HELLO"
            mine = world.network.listen("endpoint", 80)
            nursery.start_soon(mine.main, accepted.append)
            await world.network.connect("endpoint", 80)
            assert len(accepted) == 1
            mine.close()
            nursery.cancel_scope.cancel()

    simulate(scenario, 1).check()


def test_connections_have_separate_random_streams() -> None:
    async def scenario(world: World) -> None:
        listener = world.network.listen("server", 80)
        for source in world.params["sources"]:
            client = await world.network.connect("server", 80, source=source)
            server = await listener.accept()
            await client.send_all(bytes(10_000))
            client.close()
            began = world.seconds
            await read_all(server)
            took[source] = round(world.seconds - began, 9)

    took: dict[str, float] = {}
    exact = Knobs(quantum=0)
    simulate(scenario, 1, params={"sources": ["a", "b"]}, knobs=exact).check()
    before = took.copy()
    simulate(scenario, 1, params={"sources": ["b"]}, knobs=exact).check()
    assert took["b"] == before["b"]


def test_a_writer_waits_through_a_partition_though_its_peer_has_closed() -> None:
    async def body(world: World, client: VirtualStream, server: VirtualStream) -> None:
        async def write() -> None:
            try:
                await client.send_all(bytes(100_000))
            except trio.BrokenResourceError:
                ends.append(world.seconds)

        ends: list[float] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            await trio.sleep(1.0)
            world.network.partition("phone", "server")
            server.close()
            await trio.sleep(60.0)
            assert ends == []
            world.network.heal()
        assert ends == [world.seconds]

    between(body)


def test_a_network_knows_whether_a_fault_is_in_effect() -> None:
    async def body(world: World, client: VirtualStream, server: VirtualStream) -> None:
        seen = []
        world.network.on_fault = lambda what: seen.append((what, world.network.is_disturbed))
        world.network.partition_oneway("phone", "server")
        world.network.heal()
        client.connection.hold()
        client.connection.release()
        client.connection.hold()
        client.connection.reset()
        assert seen == [
            ("partition", True),
            ("healed", False),
            ("held", True),
            ("released", False),
            ("held", True),
            ("reset", False),
        ]

    between(body)

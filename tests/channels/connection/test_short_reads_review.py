"""Properties of short reads that no other test checks. A review found them with mutations."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from actors import KILL, Instrument, Pid, send, send_exit
from channels import Endpoint, Mount
from channels.connection.channel_server import ChannelServer
from channels.connection.connection import Connection
from channels.connection.work_budget import WorkBudget
from channels.telemetry import SESSION_STARTED
from channels.wire.websocket import WebSocketProtocol
from tests.channels.conftest import Serve
from tests.channels.connection.test_short_reads import steps_of
from tests.channels.rooms import Room, UserSocket
from tests.channels.support import Client, Close, reply, settle, text
from tests.channels.transports.frames import PING, TEXT, client_frame

HEARTBEAT = (None, "1", "phoenix", "heartbeat")


async def started(serve: Serve, **options: Any) -> tuple[Connection, Client]:
    server = await serve(Endpoint(sockets={"/socket": Mount(UserSocket, **options)}))
    sessions = server.listen(SESSION_STARTED)
    client = await server.connect()
    ((_, about),) = sessions
    return about["server"], client


@pytest.mark.parametrize("frames", [8, 9])
async def test_only_the_free_frames_of_a_read_take_no_step(serve: Serve, frames: int) -> None:
    _, client = await started(serve)
    with steps_of(client.process) as steps:
        got = await client.exchange(*[HEARTBEAT] * frames)
    assert len(got) == frames
    assert (steps.steps > 0) is (frames > 8)


@pytest.mark.parametrize("size", [4096, 4097])
async def test_only_a_read_of_at_most_4096_bytes_takes_no_step(serve: Serve, size: int) -> None:
    _, client = await started(serve)

    def heartbeat(length: int) -> bytes:
        padding = length - len(text(*HEARTBEAT, {"x": "y" * 200})) + 200
        return text(*HEARTBEAT, {"x": "y" * padding})

    read = heartbeat(512) * 7 + heartbeat(size - 7 * 512)
    assert len(read) == size
    with steps_of(client.process) as steps:
        client.write(read)
        await settle()
    assert len(client.frames()) == 8
    assert (steps.steps > 0) is (size > 4096)


@pytest.mark.parametrize("size", [512, 513])
async def test_only_a_message_of_at_most_512_bytes_takes_no_step(serve: Serve, size: int) -> None:
    _, client = await started(serve)
    message = b'[null,"1","phoenix","heartbeat",{}]'.ljust(size)
    with steps_of(client.process) as steps:
        client.write(client_frame(TEXT, message))
        await settle()
    assert client.frames() == [reply(None, "1", "phoenix")]
    assert (steps.steps > 0) is (size > 512)


async def test_a_short_read_begins_a_new_count_of_turns(serve: Serve) -> None:
    connection, client = await started(serve)
    connection.turns = 5
    await client.exchange(HEARTBEAT)
    assert connection.turns == 0


async def test_a_tap_sees_every_read(serve: Serve) -> None:
    connection, client = await started(serve)

    class Tap:
        reads: list[int]

        def read(self, pid: Pid, data: bytes) -> None:
            self.reads.append(len(data))
            send(pid, data)

    tap: Any = Tap()
    tap.reads = []
    connection.tap = tap
    client.send(HEARTBEAT)
    await settle()
    assert client.frames() == [reply(None, "1", "phoenix")]
    assert len(tap.reads) == 1


async def test_a_short_read_of_a_paused_client_counts_as_unread(serve: Serve) -> None:
    connection, client = await started(serve)
    connection._pause()
    # As a poller does when the peer leaves.
    connection._tell(text(*HEARTBEAT, {}))
    assert connection.unread > 0
    await settle()
    assert client.frames() == [reply(None, "1", "phoenix")]


@pytest.mark.parametrize("last", [b"", b"\x81"])
async def test_messages_behind_a_ping_are_handled_once(serve: Serve, last: bytes) -> None:
    _, client = await started(serve)
    await client.join()
    frames = [text("1", ref, "room:a", "count", {}) for ref in "234"]
    client.write(frames[0] + client_frame(PING, b"") + frames[1] + frames[2] + last)
    await settle()
    counts = [got[4]["response"]["count"] for got in client.frames() if isinstance(got, list)]
    assert counts == [1, 2, 3]


async def test_messages_behind_a_join_that_waits_for_work_are_handled_once(serve: Serve) -> None:
    connection, client = await started(serve)
    budget: Any = connection.services.budget
    budget._left = 0
    with steps_of(client.process) as steps:
        got = await client.exchange(
            ("1", "1", "room:a", "phx_join"),
            ("1", "2", "room:a", "count"),
            ("1", "3", "room:a", "count"),
        )
    assert steps.steps > 0
    assert [each[4]["response"].get("count") for each in got] == [None, 1, 2]


async def test_a_second_join_of_a_topic_takes_a_step(serve: Serve) -> None:
    _, client = await started(serve)
    await client.join()
    with steps_of(client.process) as steps:
        client.send(("2", "2", "room:a", "phx_join"))
        await settle()
    assert steps.steps > 0
    assert reply("2", "2", "room:a") in client.frames()


def test_a_budget_grants_its_last_units() -> None:
    budget: Any = WorkBudget()
    assert budget.has_room(budget._left)
    assert not budget.has_room(budget._left + 1)


@pytest.mark.parametrize("size", [0, 125, 126])
@pytest.mark.parametrize("limit", [100, 124, 125, 126])
def test_the_size_limit_holds_for_short_frames(size: int, limit: int) -> None:
    protocol = WebSocketProtocol(max_message_size=limit)
    whole = client_frame(TEXT, b"x")
    events = protocol.receive(whole + client_frame(TEXT, b"y" * size) + whole)
    if size <= limit:
        assert events == [b"x", b"y" * size, b"x"]
    else:
        assert events[0] == b"x"
        assert [type(each).__name__ for each in events[1:]] == ["PeerClosed"]
        assert events[1].code == 1009  # type: ignore[union-attr]


def test_texts_count_as_steps() -> None:
    protocol = WebSocketProtocol()
    assert protocol.receive(client_frame(TEXT, b"x") * 5, 2) == [b"x"] * 2
    assert protocol.has_more
    assert protocol.receive(b"", 2) == [b"x"] * 2
    assert protocol.receive(b"") == [b"x"]


def test_a_closing_protocol_drops_texts() -> None:
    protocol = WebSocketProtocol()
    protocol.close(1001)
    assert protocol.receive(client_frame(TEXT, b"x") * 3) == []


async def test_a_text_that_is_not_utf8_behind_a_good_one_closes(serve: Serve) -> None:
    _, client = await started(serve)
    client.write(text(*HEARTBEAT, {}) + client_frame(TEXT, b"\xff") + text(*HEARTBEAT, {}))
    await settle()
    assert client.frames()[:2] == [reply(None, "1", "phoenix"), Close(1007)]


@pytest.mark.parametrize("what", ["rest", "whole"])
async def test_short_reads_take_no_step_again_after_a_read_that_took_one(
    serve: Serve, what: str
) -> None:
    connection, client = await started(serve)
    if what == "rest":
        connection._tell(client_frame(PING, b""))
    else:
        send(connection.pid, text(*HEARTBEAT, {}))
        connection.unread += len(text(*HEARTBEAT, {}))
    await settle()
    with steps_of(client.process) as steps:
        await client.exchange(HEARTBEAT)
    assert steps.steps == 0


@pytest.mark.parametrize("waits", [False, True])
async def test_the_supervisors_of_the_channels_take_turns(serve: Serve, waits: bool) -> None:
    connection, client = await started(serve, partitions=3)
    runtime = connection.services.runtime
    if waits:
        runtime.add_instrument(Instrument())
    for ref, topic in enumerate(("room:a", "room:b", "room:c"), 1):
        await client.join(topic, str(ref))
    parents = [runtime.process_info(each.process)["parent"] for each in connection.members]
    assert len(set(parents)) == 3


async def test_a_channel_with_its_own_server_is_started_by_it(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts: list[Any] = []

    async def start(*args: Any) -> Pid:
        starts.append(args)
        return await ChannelServer.start_link(*args)

    monkeypatch.setattr(Room, "_server", staticmethod(start))
    _, client = await started(serve)
    await client.join()
    assert len(starts) == 1


def test_a_whole_text_inside_an_open_message_is_a_protocol_error() -> None:
    protocol = WebSocketProtocol()
    assert protocol.receive(client_frame(TEXT, b"a", fin=False)) == []
    (closed,) = protocol.receive(client_frame(TEXT, b"b"))
    assert closed.code == 1002  # type: ignore[union-attr]


async def test_the_end_of_a_long_message_is_left_to_the_connection(serve: Serve) -> None:
    connection, client = await started(serve)
    long = text(*HEARTBEAT, {"x": "y" * 100_000})
    client.write(long[:-10])
    await settle()
    connection._tell(long[-10:])
    assert connection.unread == 10
    await settle()
    assert client.frames() == [reply(None, "1", "phoenix")]


def test_nothing_follows_the_end_of_a_connection() -> None:
    protocol = WebSocketProtocol()
    (closed,) = protocol.receive(client_frame(TEXT, b"\xff"))
    assert closed.code == 1007  # type: ignore[union-attr]
    assert protocol.receive(client_frame(TEXT, b"late") * 2) == []


async def test_the_time_between_short_reads_gives_new_tokens(serve: Serve) -> None:
    _, client = await started(serve, max_messages_per_second=1.0)
    await client.join()
    echo = ("1", "2", "room:a", "echo")
    statuses = [(await client.exchange(echo))[0][4]["status"] for _ in range(11)]
    assert statuses == ["ok"] * 10 + ["error"]
    await trio.sleep(1)
    assert await client.exchange(echo) == [reply("1", "2", "room:a")]


async def test_a_join_waits_for_an_earlier_channel_of_its_topic(serve: Serve) -> None:
    connection, client = await started(serve)
    await client.join(payload={"trap": True})
    client.send(("2", "2", "room:a", "phx_join"))
    await settle()
    second = next(each for each in connection.members if each.join_ref == "2")
    # The second channel waits for the first. So now the topic is free, but its first channel is still there.
    send_exit(second.process, KILL)
    await settle()
    client.frames()
    assert await client.exchange(("3", "3", "room:a", "phx_join")) == []
    await trio.sleep(5)
    await settle()
    assert reply("3", "3", "room:a") in client.frames()


def test_a_budget_with_a_line_has_no_room() -> None:
    budget: Any = WorkBudget()
    budget._line.append(object())
    assert not budget.has_room(1)

"""What a channel sends itself in `join` is handled before everything that its client has sent behind the join."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

import actors
from actors import Continue, Exit, current_pid, link, open_runtime, send, trap_exits
from channels import Channel, Endpoint, JoinRefused, PushReply, Socket, handle_in
from channels.channel import connection_of
from channels.connection.session_server import WAITING_LIMIT
from channels.telemetry import CHANNEL_HANDLED_IN
from tests.channels.conftest import Serve
from tests.channels.support import (
    EOF,
    Client,
    Server,
    phx_close,
    phx_error,
    reply,
    run_on_virtual_clock,
    settle,
)


class Lobby(Channel):
    """A channel that does most of its set-up after the join, and writes down the order of its work.

    The join payload has keys:

    - `sends`: the number of messages to itself; `sleep`: seconds before the join decides;
    - `refuse`: refuse; `crash`: raise;
    - `goes_on`: return a `Continue` from the first message; `again`: send itself another message from there.
    """

    async def join(self, topic: str, payload: Any) -> None:
        self.payload = payload
        for number in range(payload.get("sends", 1)):
            send(current_pid(), f"after join {number}")
        await trio.sleep(payload.get("sleep", 0))
        if "refuse" in payload:
            raise JoinRefused
        if "crash" in payload:
            raise RuntimeError("join")

    async def handle_info(self, message: Any) -> Any:
        self.note(str(message))
        if "again" in self.payload and message == "after join 0":
            send(current_pid(), "again")
        if "goes_on" in self.payload and message == "after join 0":
            return Continue("set up")
        return None

    async def handle_continue(self, argument: Any) -> None:
        self.note(f"continue {argument}")

    @handle_in("work")
    async def work(self, payload: Any) -> PushReply:
        self.note(f"work {payload['n']}")
        return PushReply({"n": payload["n"]})

    async def terminate(self, reason: Any) -> None:
        self.note("terminate")

    def note(self, what: str) -> None:
        tag = self.payload.get("tag")
        LOGS.setdefault(self.topic, []).append(what if tag is None else f"{tag}: {what}")


LOGS: dict[str, list[str]] = {}


class LobbySocket(Socket):
    channels = {"lobby:*": Lobby}


@pytest.fixture
async def server(serve: Serve) -> Server:
    LOGS.clear()
    return await serve(Endpoint(sockets={"/socket": LobbySocket}))


@pytest.fixture
async def client(server: Server) -> Client:
    return await server.connect()


def join(ref: str = "1", topic: str = "lobby:a", **payload: Any) -> tuple[Any, ...]:
    return (ref, ref, topic, "phx_join", payload)


def work(n: int, join_ref: str | None = "1", topic: str = "lobby:a") -> tuple[Any, ...]:
    return (join_ref, str(100 + n), topic, "work", {"n": n})


def done(n: int, join_ref: str = "1", topic: str = "lobby:a") -> list[Any]:
    return reply(join_ref, str(100 + n), topic, {"n": n})


async def test_pushes_behind_a_join_wait_for_the_messages_that_join_sent(client: Client) -> None:
    got = await client.exchange(join(sends=3), work(1), work(2))
    assert got == [reply("1", "1", "lobby:a"), done(1), done(2)]
    assert LOGS["lobby:a"] == ["after join 0", "after join 1", "after join 2", "work 1", "work 2"]


async def test_a_leave_behind_a_join_waits_for_the_messages_that_join_sent(client: Client) -> None:
    got = await client.exchange(join(), ("1", "2", "lobby:a", "phx_leave"))
    assert got == [
        reply("1", "1", "lobby:a"),
        reply("1", "2", "lobby:a"),
        phx_close("1", "lobby:a"),
    ]
    assert LOGS["lobby:a"] == ["after join 0", "terminate"]


class Linked(Lobby):
    """A channel that traps exits, and is linked to its connection."""

    async def join(self, topic: str, payload: Any) -> None:
        trap_exits()
        link(connection_of(self))
        self.payload = payload
        await trio.sleep(5)
        send(current_pid(), "after join 0")

    async def handle_info(self, message: Any) -> Any:
        self.note(type(message).__name__ if isinstance(message, Exit) else str(message))


async def test_the_exit_of_the_connection_waits_for_the_messages_that_join_sent(
    serve: Serve,
) -> None:
    LOGS.clear()
    socket: Any = type("LinkedSocket", (Socket,), {"channels": {"lobby:*": Linked}})
    client = await (await serve(Endpoint(sockets={"/socket": socket}))).connect()
    client.send(join())
    await trio.sleep(1)
    client.close()
    await trio.sleep(10)
    assert LOGS["lobby:a"] == ["after join 0", "terminate"]


async def test_pushes_during_a_slow_join_wait_for_the_messages_that_join_sent(
    client: Client,
) -> None:
    client.send(join(sleep=5), work(1))
    await trio.sleep(1)
    client.send(work(2))
    await trio.sleep(1)
    assert client.frames() == []
    await trio.sleep(4)
    assert client.frames() == [reply("1", "1", "lobby:a"), done(1), done(2)]
    assert LOGS["lobby:a"] == ["after join 0", "work 1", "work 2"]


async def test_messages_of_other_processes_during_a_join_come_before_the_clients_pushes(
    server: Server, client: Client
) -> None:
    # As in Phoenix, whose connection reads the pushes only when it has got the answer of the join.
    client.send(join(sleep=5), work(1))
    await trio.sleep(1)
    (channel,) = [
        pid for pid in server.runtime.processes() if label_of(server, pid).startswith("Lobby ")
    ]
    send(channel, "from elsewhere")
    await trio.sleep(5)
    assert LOGS["lobby:a"] == ["after join 0", "from elsewhere", "work 1"]


def label_of(server: Server, pid: actors.Pid) -> str:
    info = server.runtime.process_info(pid)
    return "" if info is None else str(info["label"])


async def test_a_continue_of_the_first_message_runs_before_the_clients_pushes(
    client: Client,
) -> None:
    await client.exchange(join(goes_on=True), work(1))
    assert LOGS["lobby:a"] == ["after join 0", "continue set up", "work 1"]


async def test_a_message_that_the_set_up_sends_is_handled_in_its_turn(client: Client) -> None:
    await client.exchange(join(again=True, sends=2), work(1))
    assert LOGS["lobby:a"] == ["after join 0", "after join 1", "work 1", "again"]


async def test_a_client_that_goes_during_its_join_does_not_stop_the_set_up_or_its_pushes(
    client: Client,
) -> None:
    client.send(join(sleep=5), work(1))
    client.end()
    await trio.sleep(6)
    assert LOGS["lobby:a"] == ["after join 0", "work 1", "terminate"]


@pytest.mark.parametrize("pushes", [0, 1])
async def test_a_connection_that_is_killed_during_a_join_does_not_stop_the_set_up(
    client: Client, pushes: int
) -> None:
    client.send(join(sleep=5), *[work(1)] * pushes)
    await trio.sleep(1)
    assert client.process is not None
    actors.kill(client.process)
    await trio.sleep(6)
    assert LOGS["lobby:a"] == ["after join 0", *["work 1"] * pushes, "terminate"]


async def test_a_disconnect_during_a_join_comes_after_the_messages_before_it(
    server: Server, client: Client
) -> None:
    client.send(join(sleep=5), work(1))
    await trio.sleep(1)
    await server.stop()
    assert LOGS["lobby:a"] == ["after join 0", "work 1", "terminate"]


async def test_a_slow_join_delays_no_other_topic(client: Client) -> None:
    client.send(join(sleep=5), work(1))
    other = join("2", "lobby:b"), work(2, "2", "lobby:b")
    assert await client.exchange(*other, (None, "3", "phoenix", "heartbeat")) == [
        reply(None, "3", "phoenix"),
        reply("2", "2", "lobby:b"),
        done(2, "2", "lobby:b"),
    ]


async def test_pushes_behind_a_refused_or_crashed_join_have_no_effect(client: Client) -> None:
    refused = await client.exchange(join(refuse=True), work(1))
    assert refused == [reply("1", "1", "lobby:a", {}, "error")]
    crashed = await client.exchange(join("2", crash=True), work(2, "2"))
    assert crashed == [reply("2", "2", "lobby:a", {"reason": "join crashed"}, "error")]
    assert "lobby:a" not in LOGS or "work" not in str(LOGS["lobby:a"])


async def test_pushes_of_each_join_of_a_topic_follow_the_set_up_of_their_own_channel(
    client: Client,
) -> None:
    client.send(join(sleep=2), work(1), join("2", sleep=2), work(2, "2"))
    await trio.sleep(5)
    assert client.frames() == [
        reply("1", "1", "lobby:a"),
        reply("2", "2", "lobby:a"),
        phx_close("1", "lobby:a"),
        done(2, "2"),
    ]
    # The first channel ends with its answer, as if the join of its successor had come right behind it.
    assert LOGS["lobby:a"] == ["after join 0", "work 2"]


async def test_many_pushes_behind_a_slow_join_stop_the_reading_and_are_all_handled(
    client: Client,
) -> None:
    count = WAITING_LIMIT + 50
    client.send(join(sleep=5), *(work(n) for n in range(count)))
    await trio.sleep(6)
    assert client.frames() == [reply("1", "1", "lobby:a"), *map(done, range(count))]
    assert LOGS["lobby:a"] == ["after join 0", *(f"work {n}" for n in range(count))]


async def test_a_crash_in_the_set_up_ends_the_channel_before_the_first_push(serve: Serve) -> None:
    class Fragile(Lobby):
        async def handle_info(self, message: Any) -> None:
            raise RuntimeError("set-up")

    class FragileSocket(Socket):
        channels = {"lobby:*": Fragile}

    server = await serve(Endpoint(sockets={"/socket": FragileSocket}))
    handled = server.listen(CHANNEL_HANDLED_IN)
    client = await server.connect()
    got = await client.exchange(join(), work(1))
    assert got == [reply("1", "1", "lobby:a"), phx_error("1", "lobby:a")]
    assert handled == []


async def test_a_close_frame_behind_a_join_ends_the_channel_after_its_set_up(
    client: Client,
) -> None:
    client.send(join())
    client.close()
    await settle()
    assert EOF in client.frames()
    assert LOGS["lobby:a"] == ["after join 0", "terminate"]


@given(data=st.data())
def test_each_channel_works_in_the_order_of_the_model(data: st.DataObject) -> None:
    """Bursts of joins, pushes and leaves of two topics, with fast and slow joins, and a pause between bursts."""
    bursts = data.draw(st.lists(st.lists(ACTIONS, min_size=1, max_size=6), min_size=1, max_size=4))
    run_on_virtual_clock(_run_bursts, bursts)


ACTIONS = st.tuples(
    st.sampled_from(["join", "join", "push", "push", "push", "leave", "message"]),
    st.sampled_from(["lobby:a", "lobby:b"]),
    st.integers(0, 2),
)


async def _run_bursts(bursts: list[list[tuple[str, str, int]]]) -> None:
    LOGS.clear()
    async with open_runtime(log=False) as runtime:
        endpoint = Endpoint(sockets={"/socket": LobbySocket})
        server = Server(endpoint, runtime, await endpoint.start_link(port=None))
        client = await server.connect()
        refs: dict[str, str] = {}
        sent: dict[str, list[int]] = {}
        number = 0
        for burst in bursts:
            for action, topic, detail in burst:
                number += 1
                ref = str(number)
                if action == "join":
                    refs[topic] = ref
                    client.send(join(ref, topic, sleep=detail, sends=detail + 1, tag=ref))
                elif action == "message":
                    for pid in server.channels(topic):
                        send(pid, "message")
                elif topic in refs:
                    event = "work" if action == "push" else "phx_leave"
                    client.send((refs[topic], ref, topic, event, {"n": number}))
                    if action == "push":
                        sent.setdefault(f"{topic} {refs[topic]}", []).append(number)
            await trio.sleep(1.5)
        await trio.sleep(20)
        await server.stop()
    for topic, log in LOGS.items():
        _check_log(topic, log, sent)


def _check_log(topic: str, log: list[str], sent: dict[str, list[int]]) -> None:
    """Check what the channels of a topic did, in order: each sets up first, and then works in the client's order."""
    works: dict[str, list[int]] = {}
    ready: dict[str, int] = {}
    for line in log:
        tag, _, what = line.partition(": ")
        if what.startswith("after join"):
            assert not works.get(tag), log
            assert int(what.removeprefix("after join ")) == ready.get(tag, 0)
            ready[tag] = ready.get(tag, 0) + 1
        elif what.startswith("work"):
            works.setdefault(tag, []).append(int(what.removeprefix("work ")))
    for tag, numbers in works.items():
        assert numbers == sent[f"{topic} {tag}"][: len(numbers)], log

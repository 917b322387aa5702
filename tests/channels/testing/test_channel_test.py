"""The test kit for channels: it drives real channels, and its assertions can fail."""

from __future__ import annotations

from typing import Any

import pytest
import trio

import actors
from actors import Crash, Reply, Runtime, Stop, call, cast, current_runtime, is_alive, send
from channels import (
    Binary,
    Broadcast,
    Channel,
    ConnectInfo,
    ConnectRefused,
    EncodeError,
    Endpoint,
    JoinRefused,
    Mount,
    PushReply,
    Route,
    Socket,
    handle_in,
    handle_out,
    reply_to,
)
from channels.pytest_plugin import OpenChannelTest
from channels.testing import (
    ANYTHING,
    ChannelTest,
    ConnectionRefused,
    Expected,
    JoinFailed,
    PushAnswer,
    TestChannel,
    TestClient,
    open_channel_test,
)


class Room(Channel):
    """A channel under the control of the test's pushes."""

    async def join(self, topic: str, payload: Any) -> Any:
        if "refuse" in payload:
            raise JoinRefused({"reason": "unauthorized"})
        if "crash" in payload:
            raise RuntimeError("join")
        if "late" in payload:
            await trio.sleep(payload["late"])
        if "listen" in payload:
            self.endpoint.pubsub.subscribe(payload["listen"])
        self.stubborn = "stubborn" in payload
        if self.stubborn:
            actors.trap_exits()
        return {"assigns": self.assigns}

    @handle_in("ping")
    async def ping(self, payload: Any) -> None:
        self.push("pong", payload)

    @handle_in("echo")
    async def echo(self, payload: Any) -> PushReply:
        return PushReply(payload)

    @handle_in("refuse")
    async def refuse(self, payload: Any) -> PushReply:
        return PushReply({"reason": "no"}, status="error")

    @handle_in("later")
    async def later(self, payload: Any) -> None:
        ref = self.socket_ref()
        await trio.sleep(payload["seconds"])
        reply_to(ref, PushReply({"late": True}))

    @handle_in("tell")
    async def tell(self, payload: Any) -> None:
        self.broadcast("told", payload)

    @handle_in("tell_others")
    async def tell_others(self, payload: Any) -> None:
        self.broadcast_from("told", payload)

    @handle_in("boom")
    async def boom(self, payload: Any) -> None:
        raise RuntimeError("boom")

    @handle_in("stop")
    async def stop(self, payload: Any) -> Stop:
        return Stop(actors.SHUTDOWN, reply=PushReply({"bye": True}))

    @handle_in("unencodable")
    async def unencodable(self, payload: Any) -> None:
        try:
            self.push("bad", {"what": object()})
        except EncodeError as error:
            self.push("problem", {"is": type(error).__name__})

    @handle_in("raw")
    async def raw(self, payload: Any) -> PushReply:
        self.push("raw", Binary(b"pushed"))
        self.broadcast("raw_news", Binary(b"broadcast"))
        return PushReply(Binary(payload.data[::-1]))

    @handle_out("filtered")
    async def filtered(self, payload: Any) -> None:
        self.push("filtered", {**payload, "seen": True})

    async def handle_info(self, message: Any) -> None:
        if message == "shout":
            self.broadcast("shouted", {})
        if isinstance(message, Broadcast):
            self.push("elsewhere", {"topic": message.topic, "payload": message.payload})
            return
        self.push("info", {"message": message})

    async def handle_call(self, request: Any, sender: Any) -> Reply:
        return Reply(request * 2)

    async def handle_cast(self, message: Any) -> None:
        self.push("cast", {"message": message})

    async def terminate(self, reason: Any) -> None:
        if self.stubborn:
            await trio.sleep_forever()
        self.broadcast("terminated", {"reason": repr(reason)})


class UserSocket(Socket):
    channels = {"room:*": Room, "static:*": Route("static:*", Room, {"color": "red"})}

    async def connect(self, params: Any, connect_info: ConnectInfo) -> None:
        if params.get("token") == "bad":
            raise ConnectRefused("bad token")
        self.assigns["user"] = params.get("user", "anonymous")
        self.assigns["agent"] = connect_info.user_agent

    def id(self) -> str | None:
        return f"user:{self.assigns['user']}"


endpoint = Endpoint(sockets={"/socket": UserSocket, "/tenants/:tenant": UserSocket})


@pytest.fixture
async def case(channel_test: OpenChannelTest) -> ChannelTest:
    return await channel_test(endpoint)


@pytest.fixture
async def client(case: ChannelTest) -> TestClient:
    return await case.connect("/socket", {"user": "ann"})


@pytest.fixture
async def room(client: TestClient) -> TestChannel:
    _, room = await client.subscribe_and_join("room:lobby")
    return room


# Connecting


async def test_connect_calls_the_socket_and_its_assigns_reach_the_channel(
    case: ChannelTest,
) -> None:
    info = ConnectInfo(headers=(("user-agent", "test"),))
    client = await case.connect("/socket", {"user": "ann"}, connect_info=info)
    assert client.socket.assigns == {"user": "ann", "agent": "test"}
    answer, _ = await client.join("room:a")
    assert answer == PushAnswer("ok", {"assigns": {"user": "ann", "agent": "test"}})


async def test_a_refused_connection_is_an_error_with_the_status(case: ChannelTest) -> None:
    with pytest.raises(ConnectionRefused) as caught:
        await case.connect("/socket", {"token": "bad"})
    assert caught.value.status == 403


async def test_a_socket_without_connect_has_the_assigns_that_it_is_given(case: ChannelTest) -> None:
    client = await case.socket(UserSocket, id="user:7", assigns={"user_id": 7})
    answer, _ = await client.join("static:a")
    assert answer.response == {"assigns": {"user_id": 7, "color": "red"}}
    endpoint.broadcast("user:7", "disconnect", {})
    assert await client.assert_closed(1001) == 1001


async def test_a_path_with_variables_and_a_path_that_is_not_mounted(case: ChannelTest) -> None:
    client = await case.connect("/tenants/acme", {"user": "bob"})
    assert client.socket.assigns["user"] == "bob"
    with pytest.raises(LookupError, match="no socket is mounted at '/nowhere'"):
        await case.connect("/nowhere")

    class Other(Socket):
        pass

    with pytest.raises(LookupError, match="Other is not mounted"):
        await case.socket(Other)


async def test_a_socket_is_found_at_its_path_without_the_transport_suffix() -> None:
    class Elsewhere(Socket):
        channels = {"room:*": Room}

    class Polled(Socket):
        channels = {"room:*": Room}

    sockets: Any = {
        "/elsewhere": Mount(Elsewhere, path="/live"),
        "/polled": Mount(Polled, websocket=False, longpoll=True),
    }
    async with open_channel_test(Endpoint(sockets=sockets)) as case:
        assert type((await case.connect("/elsewhere")).socket) is Elsewhere
        assert type((await case.connect("/polled/")).socket) is Polled
        assert type((await case.connect(Polled)).socket) is Polled


# Joining


async def test_a_refused_join_is_an_answer_and_fails_subscribe_and_join(client: TestClient) -> None:
    answer, channel = await client.join("room:a", {"refuse": True})
    assert answer == PushAnswer("error", {"reason": "unauthorized"})
    assert channel.pid is None
    with pytest.raises(JoinFailed) as caught:
        await client.subscribe_and_join("room:a", {"refuse": True})
    assert (caught.value.status, caught.value.response) == ("error", {"reason": "unauthorized"})


async def test_a_join_that_crashes_is_answered_as_clients_see_it(client: TestClient) -> None:
    answer, _ = await client.join("room:a", {"crash": True})
    assert answer == PushAnswer("error", {"reason": "join crashed"})


async def test_a_topic_that_no_channel_serves_is_answered_as_clients_see_it(
    client: TestClient,
) -> None:
    answer, _ = await client.join("nowhere")
    assert answer == PushAnswer("error", {"reason": "unmatched topic"})


async def test_a_join_that_takes_too_long_fails_the_assertion(client: TestClient) -> None:
    with pytest.raises(Expected, match="an answer to push 1 on 'room:a'"):
        await client.join("room:a", {"late": 5})
    answer, _ = await client.join("room:b", {"late": 5}, timeout=6)
    assert answer.status == "ok"


# Pushes and replies


async def test_pushes_are_answered_and_pushed(room: TestChannel) -> None:
    ref = room.push("echo", {"a": [1, {"b": None}]})
    assert await room.assert_reply(ref, "ok", {"a": [1, {"b": None}]}) == {"a": [1, {"b": None}]}
    ref = room.push("refuse")
    await room.assert_reply(ref, "error", {"reason": "no"})
    room.push("ping", {"n": 1})
    assert await room.assert_push("pong", {"n": ANYTHING}) == {"n": 1}


async def test_an_assertion_takes_only_its_own_message(room: TestChannel) -> None:
    room.push("ping", {"n": 1})
    room.push("ping", {"n": 2})
    await room.assert_push("pong", {"n": 2})
    await room.assert_push("pong", {"n": 1})
    await room.refute_push("pong")


async def test_an_assertion_may_be_a_function(room: TestChannel) -> None:
    room.push("ping", {"n": 5})
    await room.assert_push("pong", lambda payload: payload["n"] > 3)
    with pytest.raises(Expected):
        room.push("ping", {"n": 2})
        await room.assert_push("pong", lambda payload: payload["n"] > 3)
    ref = room.push("echo", {"n": 5})
    await room.assert_reply(
        ref, lambda status: status != "error", lambda response: response["n"] == 5
    )
    room.push("tell", {"n": 7})
    await room.assert_broadcast("told", lambda payload: payload["n"] == 7)
    await room.refute_broadcast("told", lambda payload: payload["n"] == 7)


async def test_any_task_may_connect_join_push_and_assert(case: ChannelTest) -> None:
    done: list[str] = []

    async def visit(name: str) -> None:
        client = await case.connect("/socket", {"user": name})
        response, room = await client.subscribe_and_join("room:a")
        room.push("tell", {"name": name})
        await room.assert_push("told", {"name": name})
        await room.assert_broadcast("told", {"name": name})
        done.append(response["assigns"]["user"])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(visit, "ann")
        nursery.start_soon(visit, "bob")
    assert sorted(done) == ["ann", "bob"]


async def test_a_missing_message_fails_with_the_received_messages(room: TestChannel) -> None:
    ref = room.push("echo", {"n": 1})
    started = trio.current_time()
    with pytest.raises(Expected) as caught:
        await room.assert_reply(ref, "error")
    assert trio.current_time() - started == pytest.approx(0.1)
    text = str(caught.value)
    assert text.startswith("expected the answer 'error' to push 2 with ANYTHING on 'room:lobby'")
    assert "{'status': 'ok', 'response': {'n': 1}}" in text


async def test_a_refuted_message_fails_the_assertion_early_or_late(
    room: TestChannel,
) -> None:
    ref = room.push("later", {"seconds": 0.05})
    with pytest.raises(Expected, match="no answer"):
        await room.refute_reply(ref)
    ref = room.push("later", {"seconds": 0.2})
    await room.refute_reply(ref)
    await room.assert_reply(ref, "ok", {"late": True}, timeout=1)


async def test_binary_payloads_travel_both_ways(room: TestChannel) -> None:
    ref = room.push("raw", Binary(b"abc"))
    await room.assert_reply(ref, "ok", Binary(b"cba"))
    await room.assert_push("raw", Binary(b"pushed"))
    await room.assert_push("raw_news", Binary(b"broadcast"))
    await room.assert_broadcast("raw_news", Binary(b"broadcast"))


async def test_a_payload_that_cannot_be_encoded_fails_in_tests_too(room: TestChannel) -> None:
    room.push("unencodable")
    await room.assert_push("problem", {"is": "EncodeError"})


# Broadcasts


async def test_broadcasts_reach_the_test_and_the_clients(
    case: ChannelTest, room: TestChannel
) -> None:
    other = await case.connect("/socket")
    _, theirs = await other.join("room:lobby")
    room.push("tell", {"n": 1})
    await room.assert_broadcast("told", {"n": 1})
    await room.assert_push("told", {"n": 1})
    await theirs.assert_push("told", {"n": 1})
    room.push("tell_others", {"n": 2})
    await room.assert_broadcast("told", {"n": 2})
    await theirs.assert_push("told", {"n": 2})
    await room.refute_push("told")
    await room.refute_broadcast("told")


async def test_broadcast_from_reaches_the_channel_and_its_client_but_not_the_test(
    room: TestChannel,
) -> None:
    room.broadcast_from("filtered", {"n": 1})
    await room.assert_push("filtered", {"n": 1, "seen": True})
    await room.refute_broadcast("filtered")


async def test_a_test_cannot_assert_broadcasts_of_a_topic_without_a_subscription(
    case: ChannelTest,
) -> None:
    with pytest.raises(LookupError, match="has not subscribed to 'room:a'"):
        await case.assert_broadcast("room:a", "told")
    with pytest.raises(LookupError, match="has not subscribed to 'room:a'"):
        await case.refute_broadcast("room:a", "told")
    await case.subscribe("room:a")
    await case.subscribe("room:a")
    endpoint.broadcast("room:a", "told", {})
    await case.assert_broadcast("room:a", "told")
    await case.refute_broadcast("room:a", "told")


# Other processes


async def test_the_channels_process_can_be_called_cast_and_sent_to(room: TestChannel) -> None:
    assert await call(room.pid, 21) == 42
    cast(room.pid, "x")
    await room.assert_push("cast", {"message": "x"})
    send(room.pid, "y")
    await room.assert_push("info", {"message": "y"})
    send(room.pid, "shout")
    await room.assert_broadcast("shouted", {})


async def test_a_channel_receives_broadcasts_of_other_subscriptions(client: TestClient) -> None:
    _, room = await client.join("room:a", {"listen": "news"})
    endpoint.broadcast("news", "flood", {"metres": 2})
    await room.assert_push("elsewhere", {"topic": "news", "payload": {"metres": 2}})


# The end


async def test_leaving_is_answered_and_closes(room: TestChannel) -> None:
    ref = room.leave()
    await room.assert_reply(ref, "ok", {})
    await room.assert_push("phx_close")
    await room.assert_broadcast("terminated", {"reason": "Shutdown(detail='left')"})
    assert room.pid is not None
    assert not is_alive(room.pid)


async def test_close_waits_for_the_end_and_kills_at_last(client: TestClient) -> None:
    _, room = await client.join("room:a")
    await room.close()
    assert room.pid is not None
    assert not is_alive(room.pid)
    _, stubborn = await client.join("room:b", {"stubborn": True})
    assert stubborn.pid is not None
    started = trio.current_time()
    await stubborn.close(timeout=2)
    assert not is_alive(stubborn.pid)
    assert trio.current_time() - started == pytest.approx(2)


async def test_a_stop_with_a_reply(room: TestChannel) -> None:
    ref = room.push("stop")
    await room.assert_reply(ref, "ok", {"bye": True})
    await room.assert_push("phx_close")


async def test_a_client_sees_a_crash_and_a_monitor_sees_its_reason(
    client: TestClient, room: TestChannel
) -> None:
    assert room.pid is not None
    room.push("boom")
    assert await room.assert_push("phx_error") == {"reason": "channel_crash"}
    reason = await actors.wait_exit(room.pid)
    assert reason == actors.NOPROC or reason == Crash(RuntimeError("boom"))
    again, rejoined = await client.join("room:lobby")
    assert again.status == "ok"
    await rejoined.refute_push("phx_error")


async def test_the_channels_of_a_client_that_disconnects_end(
    client: TestClient, room: TestChannel
) -> None:
    await client.disconnect()
    await room.assert_broadcast("terminated")
    assert not is_alive(client.pid)
    await client.disconnect()


async def test_a_disconnect_of_a_user_closes_with_1001(
    client: TestClient, room: TestChannel
) -> None:
    endpoint.broadcast("user:ann", "disconnect", {})
    await client.assert_closed(1001)
    await room.assert_broadcast("terminated", {"reason": "Shutdown(detail='disconnected')"})


async def test_an_invalid_message_closes_with_1011(client: TestClient) -> None:
    client.send_message({}, ["no", "event"], join_ref=3, ref=1)
    with pytest.raises(Expected, match="the server to close the connection with 1011"):
        await client.assert_closed(1011)
    client.send_frame(b"no")
    assert await client.assert_closed() == 1011


async def test_a_push_of_an_earlier_join_gets_no_answer(
    client: TestClient, room: TestChannel
) -> None:
    _, again = await client.join("room:lobby")
    ref = room.push("echo", {"n": 1})
    await room.refute_reply(ref)
    ref = again.push("echo", {"n": 2})
    await again.assert_reply(ref, "ok", {"n": 2})
    again.push("ping", {"n": 3})
    await room.refute_push("pong")
    await again.assert_push("pong", {"n": 3})


async def test_a_client_that_was_rate_limited_may_push_again_after_the_wait(
    channel_test: OpenChannelTest,
) -> None:
    limited = Mount(UserSocket, max_messages_per_second=0.1)
    case = await channel_test(Endpoint(sockets={"/socket": limited}))
    client = await case.connect()
    _, room = await client.subscribe_and_join("room:a")
    await room.assert_reply(room.push("echo"), "ok")
    refused = await room.receive_reply(room.push("echo"))
    assert refused.response == {"reason": "rate limited", "retry_after_ms": ANYTHING}
    await trio.sleep(refused.response["retry_after_ms"] / 1000)
    await room.assert_reply(room.push("echo"), "ok")


# Around tests


async def test_an_endpoint_that_ran_in_a_test_can_run_again_and_listens_as_before() -> None:
    listen = endpoint.listen
    for _ in range(2):
        async with open_channel_test(endpoint) as case:
            runtime = current_runtime()
            client = await case.connect()
            await client.join("room:a")
        assert runtime.statistics()["processes"] == 0
    assert endpoint.listen is listen


async def test_open_channel_test_uses_an_open_runtime(channel_test: OpenChannelTest) -> None:
    await channel_test(endpoint)
    other = Endpoint(sockets={"/socket": Mount(UserSocket)})
    runtime: Runtime = current_runtime()
    await channel_test(other)
    assert current_runtime() is runtime


def test_anything_equals_every_value() -> None:
    assert [ANYTHING, {"a": ANYTHING}] == [1, {"a": 2}]
    assert repr({"a": ANYTHING}) == "{'a': ANYTHING}"
    assert len({ANYTHING, ANYTHING}) == 1


async def test_the_time_of_day_follows_the_virtual_clock(case: ChannelTest) -> None:
    before = current_runtime().now()
    await trio.sleep(3600)
    assert current_runtime().now() == pytest.approx(before + 3600, abs=1e-3)

"""The log: one line for each event that concerns a reader, without forgeries of clients."""

from __future__ import annotations

import asyncio
import logging
import re
from typing import Any

import pytest
import trio
from attrs import evolve

from actors import Pid, Telemetry, kill, send
from actors.errors import ASYNCIO_ADVICE
from actors.instrumentation import logger as actors_logger
from actors.instrumentation.logger import CRASH
from channels import (
    Channel,
    Draining,
    Endpoint,
    InvalidHandler,
    Mount,
    PubSub,
    Route,
    Socket,
    sign,
    verify,
)
from channels import logger as channels_logger
from channels.connect_info import ConnectInfo
from channels.protocol.session import Session
from channels.telemetry import (
    CHANNEL_HANDLED_IN,
    CHANNEL_JOINED,
    SOCKET_CONNECTED,
    SOCKET_SESSION_REFUSED,
    SOCKET_UNSUPPORTED,
)
from channels.testing import JoinedNodes
from supervision import Supervisor
from tests.channels.conftest import Serve
from tests.channels.polling import Poller
from tests.channels.rooms import Room, UserSocket
from tests.channels.support import UPGRADE, Gate, head, settle
from tests.channels.transports.frames import TEXT, client_frame


@pytest.fixture(name="lines")
def collect_lines(caplog: pytest.LogCaptureFixture) -> Any:
    caplog.set_level(logging.INFO, "channels")
    return lambda: [
        f"{record.levelname} {record.getMessage()}"
        for record in caplog.records
        if record.name in ("channels", "channels.drain")
    ]


async def test_connections_and_joins_are_logged_in_one_line_each(serve: Serve, lines: Any) -> None:
    server = await serve(Endpoint(sockets={"/socket": UserSocket}))
    client = await server.connect()
    await client.join()
    await client.exchange(("2", "2", "room:b", "phx_join", {"refuse": {}, "sleep": 0.002}))
    await trio.sleep(1)
    refused = await server.accept()
    refused.write(head("/socket/websocket?vsn=2.0.0&token=deny"))
    await settle()
    assert lines() == [
        "INFO CONNECTED TO UserSocket in 0µs, parameters {'vsn': '2.0.0'}",
        "INFO JOINED room:a in 0µs, parameters {}",
        "INFO REFUSED JOIN room:b in 2ms, parameters {'refuse': {}, 'sleep': 0.002}",
        (
            "INFO REFUSED CONNECTION TO UserSocket in 0µs, because 'token', "
            "parameters {'token': '[FILTERED]', 'vsn': '2.0.0'}"
        ),
    ]


async def test_a_socket_that_can_only_be_polled_is_logged_too(serve: Serve, lines: Any) -> None:
    server = await serve(
        Endpoint(sockets={"/socket": Mount(UserSocket, websocket=False, longpoll=True)})
    )
    poller = Poller(server)
    await poller.ask("GET")
    assert lines() == ["INFO CONNECTED TO UserSocket in 0µs, parameters {'vsn': '2.0.0'}"]


async def test_a_refused_token_is_logged_without_the_token(serve: Serve, lines: Any) -> None:
    class Trusting(UserSocket):
        async def connect(self, params: dict[str, Any], connect_info: Any) -> None:
            verify("s" * 20, "user", params.get("token"), now=2e9)

    server = await serve(Endpoint(sockets={"/socket": Trusting}))
    genuine = sign("s" * 20, "user", 7, signed_at=1e9, max_age=60)
    other_salt = sign("s" * 20, "invitation", 7, signed_at=2e9)
    changed = genuine[:-2] + ("A" if genuine[-2] != "A" else "B") + genuine[-1]
    answers = []
    for query in ("", f"&token={genuine}", f"&token={changed}", f"&token={other_salt}"):
        client = await server.accept()
        client.write(head(f"/socket/websocket?vsn=2.0.0{query}"))
        await settle()
        answers.append(client.answer())
    assert answers[0] is not None
    assert all(answer == answers[0] for answer in answers)
    assert (answers[0].status, answers[0].body) == (403, b"")
    missing, expired, tampered, salt = (line.split("because ")[1] for line in lines())
    assert missing.startswith("the client sent no token")
    assert expired.startswith("the token has expired: it is 1000000000 seconds old")
    assert tampered == salt
    assert tampered.startswith(
        "the token is not valid: someone changed it, or made it with another"
    )
    assert not any(token in line for line in lines() for token in (genuine, changed, other_salt))


async def test_a_connect_that_raises_is_logged_with_its_traceback(
    serve: Serve, lines: Any, caplog: pytest.LogCaptureFixture
) -> None:
    server = await serve(Endpoint(sockets={"/socket": UserSocket}))
    client = await server.accept()
    client.write(head("/socket/websocket?vsn=2.0.0&token=crash"))
    await settle()
    assert lines() == ["ERROR UserSocket.connect raised; the client got HTTP 500"]
    assert "RuntimeError: connect" in caplog.text


async def test_a_connect_that_uses_asyncio_is_logged_with_the_trio_counterpart(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    class AsyncioSocket(Socket):
        async def connect(self, params: Any, connect_info: ConnectInfo) -> None:
            await asyncio.sleep(1)

    server = await serve(Endpoint(sockets={"/socket": AsyncioSocket}))
    client = await server.accept()
    client.write(head("/socket/websocket?vsn=2.0.0"))
    await settle()
    assert "AsyncioSocket.connect raised" in caplog.text
    assert ASYNCIO_ADVICE in caplog.text


async def test_a_malformed_message_and_a_slow_reader_are_warnings(serve: Serve, lines: Any) -> None:
    server = await serve(Endpoint(sockets={"/socket": UserSocket}, max_buffered_messages=1))
    gate = Gate()
    bad, slow = await server.connect(), await server.connect(gate=gate)
    await slow.join()
    bad.write(client_frame(TEXT, b"no") * 3)
    await settle()
    gate.shut()
    for _ in range(3):
        server.endpoint.broadcast("room:a", "shouted", {})
        await settle()
    warnings = [line for line in lines() if line.startswith("WARNING")]
    assert warnings == [
        (
            f"WARNING Closing {bad.process!r} with 1011: a client sent a frame that is not a message of vsn 2.0.0: "
            "Input data was truncated"
        ),
        f"WARNING Closing {slow.process!r} with 1013: the client reads too slowly; the server discarded 1 frames",
    ]
    gate.opened.set()


async def test_a_topic_can_neither_forge_a_line_nor_fill_the_log(serve: Serve, lines: Any) -> None:
    class OpenSocket(UserSocket):
        channels = {"*": Route("*", Room)}

    server = await serve(Endpoint(sockets={"/socket": OpenSocket}))
    client = await server.connect()
    await client.join("a\nERROR forged", "1")
    await client.join("x" * 100_000, "2")
    assert all("\n" not in line for line in lines())
    assert all(len(line) < 200 for line in lines())
    assert "INFO JOINED a\\nERROR forged in 0µs, parameters {}" in lines()


@pytest.fixture(name="everything")
async def log_everything(runtime: Any, caplog: pytest.LogCaptureFixture) -> Any:
    caplog.set_level(logging.DEBUG)
    detach = actors_logger.attach(runtime.telemetry)
    yield lambda: caplog.text
    detach()


@pytest.mark.parametrize("where", ["event", "topic", "payload", "join_ref", "ref"])
async def test_parameters_of_clients_are_cut_in_the_log(
    serve: Serve, everything: Any, where: str
) -> None:
    class Careless(Room):
        async def handle_in(self, event: str, payload: Any) -> Any:
            if event == "quote":
                raise ValueError(f"what is {payload!r}?")
            if event == "return":
                return payload
            return await super().handle_in(event, payload)

    class OpenSocket(UserSocket):
        channels = {"*": Careless}

    server = await serve(Endpoint(sockets={"/socket": OpenSocket}))
    client = await server.connect()
    long = "x" * 1_000_000
    topic = long if where == "topic" else "room:a"
    join_ref = long if where == "join_ref" else "1"
    ref = long if where == "ref" else "2"
    payload = {"body": long} if where == "payload" else {}
    for event in (long if where == "event" else "unknown", "quote", "return"):
        await client.exchange((join_ref, "1", topic, "phx_join", payload))
        await client.exchange((join_ref, ref, topic, event, payload))
    # A client whose refs are too long is not a client of the protocol, and is closed.
    assert ("1011" if where.endswith("ref") else "crashed") in everything()
    assert len(everything()) < 60_000


async def test_a_session_without_its_csrf_token_logs_a_warning(serve: Serve, lines: Any) -> None:
    mount = Mount(UserSocket, session=lambda cookies: {"_csrf_token": "right"} if cookies else None)
    bare = Mount(UserSocket, session=lambda cookies: {"user": 1}, path="/bare")
    server = await serve(Endpoint(sockets={"/socket": mount, "/other": bare}))
    heard = server.listen(SOCKET_SESSION_REFUSED)
    cookie = UPGRADE + "cookie: a=b\r\n"
    for path, headers in (
        ("/socket/websocket?vsn=2.0.0", UPGRADE),
        ("/socket/websocket?vsn=2.0.0&_csrf_token=right", cookie),
        ("/socket/websocket?vsn=2.0.0", cookie),
        ("/socket/websocket?vsn=2.0.0&_csrf_token=wrong", cookie),
        ("/other/bare?vsn=2.0.0&_csrf_token=right", cookie),
    ):
        client = await server.accept()
        client.write(head(path, headers))
        await settle()
    missing, wrong, nothing = (line for line in lines() if line.startswith("WARNING"))
    assert missing.startswith(
        "WARNING UserSocket ignored the session of a client: the parameter '_csrf_token' is missing; send"
    )
    assert wrong.endswith("the parameter '_csrf_token' is not the token of this session")
    assert "the session has no '_csrf_token' to compare the token with" in nothing
    assert [about["socket"] for _, about in heard] == [UserSocket] * 3
    assert server.endpoint.statistics()["counts"][SOCKET_SESSION_REFUSED] == 3


async def test_a_request_that_cannot_become_a_websocket_is_logged_as_refused(
    serve: Serve, lines: Any
) -> None:
    server = await serve(Endpoint(sockets={"/socket": UserSocket}))
    client = await server.accept()
    client.write(head("/socket/websocket?vsn=2.0.0", "host: test\r\n"))
    await settle()
    (line,) = lines()
    assert line.startswith("INFO REFUSED CONNECTION TO UserSocket in 0µs, because ")
    assert "'connection' header must contain 'upgrade'" in line


async def test_refusals_are_counted_even_if_they_are_not_logged(serve: Serve) -> None:
    server = await serve(Endpoint(sockets={"/socket": UserSocket}))
    client = await server.accept()
    client.write(head("/socket/websocket?vsn=2.0.0&token=deny"))
    await settle()
    assert server.endpoint.statistics()["counts"]["socket", "refused"] == 1


@pytest.mark.parametrize("child", ["flusher", "poller", "quiet_poller", "listener", "application"])
async def test_a_restart_of_a_child_of_the_endpoint_logs_an_error(
    serve: Serve, caplog: pytest.LogCaptureFixture, child: str
) -> None:
    caplog.set_level(logging.ERROR)
    server = await serve(Endpoint(sockets={"/socket": UserSocket}))
    other = await serve(Endpoint(sockets={"/socket": UserSocket}))
    (pid,) = [each.pid for each in await Supervisor.which_children(server.pid) if each.id == child]
    assert isinstance(pid, Pid)
    kill(pid)
    await settle()
    assert [
        f"{record.name} {record.levelname} {record.getMessage()}" for record in caplog.records
    ] == [
        f"channels ERROR The endpoint {server.pid!r} restarted its child {child!r}, which ended: KILLED"
    ]
    await other.stop()


async def test_an_endpoint_that_gives_up_logs_an_error(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    server = await serve(Endpoint(sockets={"/socket": UserSocket}))
    for _ in range(4):
        for each in await Supervisor.which_children(server.pid):
            if each.id == "flusher" and isinstance(each.pid, Pid):
                kill(each.pid)
        await settle()
    assert caplog.messages[-1] == (
        f"The endpoint {server.pid!r} stops after more than 3 restarts within 5 s, the last of its child 'flusher': "
        "KILLED"
    )


async def test_two_endpoints_in_one_runtime_are_each_logged_once_and_independently(
    serve: Serve, lines: Any, caplog: pytest.LogCaptureFixture
) -> None:
    pubsub = PubSub()
    one = await serve(Endpoint(sockets={"/socket": UserSocket}, pubsub=pubsub))
    other = await serve(Endpoint(sockets={"/socket": UserSocket}, pubsub=pubsub))
    await one.connect()
    assert len(lines()) == 1
    await one.stop()
    caplog.clear()
    await other.connect()
    assert lines() == ["INFO CONNECTED TO UserSocket in 0µs, parameters {'vsn': '2.0.0'}"]


async def test_draining_is_logged_batch_by_batch(serve: Serve, lines: Any) -> None:
    draining = Draining(batch_size=2, batch_interval=1.0)
    server = await serve(Endpoint(sockets={"/socket": UserSocket}, draining=draining))
    for _ in range(3):
        await server.connect()
    await server.stop()
    assert lines()[3:] == [
        "INFO Draining 2 of 3 clients (round 1 of 2)",
        "INFO Draining 1 of 3 clients (round 2 of 2)",
    ]


def test_no_handler_is_attached_for_a_disabled_level() -> None:
    telemetry = Telemetry()
    level = logging.getLogger("channels").level
    try:
        logging.getLogger("channels").setLevel(logging.ERROR)
        detach = channels_logger.attach(telemetry)
        assert telemetry.handlers(SOCKET_CONNECTED) == ()
        detach()
        logging.getLogger("channels").setLevel(logging.INFO)
        detach = channels_logger.attach(telemetry)
        assert len(telemetry.handlers(SOCKET_CONNECTED)) == 1
        detach()
        assert telemetry.handlers(SOCKET_CONNECTED) == ()
    finally:
        logging.getLogger("channels").setLevel(level)


class Loud(Room):
    log_join = "warning"
    log_handle_in = "info"


class Quiet(Room):
    log_join = None
    log_handle_in = None


async def test_each_channel_sets_the_log_level_of_its_joins_and_pushes(
    serve: Serve, lines: Any
) -> None:
    class Mixed(UserSocket):
        channels = {"loud:*": Loud, "quiet:*": Quiet, "phoenix:*": Loud, "room:*": Room}

    server = await serve(Endpoint(sockets={"/socket": Mixed}))
    client = await server.connect()
    for number, topic in enumerate(("loud:a", "quiet:a", "phoenix:a", "room:a")):
        join, push = str(2 * number), str(2 * number + 1)
        await client.exchange((join, join, topic, "phx_join", {"answer": {}}))
        await client.exchange((join, push, topic, "push", {"n": 1, "password": "x"}))
    assert lines()[1:] == [
        "WARNING JOINED loud:a in 0µs, parameters {'answer': {}}",
        "INFO HANDLED push INCOMING ON loud:a (Loud) in 0µs, parameters {'n': 1, 'password': '[FILTERED]'}",
        "INFO JOINED room:a in 0µs, parameters {'answer': {}}",
    ]


async def test_no_handler_is_attached_for_pushes_if_no_channel_logs_them(
    serve: Serve, lines: Any
) -> None:
    server = await serve(Endpoint(sockets={"/socket": UserSocket}))
    assert not server.runtime.telemetry.handlers(CHANNEL_HANDLED_IN)
    assert server.runtime.telemetry.handlers(CHANNEL_JOINED)


async def test_a_refused_payload_is_logged_at_debug(
    serve: Serve, lines: Any, caplog: pytest.LogCaptureFixture
) -> None:
    class Strict(Room):
        async def join(self, topic: str, payload: list[int]) -> Any:
            return None

    class StrictSocket(UserSocket):
        channels = {"room:*": Strict}

    caplog.set_level(logging.DEBUG, "channels")
    server = await serve(Endpoint(sockets={"/socket": StrictSocket}))
    client = await server.connect()
    await client.exchange(("1", "1", "room:a", "phx_join", {}))
    assert (
        "DEBUG Strict refused the payload of phx_join ON room:a: the payload: expected array, got object"
        in lines()
    )


async def test_each_socket_sets_the_log_level_of_its_connections(serve: Serve, lines: Any) -> None:
    class LoudSocket(UserSocket):
        log = "warning"

    class QuietSocket(UserSocket):
        log = None

    server = await serve(Endpoint(sockets={"/loud": LoudSocket, "/quiet": QuietSocket}))
    await server.connect("/quiet")
    await server.connect("/loud")
    assert lines() == ["WARNING CONNECTED TO LoudSocket in 0µs, parameters {'vsn': '2.0.0'}"]


async def test_an_unhandled_message_logs_a_warning(serve: Serve, lines: Any) -> None:
    class Deaf(Channel):
        pass

    class DeafSocket(UserSocket):
        channels = {"room:*": Deaf}

    server = await serve(Endpoint(sockets={"/socket": DeafSocket}))
    client = await server.connect()
    await client.join()
    send(server.channel("room:a"), "hello")
    await settle()
    assert lines()[-1] == "WARNING Deaf for room:a got the message 'hello' but has no handle_info"


def test_an_unknown_log_level_is_an_invalid_handler() -> None:
    class Deafening(Room):
        log_join = "loud"  # type: ignore[assignment]

    class DeafeningSocket(UserSocket):
        channels = {"room:*": Deafening}

    with pytest.raises(InvalidHandler, match="log_join is 'loud'; write one of 'debug'"):
        Endpoint(sockets={"/socket": DeafeningSocket}).check()

    class LoudSocket(UserSocket):
        log = "loud"  # type: ignore[assignment]

    with pytest.raises(InvalidHandler, match=r"LoudSocket\.log is 'loud'; write one of 'debug'"):
        Endpoint(sockets={"/socket": LoudSocket}).check()


async def test_an_unsupported_protocol_is_logged_without_the_token(
    serve: Serve, lines: Any
) -> None:
    sockets = {
        "/socket": Mount(UserSocket, longpoll=True),
        "/picky": Mount(UserSocket, subprotocols=["chat.v1"], auth_token=True),
    }
    server = await serve(Endpoint(sockets=sockets))
    client = await server.accept()
    client.write(head("/socket/websocket?vsn=3.0.0"))
    await Poller(server, query="vsn[]=2.0.0").ask("GET")
    for offer in ("soap", "phoenix, base64url.bearer.phx.?secret"):
        client = await server.accept()
        headers = f"host: test\r\nsec-websocket-protocol: {offer}\r\n"
        client.write(head("/picky/websocket?vsn=2.0.0", headers))
    await settle()
    spoken = "of the protocol; this socket supports ~> 1.0.0, ~> 2.0.0"
    picky = "it offered none of the supported subprotocols (chat.v1), or its token is not base64"
    assert lines() == [
        f"WARNING UserSocket refused a client: it asked for version '3.0.0' {spoken}",
        f"WARNING UserSocket refused a client: it asked for version ['2.0.0'] {spoken}",
        *[f"WARNING UserSocket refused a client: {picky}"] * 2,
    ]
    assert server.endpoint.statistics()["counts"] == {SOCKET_UNSUPPORTED: 4}


async def test_a_crash_report_of_a_connection_hides_the_data_of_its_client(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("a bug of ours")

    server = await serve(Endpoint(sockets={"/socket": Mount(UserSocket, longpoll=True)}))
    short, long = await server.connect(), await server.connect()
    poller = await Poller(server).open()
    crashes = server.listen(CRASH)
    monkeypatch.setattr(Session, "receive", fail)
    short.send(("1", "1", "room:a", "phx_join", {"password": "s3same"}))
    long.send(("1", "1", "room:a", "phx_join", {"password": "s3same" * 1000}))
    await poller.send(("1", "1", "room:a", "phx_join", {"password": "s3same"}))
    await settle()
    of_the_short, of_the_long, of_the_poller = sorted(
        (about for _, about in crashes), key=lambda about: about["pid"].number
    )
    for about in (of_the_short, of_the_long):
        assert re.fullmatch(r"<\d+ bytes>", about["last_message"])
    assert "s3same" not in repr((of_the_short, of_the_long, of_the_poller))


def test_the_log_visits_only_as_many_parameters_as_it_shows() -> None:
    class Looked(list[Any]):
        looked_at = 0

        def __getitem__(self, key: Any) -> Any:
            found = super().__getitem__(key)
            Looked.looked_at += len(found)
            return found

    shown = channels_logger._Parameters(()).shown(Looked([Looked(range(50_000))] * 50_000))
    assert Looked.looked_at <= 21 * 21 + 21
    assert shown.endswith("...]")
    deep: Any = []
    for _ in range(900):
        deep = [deep]
    assert "..." in channels_logger._Parameters(()).shown(deep)


async def test_a_client_that_is_held_back_is_logged(serve: Serve, lines: Any) -> None:
    server = await serve(Endpoint(sockets={"/socket": UserSocket}))
    client = await server.connect()
    long = b'[null,"1","phoenix","heartbeat","' + b"x" * 8_000_000 + b'"]'
    client.write(client_frame(TEXT, long))
    await settle()
    assert "the server handles it in more than 100 turns of the scheduler" in lines()[-1]


async def test_a_lack_of_memory_is_logged_once_in_ten_seconds(serve: Serve, lines: Any) -> None:
    server = await serve(Endpoint(sockets={"/socket": UserSocket}, max_total_incoming_bytes=1000))
    out_of_memory = server.services.transports.pollers["poller"].on_out_of_memory

    async def attack() -> None:
        for _ in range(3):
            out_of_memory(5)
            client = await server.connect()
            client.write(client_frame(TEXT, b"x" * 2000)[:-1])
            await settle()

    before = len(lines())
    await attack()
    first = [line for line in lines()[before:] if "CONNECTED" not in line]
    assert len(first) == 2
    assert first[0].startswith("ERROR Not enough memory to read from clients: 5 reads failed")
    assert "with 1013" in first[1]
    assert "1 such clients since the last line" in first[1]
    before = len(lines())
    await trio.sleep(11)
    await attack()
    second = [line for line in lines()[before:] if "CONNECTED" not in line]
    assert len(second) == 2
    assert "15 reads failed" in second[0]
    assert "3 such clients since the last line" in second[1]


async def test_an_expired_connection_is_logged_for_debugging(
    serve: Serve, lines: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "channels")
    server = await serve(Endpoint(sockets={"/socket": UserSocket}))
    await server.connect(query="&expire=3")
    await trio.sleep(3.1)
    assert "with 3000: the time of the connection is over" in lines()[-1]


async def test_a_client_beyond_a_rate_limit_is_logged_once(serve: Serve, lines: Any) -> None:
    mount = Mount(UserSocket, max_messages_per_second=0.1)
    client = await (await serve(Endpoint(sockets={"/socket": mount}))).connect()
    await client.join()
    for _ in range(4):
        await client.exchange(("1", "2", "room:a", "echo"))
    logged = [line for line in lines() if "max_messages_per_second" in line]
    (line,) = logged
    assert line.startswith(f"INFO The client of {client.process!r} sends more than")


async def test_a_client_that_a_limit_refuses_is_logged_with_the_limit(
    serve: Serve, lines: Any
) -> None:
    mount = Mount(UserSocket, longpoll=True)
    server = await serve(Endpoint(sockets={"/socket": mount}, max_sessions=1))
    await Poller(server).open()
    await Poller(server).ask("GET")
    assert "Refused a client with HTTP status 503" in lines()[-1]
    assert "because max_sessions allows no more clients" in lines()[-1]


async def test_what_is_lost_between_the_nodes_of_a_polling_client_is_logged(
    serve: Serve, lines: Any
) -> None:
    nodes = JoinedNodes()
    mount = Mount(UserSocket, longpoll=True)
    servers = [
        await serve(
            Endpoint(
                sockets={"/socket": mount},
                pubsub=PubSub(nodes.adapter(name)),
                secret_key_base="the secret of both nodes",
            )
        )
        for name in "ab"
    ]
    poller = await Poller(servers[0]).open()
    await poller.join()
    nodes.loses = lambda one, other, lane, data: b'"kind":"answer"' in data
    servers[0].endpoint.broadcast("room:a", "new", {})
    await evolve(poller, server=servers[1]).begin("GET")
    await trio.sleep(3)
    lost = "another node did not confirm the last messages (1) in time, and its client must not miss any"
    assert [line for line in lines() if line.endswith(lost)]
    nodes.isolate("a")
    await evolve(poller, server=servers[1]).begin("POST", b"")
    await trio.sleep(3)
    assert lines()[-1] == (
        "INFO A request of a polling client did not get through between this node and node 'a': "
        "no sign of the session within 2 s"
    )

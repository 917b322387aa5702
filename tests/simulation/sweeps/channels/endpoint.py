"""Connections from start to end: admission, handshakes, timeouts, limits, slow clients, violations, draining, crashes.

    ashtree simulate tests.simulation.sweeps.channels.endpoint:connections --seeds 1-1000

Each run takes two of the cases below, each with its own endpoint and random numbers.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Awaitable, Callable, Sequence
from random import Random
from typing import Any

import trio

from actors import Pid, Shutdown, kill, stop
from channels import (
    Channel,
    ConnectRefused,
    Draining,
    Endpoint,
    LongPoll,
    Mount,
    PushReply,
    Refusal,
    Socket,
    handle_in,
)
from channels.connection.session_server import WAITING_LIMIT
from channels.telemetry import ENDPOINT_DRAIN
from supervision import DynamicSupervisor, Supervisor
from supervision.simulation import World
from tests.laws.scenarios import scenario
from tests.simulation.sweeps.bounds import small_bounds
from tests.simulation.sweeps.channels.clients import CLOSE, PING, PORT, TEXT, Client
from tests.simulation.sweeps.channels.room import CHECKED, Ledger, Life, UserSocket

SLACK = 0.9
"""The most seconds that the network and the clock add to an exact time."""


class Case:
    """One endpoint, and its clients."""

    def __init__(self, world: World, nursery: trio.Nursery, name: str) -> None:
        self.world = world
        self.nursery = nursery
        self.name = name
        self.random: Random = world.random(name)
        self.ledger = Ledger()
        self.endpoint: Endpoint = None  # type: ignore[assignment] # `start` sets it
        self.pid: Any = None
        self.made = 0

    def check(self, holds: object, problem: str) -> None:
        self.world.check(holds, f"{self.name}: {problem}")

    async def start(self, socket: type[Socket] = UserSocket, **options: Any) -> None:
        """Start an endpoint. The `Endpoint` gets the options that it knows, and its `Mount` gets the others."""
        known = ("draining", "head_timeout", "http")
        for_endpoint = {
            key: value
            for key, value in options.items()
            if key in known or (key.startswith("max_") and key in _OF_ENDPOINT)
        }
        for_mount = {key: value for key, value in options.items() if key not in for_endpoint}
        self.endpoint = Endpoint(
            sockets={"/socket": Mount(socket, **for_mount)},
            listen=self.world.network.open,
            **for_endpoint,
        )
        self.endpoint.ledger = self.ledger  # type: ignore[attr-defined]
        self.pid = await self.endpoint.start_link(host="server", port=PORT)

    async def client(self, *, joins: bool = True, **options: Any) -> Client:
        """Connect a client, and join a room."""
        self.made += 1
        name = f"{self.name}{self.made}"
        params = {"name": name, **options.pop("params", {})}
        client = Client(self.world, self.endpoint, name, params=params, **options)
        accepted = await client.connect(self.nursery)
        self.check(accepted, f"{client} was refused with {client.status}")
        if joins:
            await client.send("1", "1", "room:a", "phx_join", {})
            await self.until("the join is answered", lambda: client.frames)
            (frame,) = client.take()
            self.check(frame.payload["status"] == "ok", f"{client} joined and got {frame}")
        return client

    async def until(self, what: str, holds: Callable[[], Any], within: float = 30.0) -> None:
        await self.world.eventually(f"{self.name}: {what}", holds, within=within)

    def life(self, client: Client) -> Life:
        return self.ledger.of(client.name, "room:a")[-1]

    def count(self, *event: str) -> int:
        found: int = self.endpoint.statistics()["counts"].get(event, 0)
        return found

    async def closed(self, client: Client, code: int, reason: Any, within: float = 10.0) -> None:
        """Wait until a connection is closed. Check the close code and the end of the connection's channel."""
        await self.until(f"{client} is closed with {code}", lambda: client.ended, within)
        self.check(client.code == code, f"{client} was closed with {client.code}, not {code}")
        await trio.sleep(SLACK)
        life = self.life(client)
        self.check(
            life.terminated == [reason] and not life.is_alive,
            f"the channel of {client} ended with {life.terminated}, not {reason!r}",
        )

    async def nothing_is_left(self) -> None:
        """Check that the endpoint has no connection, no channel and no subscription."""
        await trio.sleep(7)
        left = await DynamicSupervisor.which_children((self.endpoint, "connections"))
        self.check(not left, f"{len(left)} connections are left")
        figures = self.endpoint.statistics()
        self.check(figures["subscriptions"] == 0, f"there are subscriptions: {figures}")
        self.check(not self.ledger.alive(), f"channels are left: {self.ledger.alive()}")

    async def stop(self) -> None:
        await stop(self.pid, timeout=math.inf)


_OF_ENDPOINT = (
    "max_connections",
    "max_sessions",
    "max_buffered_messages",
    "max_buffered_bytes",
)


async def silence(case: Case) -> None:
    """The endpoint closes a silent client after the timeout, but not a client that sends anything."""
    timeout = case.random.choice((5.0, 20.0))
    await case.start(timeout=timeout)
    silent, talker = await case.client(), await case.client()
    heard = case.world.seconds
    while not silent.ended and case.world.seconds < heard + timeout + 5:
        await trio.sleep(timeout / 3)
        how = case.random.choice(("heartbeat", "ping", "push"))
        if how == "heartbeat":
            await talker.send(None, "h", "phoenix", "heartbeat", {})
        elif how == "ping":
            await talker.write(talker.frame(PING, b""))
        else:
            await talker.send("1", None, "room:a", "echo", {})
    lasted = case.world.seconds - heard
    case.check(silent.ended, f"{silent} was silent for {lasted:g} s and is still connected")
    case.check(lasted >= timeout - 0.05 - SLACK, f"{silent} was closed after {lasted:g} s")
    await case.closed(silent, 1002, Shutdown("inactive"))
    case.check(not talker.ended, f"{talker} was closed with {talker.code}, and it was not silent")
    await talker.close()
    await case.nothing_is_left()


async def heads(case: Case) -> None:
    """A connection that sends no complete request head gets 408 after the timeout."""
    timeout = case.random.choice((2.0, 6.0))
    await case.start(head_timeout=timeout)
    part = case.random.choice((b"", b"GET / HT", b"GET /socket/websocket HTTP/1.1\r\nhost: x\r\n"))
    stream = await case.world.network.connect("server", PORT, source="slow head")
    began = case.world.seconds
    if part:
        await stream.send_all(part)
    data = b"".join([data async for data in stream])
    lasted = case.world.seconds - began
    case.check(data.startswith(b"HTTP/1.1 408 "), f"an incomplete head got {data!r}")
    case.check(timeout - 0.1 <= lasted <= timeout + SLACK, f"408 came after {lasted:g} s")
    case.check(case.count("http", "head_timeout") == 1, "the timeout was not counted")
    await stream.aclose()
    await case.nothing_is_left()


async def admission(case: Case) -> None:
    """The endpoint refuses connections beyond its limit until another connection ends."""
    most = case.random.randint(1, 3)
    await case.start(max_connections=most)
    clients = [await case.client() for _ in range(most)]
    stream = await case.world.network.connect("server", PORT, source="one too many")
    data = b"".join([data async for data in stream])
    await stream.aclose()
    case.check(data == b"", f"a connection beyond the limit got {data!r}")
    case.check(case.count("connection", "not_started") == 1, "it was not counted")
    clients[0].vanish()
    await trio.sleep(7)
    clients[0] = await case.client()
    for client in clients:
        await client.close()
    await case.nothing_is_left()


async def drains(case: Case) -> None:
    """Draining closes the clients with 1012, batch by batch. The endpoint refuses new clients meanwhile."""
    random = case.random
    count, size = random.randint(1, 5), random.randint(1, 3)
    interval, notice = random.choice((1.5, 4.0)), random.choice((0.0, 3.0))
    options = Draining(batch_size=size, batch_interval=interval, timeout=60.0, notice=notice)
    await case.start(draining=options)
    clients = [await case.client(joins=random.random() < 0.8) for _ in range(count)]
    rounds: list[Any] = []
    telemetry = case.world.runtime.telemetry
    detach = telemetry.attach(ENDPOINT_DRAIN, lambda _, numbers, __: rounds.append(dict(numbers)))
    ended: dict[str, float] = {}
    began = case.world.seconds

    async def watch(client: Client) -> None:
        await case.until(f"{client} is drained", lambda: client.ended, 60.0)
        ended[client.name] = case.world.seconds - began

    async with trio.open_nursery() as nursery:
        for client in clients:
            nursery.start_soon(watch, client)
        nursery.start_soon(case.endpoint.drain)
        await trio.sleep(notice / 2)
        if notice:
            late = await case.client(joins=False)
            clients.append(late)
            nursery.start_soon(watch, late)
            await trio.sleep(notice / 2)
        await trio.sleep(0.3)
        await refused(case)
    count = len(clients)
    case.check(
        all(client.code == 1012 for client in clients),
        f"the clients were closed with {[client.code for client in clients]}",
    )
    total = -(-count // size)
    wanted = [
        {
            "count": min(size, count - index * size),
            "total": count,
            "index": index + 1,
            "rounds": total,
        }
        for index in range(total)
    ]
    case.check(rounds == wanted, f"the rounds were {rounds}, not {wanted}")
    for place, at in enumerate(sorted(ended.values())):
        due = notice + place // size * interval
        case.check(
            due - 0.1 <= at <= due + SLACK, f"client {place + 1} went after {at:g} s, not {due:g}"
        )
    for life in case.ledger.lives:
        case.check(
            life.terminated == [Shutdown("draining")], f"{life.client} ended with {life.terminated}"
        )
    if detach is not None:
        detach()
    await case.nothing_is_left()


async def refused(case: Case) -> None:
    """Check that a new connection gets 503."""
    late = Client(case.world, case.endpoint, "late")
    await late.connect(case.nursery)
    case.check(late.status == 503, f"a connection during the drain got {late.status}")


async def slow_reader(case: Case) -> None:
    """The endpoint closes a slow client with 1013 if its unread frames exceed the limit. Otherwise no frame is lost."""
    random, knobs = case.random, case.world.knobs
    most = random.choice((20, 50))
    # The network buffers some frames too, so only a number far beyond the limit certainly causes an overflow.
    wide = max(50, min(4000, knobs.window // 16))
    overflows = random.random() < 0.6
    count = 2 * most + 3 * (knobs.window // wide) if overflows else most
    if count * wide / knobs.segment > 10_000:
        return
    await case.start(max_buffered_messages=most, timeout=100_000)
    slow, quick = await case.client(), await case.client()
    slow.pause()
    for number in range(count):
        case.endpoint.broadcast("room:a", "said", {"n": number, "x": "x" * wide})
        await case.until("the quick client keeps up", lambda n=number: len(quick.frames) > n)  # type: ignore[misc]
        if case.count("phoenix", "socket_overflow"):
            # From now on, the slow client has five seconds to read the rest.
            break
    case.check(
        case.count("phoenix", "socket_overflow") == overflows,
        f"{count} frames of {wide} bytes with a bound of {most}: {case.endpoint.statistics()}",
    )
    slow.resume()
    numbers = [frame.payload["n"] for frame in quick.take()]
    case.check(numbers == list(range(number + 1)), f"{quick} got {numbers}")
    if overflows:
        await case.closed(slow, 1013, Shutdown("closed"))
    else:
        await case.until("the slow client has everything", lambda: len(slow.frames) == count, 600)
        await slow.close()
    numbers = [frame.payload["n"] for frame in slow.take()]
    case.check(numbers == list(range(len(numbers))), f"{slow} got {numbers}")
    await quick.close()
    await case.nothing_is_left()


class BusyChannel(Channel):
    """A channel that handles a push for as long as the client asks."""

    log_join = None

    async def join(self, topic: str, payload: Any) -> None:
        self.handled = 0

    @handle_in("wait")
    async def wait(self, payload: Any) -> PushReply:
        await trio.sleep(payload["seconds"])
        return PushReply({})

    @handle_in("count")
    async def count(self, payload: Any) -> PushReply:
        self.handled += 1
        return PushReply({"n": self.handled})


class BusySocket(Socket):
    """A socket with busy channels."""

    log = None
    channels = {"room:*": BusyChannel}


async def busy_channel(case: Case) -> None:
    """Pushes to a busy channel wait in order. The server stops reading, but loses nothing."""
    random = case.random
    await case.start(BusySocket, timeout=30.0)
    client = await case.client(joins=False)
    await client.send("1", "1", "room:a", "phx_join", {})
    seconds = random.choice((5.0, 5.0, 50.0))
    # The server stops reading at WAITING_LIMIT messages that the channel has not begun to handle. The push "wait" is
    # one of them if the channel has not begun it yet. So one push less than the limit may stop the server.
    count = random.choice((100, WAITING_LIMIT - 2, WAITING_LIMIT, 2000, 2000))
    await client.send("1", "w", "room:a", "wait", {"seconds": seconds})
    began = case.world.seconds
    pushes = b"".join(
        client.frame(TEXT, client.text("1", f"p{number}", "room:a", "count", {}))
        for number in range(count)
    )
    await client.write(pushes)
    await client.send(None, "beat", "phoenix", "heartbeat", {})
    is_late = seconds > 30 and count >= WAITING_LIMIT
    if is_late:
        case.world.sometimes("a channel is too far behind")
        await case.until("it is closed", lambda: client.ended, 60)
        lasted = case.world.seconds - began
        case.check(client.code == 1013, f"a client far ahead was closed with {client.code}")
        case.check(29 < lasted < 36, f"it was closed after {lasted:g} s, not 30")
        # The end of the connection does not interrupt the handler.
        await trio.sleep(seconds)
        await case.nothing_is_left()
        return
    while case.world.seconds < began + seconds + 2:
        await trio.sleep(5)
        if seconds > 30:
            await client.send(None, "beat", "phoenix", "heartbeat", {})
    await case.until(
        "all pushes are answered",
        lambda: (
            client.ended or sum(frame.topic == "room:a" for frame in client.frames) == count + 2
        ),
        600,
    )
    frames = [frame for frame in client.take() if frame.topic == "room:a"]
    refs = [frame.ref for frame in frames]
    wanted = ["1", "w", *(f"p{number}" for number in range(count))]
    case.check(refs == wanted, f"{count} pushes: {len(refs)} replies, closed with {client.code}")
    numbers = [frame.payload["response"].get("n") for frame in frames[2:]]
    case.check(numbers == list(range(1, count + 1)), "the pushes were handled in another order")
    await client.close()
    await case.nothing_is_left()


async def busy_polling(case: Case) -> None:
    """The endpoint holds posts for a busy channel until the channel has caught up, at most for the window."""
    seconds = case.random.choice((2.0, 30.0))
    await case.start(BusySocket, longpoll=LongPoll(window=10.0))
    client = await case.client(joins=False, carrier="poll")
    await client.send("1", "1", "room:a", "phx_join", {})
    await client.send("1", "w", "room:a", "wait", {"seconds": seconds})
    statuses: list[Any] = []
    for batch in range(12):
        lines = [
            client.text("1", f"p{batch * 100 + number}", "room:a", "count", {})
            for number in range(100)
        ]
        answer = await client.request("POST", b"\n".join(lines))
        statuses.append(answer["status"])
        if answer["status"] == 408:
            break
    is_late = seconds > 10
    case.check(statuses.count(408) == is_late, f"the posts were answered {statuses}")
    await trio.sleep(seconds + 2)
    refs = [frame.ref for frame in client.take()]
    case.check(refs[:2] == ["1", "w"], f"{client} got {refs[:5]}")
    wanted = [f"p{number}" for number in range(len(refs) - 2)]
    case.check(refs[2:] == wanted, f"{client} got the replies in another order: {refs[:9]}")
    case.check(is_late or len(wanted) == 1200, f"{len(wanted)} of 1200 pushes were answered")
    case.check(len(wanted) >= 1000, f"only {len(wanted)} pushes were answered")
    client.vanish()
    await trio.sleep(35)
    await case.nothing_is_left()


async def big_json(case: Case) -> None:
    """The endpoint refuses a long message with more values than the limit."""
    most = case.random.choice((1000, 20_000))
    await case.start(max_json_values=most)
    client = await case.client()
    values = case.random.choice((most - 100, most + 100))
    text = "x" * (70_000 if case.random.random() < 0.7 else 10)
    content = [text, *[1] * values]
    data = client.text("1", "2", "room:a", "echo", content)
    is_too_much = values > most and len(data) > 65536
    await client.send_raw(data)
    if is_too_much:
        await case.closed(client, 1009, Shutdown("closed"), 200)
        case.check(case.count("socket", "too_many_values") == 1, "it was not counted")
    else:
        await case.until("it is answered", lambda: client.frames, 200)
        (frame,) = client.take()
        case.check(frame.payload["response"] == content, f"{client} got {str(frame)[:200]}")
        await client.close()
    await case.nothing_is_left()


VIOLATIONS: list[tuple[str, bytes, int]] = [
    ("an unmasked frame", bytes([0x81, 2]) + b"[]", 1002),
    ("a reserved bit", bytes([0x91, 0x80, 0, 0, 0, 0]), 1002),
    ("a compressed frame without compression", bytes([0xC1, 0x80, 0, 0, 0, 0]), 1002),
    ("an unknown opcode", bytes([0x83, 0x80, 0, 0, 0, 0]), 1002),
    ("an unknown control opcode", bytes([0x8B, 0x80, 0, 0, 0, 0]), 1002),
    ("a fragmented ping", bytes([0x09, 0x80, 0, 0, 0, 0]), 1002),
    ("a long ping", bytes([0x89, 0xFE, 0, 126, 0, 0, 0, 0]) + bytes(126), 1002),
    ("a continuation without a beginning", bytes([0x80, 0x80, 0, 0, 0, 0]), 1002),
    ("two beginnings", bytes([0x01, 0x81, 0, 0, 0, 0, 65, 0x81, 0x80, 0, 0, 0, 0]), 1002),
    ("a close with one byte", bytes([0x88, 0x81, 0, 0, 0, 0, 3]), 1002),
    ("a close with an invalid code", bytes([0x88, 0x82, 0, 0, 0, 0, 3, 0xED]), 1002),
    ("text that is not UTF-8", bytes([0x81, 0x82, 0, 0, 0, 0, 0xC3, 0x28]), 1007),
    ("a message beyond the limit", bytes([0x81, 0xFE, 0x27, 0x10, 0, 0, 0, 0]), 1009),
    ("a huge message", bytes([0x82, 0xFF, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]), 1009),
]


async def violations(case: Case) -> None:
    """The endpoint closes only the client that violates the WebSocket protocol, with the right code."""
    await case.start(max_frame_size=5000)
    other = await case.client()
    for what, data, code in case.random.sample(VIOLATIONS, 5):
        client = await case.client()
        before = case.count("phoenix", "socket_malformed")
        await client.write(data)
        # The server must ignore messages after the violation.
        await client.write(client.frame(TEXT, client.text("1", "9", "room:a", "echo", {})))
        await case.until(f"{what} closes", lambda client=client: client.ended)  # type: ignore[misc]
        await case.closed(client, code, Shutdown("closed"))
        case.check(not client.take(), f"{what} was answered")
        after = case.count("phoenix", "socket_malformed")
        case.check(after == before + 1, f"{what} was counted {after - before} times")
    await other.send("1", "5", "room:a", "echo", {})
    await case.until("the other client is answered", lambda: other.frames)
    await other.close()
    await case.nothing_is_left()


async def goodbyes(case: Case) -> None:
    """A client closes its connection, or its stream ends without a close, in every phase of the connection."""
    await case.start()
    for _ in range(4):
        how = case.random.choice(("close", "eof", "reset", "close without a code", "half"))
        joins = case.random.random() < 0.7
        client = await case.client(joins=joins)
        if case.random.random() < 0.5:
            await client.send("2", "2", "room:b", "phx_join", {"acts": [["sleep", 3.0]]})
        if how == "close":
            await client.write(client.frame(CLOSE, (3000).to_bytes(2, "big") + "grüße".encode()))
        elif how == "close without a code":
            await client.write(client.frame(CLOSE, b""))
        elif how == "eof":
            await client.stream.send_eof()
        elif how == "reset":
            client.vanish()
        else:
            await client.write(client.frame(TEXT, b"[1, 2, 3, 4, 5]")[:5])
            await client.stream.send_eof()
        await case.until(f"{client} has ended by {how}", lambda client=client: client.ended)  # type: ignore[misc]
        wanted = {"close": (1000,), "close without a code": (1000, 1005)}.get(how, (None,))
        case.check(client.code in wanted, f"{client} ended by {how} and got {client.code}")
        await trio.sleep(SLACK)
        if joins:
            life = case.life(client)
            case.check(
                life.terminated == [Shutdown("closed")], f"{how}: terminate got {life.terminated}"
            )
    await case.nothing_is_left()


class GuardedSocket(Socket):
    """A socket that records the facts that `connect` gets for each client."""

    log = None
    channels = {"room:*": BusyChannel}

    async def connect(self, params: dict[str, Any], connect_info: Any) -> Any:
        self.endpoint.ledger.connects.append(  # type: ignore[attr-defined] # the case sets it
            {
                "params": params,
                "token": connect_info.auth_token,
                "path": connect_info.path,
                "region": connect_info["region"],
            }
        )
        if params.get("how") == "refuse":
            raise ConnectRefused("expired")
        if params.get("how") == "silently":
            raise ConnectRefused
        if params.get("how") == "crash":
            raise RuntimeError("as planned")
        if params.get("how") == "wrong":
            return False
        return None

    def id(self) -> Any:
        return 7 if self.endpoint.ledger.connects[-1]["params"].get("how") == "id" else None  # type: ignore[attr-defined]


def _explain(reason: Any, connect_info: Any) -> Refusal:
    return Refusal(401, f"because {reason}", headers=(("www-authenticate", "Bearer"),))


async def handshakes(case: Case) -> None:
    """Every kind of upgrade request gets the right status, and `connect` gets the right facts."""
    await case.start(
        GuardedSocket,
        check_origin=["https://ok.example", "//*.wild.example"],
        error_handler=_explain,
        auth_token=True,
        connect_info=[("region", "eu")],
        subprotocols=["chat.v2", "chat.v1"],
    )
    for params, headers, status in case.random.sample(HANDSHAKES, 10):
        case.made += 1
        client = Client(
            case.world, case.endpoint, f"h{case.made}", params=dict(params), headers=headers
        )
        before = len(case.ledger.connects)
        await client.connect(case.nursery)
        what = f"the request with {params} and {headers}"
        case.check(client.status == status, f"{what} got {client.status}, not {status}")
        called = case.ledger.connects[before:]
        if status == 101:
            await _accepted(case, client, called, what)
        if params.get("how") == "refuse":
            case.check(
                client.answer_body == b"because expired"
                and client.answer_headers["www-authenticate"] == "Bearer",
                f"{what} got {client.answer_body!r}",
            )
        if status == 403 and "how" not in params:
            case.check(not called, f"connect was called for {what}")
    await case.nothing_is_left()


async def _accepted(case: Case, client: Client, called: list[Any], what: str) -> None:
    offered = dict(client.headers).get("sec-websocket-protocol", "")
    token = base64.b64decode(TOKEN + "==").decode() if TOKEN in offered else None
    wanted = {"token": token, "path": "/socket/websocket", "region": "eu"}
    found = {key: called[0][key] for key in wanted} if called else None
    case.check(found == wanted, f"connect got {called} for {what}")
    chosen = client.answer_headers.get("sec-websocket-protocol")
    expected = "phoenix" if "phoenix" in offered else "chat.v2" if "chat.v2" in offered else None
    case.check(chosen == expected, f"{what} chose {chosen!r}")
    await client.close()


TOKEN = base64.b64encode(b"my secret?>").decode().rstrip("=")
_BEARER = f"phoenix, base64url.bearer.phx.{TOKEN}"
HANDSHAKES: list[tuple[dict[str, Any], tuple[tuple[str, str], ...], int]] = [
    ({}, (), 101),
    ({"vsn": None}, (), 101),
    ({"vsn": "2.0.5"}, (), 101),
    ({"vsn": "1.0.9"}, (), 101),
    ({"vsn": "2.1.0"}, (), 403),
    ({"vsn": "2.0"}, (), 403),
    ({"vsn": "2.0.0-rc"}, (), 403),
    ({"vsn": "1.1.0"}, (), 403),
    ({}, (("origin", "https://ok.example"),), 101),
    ({}, (("origin", "http://ok.example"),), 403),
    ({}, (("origin", "https://ok.example:8443"),), 403),
    ({}, (("origin", "http://ok.example:443"),), 403),
    ({}, (("origin", "https://a.b.wild.example"),), 101),
    ({}, (("origin", "https://wild.example"),), 101),
    ({}, (("origin", "https://evilwild.example"),), 403),
    ({}, (("origin", "null"),), 403),
    ({}, (("sec-websocket-protocol", _BEARER),), 101),
    ({}, (("sec-websocket-protocol", "chat.v1, chat.v2"),), 101),
    ({}, (("sec-websocket-protocol", "soap"),), 403),
    ({"how": "refuse"}, (), 401),
    ({"how": "silently"}, (), 403),
    ({"how": "crash"}, (), 500),
    ({"how": "wrong"}, (), 403),
    ({"how": "id"}, (), 500),
]

REQUESTS: list[tuple[str, tuple[str, ...], int]] = [
    ("GET /socket/websocket HTTP/1.1", (), 400),
    ("GET /socket/websocket?connect=refuse HTTP/1.1", (), 403),
    ("POST /socket/websocket HTTP/1.1", ("content-length: 0",), 400),
    ("GET /socket/websocket?vsn=9.0.0 HTTP/1.1", (), 403),
    ("GET /elsewhere HTTP/1.1", ("connection: close",), 404),
    ("GET /socket HTTP/1.1", ("connection: close",), 404),
    ("rubbish", (), 400),
    ("GET /socket/websocket HTTP/1.1", (f"x: {'y' * 17_000}",), 431),
]


async def requests(case: Case) -> None:
    """A request that is no upgrade gets the right status, and its connection ends."""
    await case.start()
    for first, lines, status in case.random.sample(REQUESTS, 3):
        stream = await case.world.network.connect("server", PORT, source="browser")
        head = "\r\n".join((first, "host: server", *lines, "", ""))
        try:
            await stream.send_all(head.encode())
            data = b"".join([data async for data in stream])
        except trio.BrokenResourceError:
            data = b""
        found = data.split(b" ")[1] if b" " in data else b"nothing"
        case.check(found == str(status).encode(), f"{head[:60]!r} got {data[:100]!r}, not {status}")
        await stream.aclose()
    await case.nothing_is_left()


async def crashes(case: Case) -> None:
    """A process of the endpoint dies. Its supervisor restarts it, and clients can connect again."""
    await case.start(timeout=1000)
    clients = [await case.client() for _ in range(2)]
    children = {child.id: child.pid for child in await Supervisor.which_children(case.pid)}
    names = [
        name for name in children if name in ("listener", "drainer", "application", "connections")
    ]
    name = case.random.choice([*names, "UserSocket channels"])
    victim = children[name]
    assert isinstance(victim, Pid)
    kill(victim)
    await trio.sleep(8)
    ended = [client for client in clients if client.ended]
    if name == "connections":
        case.check(len(ended) == 2, f"{name} died, and {len(ended)} of 2 clients have ended")
    else:
        case.check(not ended, f"{name} died, and {ended[0] if ended else ''} has ended")
    for client in clients:
        if name == "UserSocket channels":
            frames = client.take()
            case.check([frame.event for frame in frames] == ["phx_error"], f"{client} got {frames}")
    for client in clients:
        if not client.ended and name != "UserSocket channels":
            await client.send("1", "7", "room:a", "echo", {"still": "here"})
            await case.until(f"{client} is answered", lambda client=client: client.frames)  # type: ignore[misc]
    clients.append(await case.client())
    for client in clients:
        if not client.ended:
            await client.close()
    await case.nothing_is_left()


async def polling_overflow(case: Case) -> None:
    """The session of a client that does not poll ends when more messages wait than the limit allows."""
    most = case.random.choice((5, 20))
    await case.start(max_buffered_messages=most, longpoll=LongPoll(window=20.0))
    client = await case.client(joins=False, carrier="poll")
    await client.send("1", "1", "room:a", "phx_join", {})
    await trio.sleep(0.5)
    client.pause()
    case.endpoint.broadcast("room:a", "said", {"n": "last"})
    await trio.sleep(0.5)
    client.take()
    count = case.random.choice((most, most + 1, most + 1, most + 9))
    for number in range(count):
        case.endpoint.broadcast("room:a", "said", {"n": number})
    await trio.sleep(0.5)
    client.resume()
    await trio.sleep(1)
    overflows = count > most
    numbers = [frame.payload["n"] for frame in client.take()]
    case.check(
        client.ended == overflows and case.count("phoenix", "socket_overflow") == overflows,
        f"{count} messages with a limit of {most}: the client's `ended` is {client.ended}",
    )
    if not overflows:
        case.check(numbers == list(range(count)), f"{client} got {numbers} of {count}")
    client.vanish()


async def stopping(case: Case) -> None:
    """A stopping endpoint closes its clients and terminates its channels. It can start again."""
    await case.start(draining=Draining(batch_interval=1.0))
    clients = [await case.client() for _ in range(case.random.randint(1, 3))]
    await case.endpoint.stop_accepting()
    stream = None
    try:
        stream = await case.world.network.connect("server", PORT, source="too late")
    except OSError:
        pass
    case.check(stream is None, "a connection was accepted after stop_accepting")
    await clients[0].send("1", "7", "room:a", "echo", {"still": "here"})
    await case.until("a connected client is answered", lambda: clients[0].frames)
    await case.stop()
    for client in clients:
        await case.closed(client, 1012, Shutdown("draining"))
    case.pid = await case.endpoint.start_link(host="server", port=PORT)
    again = await case.client()
    await again.close()
    await case.nothing_is_left()


CASES: list[Callable[[Case], Awaitable[None]]] = [
    silence,
    heads,
    admission,
    drains,
    drains,
    slow_reader,
    slow_reader,
    busy_channel,
    busy_channel,
    busy_polling,
    big_json,
    violations,
    violations,
    goodbyes,
    goodbyes,
    handshakes,
    handshakes,
    requests,
    crashes,
    polling_overflow,
    polling_overflow,
    stopping,
]


async def run_cases(world: World, cases: Sequence[Callable[[Case], Awaitable[None]]]) -> None:
    """Run a random choice of cases, one after the other. The parameter `cases` of the world is their number."""
    random = world.random("cases")
    for case in random.sample(cases, world.params["cases"]):
        async with trio.open_nursery() as nursery:
            state = Case(world, nursery, case.__name__)
            world.note("case", name=state.name)
            await case(state)
            world.sometimes(f"{state.name} ran")
            nursery.cancel_scope.cancel()
        if state.pid is not None:
            await state.stop()


@scenario(params={"cases": 2}, invariants=("all", *CHECKED))
@small_bounds
async def connections(world: World) -> None:
    """Run some cases, one after the other."""
    await run_cases(world, CASES)

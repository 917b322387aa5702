"""Polling clients: requests of every kind, one after the other, with exact answers.

ashtree simulate tests.simulation.sweeps.channels.longpoll:polling --seeds 1-1000
"""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import trio
from attrs import define, field

from actors import Shutdown
from channels import Binary, Endpoint, LongPoll, Mount
from channels.telemetry import (
    LONGPOLL_LEFT_OUT,
    LONGPOLL_UNSENDABLE,
    SOCKET_CONNECT_FAILED,
    SOCKET_MALFORMED,
    SOCKET_ORIGIN_REFUSED,
    SOCKET_UNSUPPORTED,
)
from channels.transports.backlog import Backlog
from channels.transports.bodies import Bodies, Body
from channels.wire.fragments import PIECE_OVERHEAD
from supervision import DynamicSupervisor
from supervision.simulation import World
from tests.laws.scenarios import scenario
from tests.simulation.sweeps.bounds import small_bounds
from tests.simulation.sweeps.channels.clients import pack_push
from tests.simulation.sweeps.channels.room import CHECKED, Ledger, UserSocket

WINDOW = 4.0
# A session checks for polls every 6 seconds. It ends if no poll came in the last 6 seconds.
PATIENCE = 1.5 * WINDOW
MAX_AGE = 60.0
MAX_BODY = 6000
MAX_SESSIONS = 4
BYTES: list[Any] = ["a message of bytes"]


@define(eq=False)
class Answered:
    """One answer of the server."""

    status: int
    headers: dict[str, str]
    body: bytes
    seconds: float

    @property
    def said(self) -> Any:
        return json.loads(self.body) if self.body else None


@define(eq=False)
class Client:
    """One session in the model.

    Attributes:
        waiting: the messages that the next poll must return.
        polled: the time of the last poll.
    """

    name: str
    token: str
    began: float
    polled: float
    joined: bool = False
    serial: int = 0
    waiting: list[list[Any]] = field(factory=list)

    def ref(self) -> str:
        self.serial += 1
        return str(self.serial)


class Polling:
    """The state of one run."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.random: Random = world.random("operations")
        self.ledger = Ledger()
        options = LongPoll(window=WINDOW, max_age=MAX_AGE, max_body_bytes=MAX_BODY)
        self.endpoint = Endpoint(
            sockets={"/socket": Mount(UserSocket, longpoll=options)}, max_sessions=MAX_SESSIONS
        )
        self.endpoint.ledger = self.ledger  # type: ignore[attr-defined]
        self.clients: list[Client] = []
        # The counts that `Endpoint.statistics` must return.
        self.counted: Counter[tuple[str, ...]] = Counter()
        self.made = 0
        self.number = 0
        self.what = ""

    def check(self, holds: object, problem: str) -> None:
        self.world.check(holds, f"{problem}, after {self.what}")

    async def request(
        self,
        method: str,
        token: str | None = None,
        body: bytes = b"",
        *,
        kind: str | None = "application/x-ndjson",
        query: str = "vsn=2.0.0",
        headers: tuple[tuple[str, str], ...] = (),
        leave_after: float | None = None,
    ) -> Answered | None:
        """Send one request. With `leave_after`, disconnect after so many seconds. Return None without an answer."""
        pairs = [("host", "server"), *headers]
        if kind is not None:
            pairs.append(("content-type", kind))
        if token is not None:
            pairs.append(("x-phoenix-longpoll-token", token))
        scope = {
            "type": "http",
            "method": method,
            "path": "/socket/longpoll",
            "raw_path": b"/socket/longpoll",
            "root_path": "",
            "scheme": "http",
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in pairs],
            "client": ("10.9.9.9", 1234),
        }
        pieces = [body[: len(body) // 2], body[len(body) // 2 :]]
        sent: list[Any] = []
        began = self.world.seconds

        async def receive() -> Any:
            await trio.lowlevel.checkpoint()
            if pieces:
                piece = pieces.pop(0)
                return {"type": "http.request", "body": piece, "more_body": bool(pieces)}
            if leave_after is None:
                await trio.sleep_forever()
            else:
                await trio.sleep(leave_after)
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            await trio.lowlevel.checkpoint()
            sent.append(message)

        await self.endpoint(scope, receive, send)
        if not sent:
            return None
        start, last = sent
        fields = {name.decode(): value.decode() for name, value in start["headers"]}
        body = last["body"]
        self.check(
            fields["content-length"] == str(len(body))
            and fields["access-control-allow-origin"] == "*",
            f"{method} got the headers {fields}",
        )
        return Answered(start["status"], fields, body, self.world.seconds - began)

    async def ask(self, *arguments: Any, **options: Any) -> Answered:
        answer = await self.request(*arguments, **options)
        assert answer is not None
        return answer

    # The model

    def somebody(self) -> Client | None:
        return self.random.choice(self.clients) if self.clients else None

    def payload(self) -> dict[str, int]:
        self.number += 1
        return {"n": self.number}

    async def expect(self, answer: Answered, said: Any, status: int = 200) -> None:
        self.check(
            (answer.status, answer.said) == (status, said),
            f"the answer is {answer.status} {answer.said}, not {status} {said}",
        )

    async def poll(self, client: Client, *, within: float = 0.1) -> None:
        """Poll, and expect all waiting messages."""
        client.polled = self.world.seconds
        answer = await self.ask("GET", client.token)
        if BYTES in client.waiting:
            # Polling cannot carry bytes, so all messages of this answer are lost.
            self.world.sometimes("a poll returns bytes")
            self.counted[LONGPOLL_UNSENDABLE] += 1
            self.check((answer.status, answer.body) == (500, b""), f"{client.name} got {answer}")
            client.waiting = []
            return
        messages = [json.loads(text) for text in (answer.said or {}).get("messages", ())]
        wanted, client.waiting = client.waiting, []
        status = 200 if wanted else 204
        self.check(
            messages == wanted and answer.said["status"] == status,
            f"the poll of {client.name} got {answer.said}, not {wanted}",
        )
        self.check(answer.said["token"] == client.token, f"the token of {client.name} changed")
        low, high = (0.0, within) if wanted else (WINDOW - 0.01, WINDOW + 0.15)
        self.check(
            low <= answer.seconds <= high,
            f"the poll of {client.name} took {answer.seconds:g} s, with {len(wanted)} messages",
        )
        is_json = answer.headers["content-type"] == "application/json; charset=utf-8"
        self.check(is_json, f"a poll got the headers {answer.headers}")

    async def keep_alive(self) -> None:
        """Poll for each client whose session would end soon."""
        for client in list(self.clients):
            if self.world.seconds - client.polled > 1.0:
                if not client.waiting:
                    await self.tell(client)
                await self.poll(client)

    async def tell(self, client: Client) -> None:
        """Post a heartbeat for a client, so that its reply waits for the next poll."""
        ref = client.ref()
        answer = await self.ask("POST", client.token, line(None, ref, "phoenix", "heartbeat", {}))
        await self.expect(answer, {"status": 200})
        client.waiting.append(reply(None, ref, "phoenix", {}))

    def ended(self, client: Client, reason: Any) -> None:
        """Record the end of a session. Check that `terminate` of its channel got the reason."""
        self.clients.remove(client)
        lives = self.ledger.of(client.name, "room:a")
        self.check(
            not client.joined or [life.terminated for life in lives] == [[reason]],
            f"the channel of {client.name} ended with {[life.terminated for life in lives]}",
        )

    async def is_gone(self, client: Client) -> None:
        """Check that the session of a client does not exist any more."""
        message = line(None, "1", "phoenix", "heartbeat", {})
        await self.expect(await self.ask("POST", client.token, message), {"status": 410})

    # Operations

    async def begin(self) -> None:
        """Start a session."""
        self.made += 1
        name = f"phone{self.made}"
        token = self.random.choice((None, "", "rubbish", "SFMyNTY.abc.def"))
        user = self.random.choice(("", "&user=ann"))
        self.what = f"GET without a session by {name}, with the token {token!r}"
        answer = await self.ask("GET", token, query=f"vsn=2.0.0&name={name}{user}")
        if len(self.clients) >= MAX_SESSIONS:
            self.world.sometimes("there are too many sessions")
            self.counted["session", "not_started"] += 1
            self.check(answer.status == 503 and not answer.body, f"{name} got {answer}")
            return
        said = answer.said
        is_new = answer.status == 200 and said["status"] == 410 and said["messages"] == []
        self.check(is_new, f"{name} got {answer}")
        now = self.world.seconds
        self.clients.append(Client(name, said["token"], now, now))
        if self.random.random() < 0.8:
            await self.join(self.clients[-1])

    async def join(self, client: Client) -> None:
        self.what = f"the join of {client.name}"
        ref = client.ref()
        message = line("1", ref, "room:a", "phx_join", {"acts": []})
        await self.expect(await self.ask("POST", client.token, message), {"status": 200})
        client.waiting.append(reply("1", ref, "room:a", {}))
        client.joined = True
        await self.poll(client)

    async def wait_in_vain(self) -> None:
        """Poll while nothing comes."""
        client = self.somebody()
        if client is not None and not client.waiting:
            self.what = f"a poll of {client.name} without messages"
            await self.poll(client)

    async def wait_for_news(self) -> None:
        """Poll, and get a message that comes during the poll."""
        client = self.somebody()
        if client is None or client.waiting or not client.joined:
            return
        self.what = f"a broadcast during a poll of {client.name}"
        payload = self.payload()
        seconds = self.random.choice((0.5, 1.0, 3.0))
        async with trio.open_nursery() as nursery:

            async def later() -> None:
                await trio.sleep(seconds)
                self.broadcast(payload)

            nursery.start_soon(later)
            wanted = self.world.seconds + seconds
            await self.poll(client, within=seconds + 0.15)
        self.check(self.world.seconds >= wanted - 0.01, f"{client.name} got a message too early")

    def broadcast(self, payload: Any) -> None:
        self.endpoint.broadcast("room:a", "said", payload)
        for client in self.clients:
            if client.joined:
                client.waiting.append([None, None, "room:a", "said", payload])

    async def collect(self) -> None:
        """Collect waiting messages, and get all of them with one poll."""
        client = self.somebody()
        if client is None or not client.joined:
            return
        self.what = f"messages wait for {client.name}"
        for _ in range(self.random.randint(1, 3)):
            self.broadcast(self.payload())
        await self.poll(client)

    async def bytes_for_everybody(self) -> None:
        """Broadcast bytes, which no polling client can get."""
        self.what = "a broadcast of bytes"
        self.endpoint.broadcast("room:a", "said", Binary(b"\xff"))
        for client in self.clients:
            if client.joined:
                client.waiting.append(BYTES)
        for client in self.clients:
            if client.waiting:
                await self.poll(client)

    async def batch(self) -> None:
        """Post several messages at once."""
        client = self.somebody()
        if client is None or not client.joined:
            return
        count = self.random.choice((1, 2, 5, 99, 100, 101, 105))
        end = self.random.choice((b"\n", b"\r\n"))
        refs = [client.ref() for _ in range(count)]
        lines = [line("1", ref, "room:a", "echo", {"r": ref}) for ref in refs]
        self.what = f"a batch of {count} messages by {client.name}"
        await self.expect(await self.ask("POST", client.token, end.join(lines)), {"status": 200})
        self.world.sometimes("a batch is too long", count > 100)
        self.counted[LONGPOLL_LEFT_OUT] += count > 100
        client.waiting += [reply("1", ref, "room:a", {"r": ref}) for ref in refs[:100]]
        await trio.sleep(0.05)
        await self.poll(client)

    async def one_message(self) -> None:
        """Post one message with another content type, or without a content type."""
        client = self.somebody()
        if client is None or not client.joined:
            return
        kind = self.random.choice((None, "application/json", "application/x-ndjson; charset=utf-8"))
        ref = client.ref()
        self.what = f"one message of the type {kind} by {client.name}"
        message = line("1", ref, "room:a", "echo", [1])
        await self.expect(await self.ask("POST", client.token, message, kind=kind), {"status": 200})
        client.waiting.append(reply("1", ref, "room:a", [1]))
        await trio.sleep(0.05)
        await self.poll(client)

    async def token_elsewhere(self) -> None:
        """Send the token as a parameter. The header wins."""
        client = self.somebody()
        if client is None:
            return
        await self.tell(client)
        self.what = f"{client.name} sends its token as a parameter"
        client.polled = self.world.seconds
        query = f"vsn=2.0.0&token={client.token}"
        answer = await self.ask("GET", None, query=query)
        messages = [json.loads(text) for text in answer.said["messages"]]
        self.check(messages == client.waiting, f"{client.name} got {answer.said}")
        client.waiting = []
        answer = await self.ask("POST", "rubbish", b"[]", query=query)
        await self.expect(answer, {"status": 410})

    async def two_polls(self) -> None:
        """Poll twice at the same time. The second poll gets the messages."""
        client = self.somebody()
        if client is None or client.waiting or not client.joined:
            return
        self.what = f"two polls of {client.name}"
        answers: dict[str, Answered] = {}

        async def poll(name: str) -> None:
            answers[name] = await self.ask("GET", client.token)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(poll, "first")
            await trio.sleep(0.5)
            nursery.start_soon(poll, "second")
            client.polled = self.world.seconds
            await trio.sleep(0.5)
            self.broadcast(self.payload())
        messages = [json.loads(text) for text in answers["second"].said["messages"]]
        self.check(
            messages == client.waiting and answers["first"].said["status"] == 204,
            f"{client.name} got {answers['first'].said} and {answers['second'].said}",
        )
        client.waiting = []

    async def leave_a_poll(self) -> None:
        """Disconnect during a poll. The messages must wait for the next poll."""
        client = self.somebody()
        if client is None or client.waiting or not client.joined:
            return
        self.what = f"{client.name} leaves a poll"
        client.polled = self.world.seconds
        answer = await self.request("GET", client.token, leave_after=0.5)
        self.check(answer is None, f"{client.name} left and was answered {answer}")
        self.broadcast(self.payload())
        await self.poll(client)

    async def malform(self) -> None:
        """Post a message that breaks the protocol. The session ends."""
        client = self.somebody()
        if client is None:
            return
        text = self.random.choice((b"[1]", b'["a"', b"", b"[]\n[]"))
        self.what = f"{client.name} posts {text!r}"
        self.counted[SOCKET_MALFORMED] += 1
        answer = await self.ask("POST", client.token, text)
        self.check(answer.seconds < 0.5, f"{client.name} waited for {answer.seconds} s")
        await self.expect(answer, {"status": 408})
        await trio.sleep(0.5)
        await self.is_gone(client)
        self.ended(client, Shutdown("closed"))

    async def bad_base64(self) -> None:
        """Post a line that is not base64. The lines before it count."""
        client = self.somebody()
        if client is None:
            return
        ref = client.ref()
        bad = self.random.choice((b"abc", b"a===", b"ab*=", b"====", b"YWJ="[:3] + b"\xff"))
        self.what = f"{client.name} posts the line {bad!r}"
        message = line(None, ref, "phoenix", "heartbeat", {})
        answer = await self.ask("POST", client.token, message + b"\n" + bad)
        self.check((answer.status, answer.body) == (500, b""), f"{client.name} got {answer}")
        client.waiting.append(reply(None, ref, "phoenix", {}))
        await self.poll(client)

    async def in_bytes(self) -> None:
        """Post a binary push as base64."""
        client = self.somebody()
        if client is None or not client.joined:
            return
        self.what = f"{client.name} posts a binary push"
        data = pack_push("1", client.ref(), "room:a", "do", b"bytes")
        # The room crashes, because it cannot read bytes as actions.
        answer = await self.ask("POST", client.token, base64.b64encode(data))
        await self.expect(answer, {"status": 200})
        await trio.sleep(0.1)
        client.waiting.append(["1", "1", "room:a", "phx_error", {"reason": "channel_crash"}])
        client.joined = False
        self.ledger.lives = [each for each in self.ledger.lives if each.client != client.name]
        await self.poll(client)

    async def other_requests(self) -> None:
        """Send an OPTIONS request, and requests that the server must refuse."""
        self.what = "other requests"
        asked = (("access-control-request-headers", "x-one"),)
        answer = await self.ask("OPTIONS", None, headers=asked)
        allowed = {
            "access-control-allow-headers": "x-one",
            "access-control-allow-methods": "get, post, options",
            "access-control-max-age": "3600",
        }
        self.check(
            answer.status == 200 and not answer.body and allowed.items() <= answer.headers.items(),
            f"OPTIONS got {answer}",
        )
        answer = await self.ask(self.random.choice(("PUT", "DELETE", "HEAD")), None)
        self.check((answer.status, answer.body) == (400, b""), f"another method got {answer}")
        answer = await self.ask("GET", None, headers=(("origin", "http://elsewhere"),))
        await self.expect(answer, {"status": 403})
        self.counted[SOCKET_ORIGIN_REFUSED] += 1
        if len(self.clients) == MAX_SESSIONS:
            return
        vsn = self.random.choice(("vsn=3.0.0", "vsn=2.0", "vsn=", "vsn=2.0.0&connect=refuse"))
        await self.expect(await self.ask("GET", None, query=vsn), {"status": 403})
        is_refused = vsn.endswith("refuse")
        self.counted[("socket", "refused") if is_refused else SOCKET_UNSUPPORTED] += 1
        self.counted[SOCKET_CONNECT_FAILED] += 1
        answer = await self.ask("GET", None, query="vsn=2.0.0&connect=crash")
        self.check((answer.status, answer.body) == (500, b""), f"a crashed connect got {answer}")

    async def too_long(self) -> None:
        """Post bodies around the limit."""
        client = self.somebody()
        if client is None:
            return
        ref = client.ref()
        message = line(None, ref, "phoenix", "heartbeat", "")
        size = self.random.choice((MAX_BODY, MAX_BODY + 1, 2 * MAX_BODY))
        message = line(None, ref, "phoenix", "heartbeat", "x" * (size - len(message)))
        self.what = f"{client.name} posts {len(message)} bytes"
        answer = await self.ask("POST", client.token, message)
        if size == MAX_BODY:
            await self.expect(answer, {"status": 200})
            client.waiting.append(reply(None, ref, "phoenix", {}))
        else:
            self.check((answer.status, answer.body) == (400, b""), f"{client.name} got {answer}")
            self.counted["http", "body_refused"] += 1

    async def be_silent(self) -> None:
        """Stop polling. The session ends, between one and a half and three windows after the last poll."""
        client = self.somebody()
        if client is None:
            return
        self.what = f"{client.name} does not poll"
        others = [each for each in self.clients if each is not client]
        until = client.polled + PATIENCE - 0.3
        while self.world.seconds < until:
            await trio.sleep(min(1.0, max(0.01, until - self.world.seconds)))
            for other in others:
                await self.tell(other)
                await self.poll(other)
        if self.world.seconds < client.polled + PATIENCE - 0.1:
            # The session still exists, so it accepts a post. A post does not count as a poll.
            await self.tell(client)
            client.waiting.pop()
        while self.world.seconds < client.polled + 2 * PATIENCE + 0.5:
            await trio.sleep(1.0)
            for other in others:
                await self.tell(other)
                await self.poll(other)
        await self.is_gone(client)
        self.ended(client, Shutdown("inactive"))

    async def disconnect(self) -> None:
        """Disconnect a user. The server answers a waiting poll at once, and the session ends."""
        self.what = "disconnect of ann"
        users = [
            client
            for client in self.clients
            if self.endpoint.pubsub.subscribers("user:ann") and client.joined and not client.waiting
        ]
        victim = self.random.choice(users) if users else None
        answers: list[Any] = []
        was = {client.name: self._listens(client) for client in self.clients}

        async def poll(client: Client) -> None:
            answers.append(await self.ask("GET", client.token))

        async with trio.open_nursery() as nursery:
            if victim is not None:
                victim.polled = self.world.seconds
                nursery.start_soon(poll, victim)
                await trio.sleep(0.5)
            self.endpoint.broadcast("user:ann", "disconnect", {})
            await trio.sleep(0.5)
            for client in list(self.clients):
                if was[client.name]:
                    await self.is_gone(client)
                    self.ended(client, Shutdown("disconnected"))
        if victim is not None and was[victim.name]:
            self.world.sometimes("a poll is held at the end of its session")
            await self.expect(answers[0], {"messages": [], "status": 204, "token": victim.token})
            self.check(answers[0].seconds < 1.2, f"it waited {answers[0].seconds} s")

    def _listens(self, client: Client) -> bool:
        return any(
            params.get("name") == client.name and params.get("user") == "ann"
            for params in self.ledger.connects
        )

    async def grow_old(self) -> None:
        """Use a session until its token is too old."""
        await self.begin()
        client = self.clients[-1]
        self.what = f"the token of {client.name} grows old"
        while self.world.seconds - client.began < MAX_AGE - 4.5:
            await self.tell(client)
            await self.poll(client)
            await trio.sleep(4)
        await trio.sleep(max(0.0, client.began + MAX_AGE - 0.5 - self.world.seconds))
        await self.tell(client)
        await self.poll(client)
        await trio.sleep(0.7)
        self.world.sometimes("a token is too old")
        await self.is_gone(client)
        answer = await self.ask("GET", client.token)
        self.check(answer.said["status"] == 410, f"an old token got {answer.said}")


def line(*message: Any) -> bytes:
    """Return one message as a line."""
    return json.dumps(message).encode()


def reply(join_ref: Any, ref: Any, topic: str, response: Any) -> list[Any]:
    """Return the frame of a reply."""
    return [join_ref, ref, topic, "phx_reply", {"status": "ok", "response": response}]


OPERATIONS: list[tuple[Callable[[Polling], Awaitable[None]], int]] = [
    (Polling.begin, 4),
    (Polling.wait_in_vain, 1),
    (Polling.wait_for_news, 3),
    (Polling.collect, 4),
    (Polling.batch, 2),
    (Polling.one_message, 2),
    (Polling.token_elsewhere, 2),
    (Polling.two_polls, 1),
    (Polling.leave_a_poll, 2),
    (Polling.malform, 1),
    (Polling.bad_base64, 1),
    (Polling.bytes_for_everybody, 1),
    (Polling.in_bytes, 1),
    (Polling.other_requests, 1),
    (Polling.too_long, 1),
    (Polling.be_silent, 1),
    (Polling.disconnect, 1),
]


@scenario(params={"operations": 25}, invariants=("all", *CHECKED))
@small_bounds
async def polling(world: World) -> None:
    """Send random requests, each with an exact answer."""
    state = Polling(world)
    await state.endpoint.start_link(port=None)
    await state.begin()
    for _ in range(world.params["operations"]):
        await state.keep_alive()
        operation = state.random.choices(*zip(*OPERATIONS, strict=True))[0]
        world.note("operation", what=operation.__name__)
        await operation(state)
        await trio.sleep(0.2)
    if len(state.clients) < MAX_SESSIONS and state.random.random() < 0.4:
        await state.grow_old()
    await trio.sleep(2 * PATIENCE + 3)
    figures = state.endpoint.statistics()
    world.check(
        figures["subscriptions"] == 0, f"all sessions have ended, but the figures are {figures}"
    )
    left = await DynamicSupervisor.which_children((state.endpoint, "sessions"))
    world.check(not left, f"{len(left)} sessions are left")
    world.check(not state.ledger.alive(), f"channels are left: {state.ledger.alive()}")
    world.check(
        +Counter(figures["counts"]) == +state.counted,
        f"the endpoint counted {figures['counts']}, not {dict(state.counted)}",
    )
    await state.endpoint.drain()
    answer = await state.ask("GET", None)
    world.check(answer.status == 503, f"a session began while the endpoint drained: {answer}")


# Bodies of requests

TOGETHER, EACH = 3000, 1000


@define(eq=False)
class Upload:
    """One request with a body, and its state in the model."""

    number: int
    began: float
    # A channel with the pieces of the body that the request has not received yet.
    put: trio.MemorySendChannel[Any]
    get: trio.MemoryReceiveChannel[Any]
    size: int = 0
    held: int = 0
    # The number of the latest change of `held`. Of two bodies of the same size, the server drops the older one first.
    changed: int = 0
    problem: int = 0
    wanted: Any = "open"
    found: Any = "open"
    is_done: trio.Event = field(factory=trio.Event)


class Uploads:
    """Requests that send their bodies at the same time. A model knows how many bytes of each are in memory."""

    def __init__(self, world: World, nursery: trio.Nursery) -> None:
        self.world = world
        self.nursery = nursery
        self.random: Random = world.random("operations")
        self.incoming = Backlog(max_bytes=TOGETHER)
        self.bodies = Bodies(self.incoming, on_shed=lambda _: None)
        self.changes = 0
        self.uploads: list[Upload] = []
        self.made = 0

    def begin(self) -> None:
        self.made += 1
        put, get = trio.open_memory_channel[Any](100)
        upload = Upload(self.made, self.world.seconds, put, get)
        self.uploads.append(upload)
        self.nursery.start_soon(self.serve, upload)

    async def serve(self, upload: Upload) -> None:
        outcome = await self.bodies.read(upload.get.receive, max_bytes=EACH, timeout=10.0)
        if isinstance(outcome, Body):
            with outcome:
                upload.found = len(outcome.data)
                await upload.is_done.wait()
        else:
            upload.found = outcome

    def send(self, upload: Upload, size: int, *, is_last: bool) -> None:
        """Send a piece of a body, and compute the expected outcome."""
        message = {"type": "http.request", "body": b"x" * size, "more_body": not is_last}
        upload.put.send_nowait(message)
        if not upload.problem:
            upload.size += size
            if upload.size > EACH:
                upload.problem, upload.held = 413, 0
            elif size:
                self.changes += 1
                upload.held, upload.changed = upload.held + size + PIECE_OVERHEAD, self.changes
                if self.held() > TOGETHER:
                    self.world.sometimes("all bodies together are too large")
                    self.make_room()
        if is_last:
            upload.wanted = upload.problem or upload.size
            upload.held = 0 if upload.problem else upload.size

    def make_room(self) -> None:
        """Refuse the largest bodies that are not whole, until a sixteenth of the limit is free."""
        arriving = [each for each in self.uploads if each.wanted == "open"]
        for upload in sorted(arriving, key=lambda each: (-each.held, each.changed)):
            if self.held() <= TOGETHER - (TOGETHER >> 4):
                return
            if upload.held:
                upload.problem, upload.held = 503, 0

    def held(self) -> int:
        return sum(each.held for each in self.uploads)

    def end(self, upload: Upload, wanted: Any) -> None:
        upload.wanted = wanted
        if wanted != "done":
            upload.held = 0

    async def step(self) -> None:
        what = self.random.choices(("begin", "send", "leave", "done", "wait"), (4, 8, 1, 4, 1))[0]
        waiting = [each for each in self.uploads if each.wanted == "open"]
        whole = [each for each in self.uploads if each.held and each.wanted not in ("open", None)]
        if what == "begin" and len(self.uploads) < 12:
            self.begin()
        elif what == "send" and waiting:
            size = self.random.choice((0, 1, 300, 500, EACH, EACH + 1))
            upload = self.random.choice(waiting)
            self.send(upload, size, is_last=self.random.random() < 0.4)
        elif what == "leave" and waiting:
            upload = self.random.choice(waiting)
            upload.put.send_nowait({"type": "http.disconnect"})
            self.end(upload, None)
        elif what == "done" and whole:
            upload = self.random.choice(whole)
            upload.is_done.set()
            upload.held = 0
        elif what == "wait":
            await trio.sleep(self.random.choice((1.0, 4.0)))
        await self.world.settle()
        for upload in [each for each in self.uploads if each.wanted == "open"]:
            if self.world.seconds >= upload.began + 10.0:
                self.end(upload, upload.problem or 408)
        self.compare()

    def compare(self) -> None:
        for upload in self.uploads:
            self.world.check(
                upload.found == upload.wanted,
                f"the request {upload.number} with {upload.size} bytes got {upload.found}, not {upload.wanted}",
            )
        held = self.incoming.waiting_bytes
        self.world.check(held == self.held(), f"{held} bytes of bodies are held, not {self.held()}")
        self.uploads = [each for each in self.uploads if each.held or each.wanted == "open"]


@scenario(params={"operations": 80}, invariants=("all",))
@small_bounds
async def bodies(world: World) -> None:
    """Send bodies at the same time. Check the limits on their sizes, their time and their memory exactly."""
    async with trio.open_nursery() as nursery:
        state = Uploads(world, nursery)
        for _ in range(world.params["operations"]):
            await state.step()
        nursery.cancel_scope.cancel()
    world.check(
        state.incoming.waiting_bytes == 0,
        f"all requests have ended, and {state.incoming.waiting_bytes} bytes are held",
    )

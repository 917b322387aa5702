"""Limits and back-pressure of connections: just below, exactly at and just above each limit.

    ashtree simulate tests.simulation.sweeps.channels.pressure:pressure --seeds 1-1000

Each run takes one of the cases below. A case brings a connection, a channel, a session or the endpoint to a limit. Then
the case ends the pressure in a random way, and checks that the server answers its clients again.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from actors import Shutdown, current_pid, is_alive, kill, send_exit, whereis
from channels import Channel, LongPoll, PushReply, Socket, handle_in
from supervision import DynamicSupervisor
from supervision.simulation import World
from tests.laws.scenarios import scenario
from tests.simulation.sweeps.bounds import small_bounds
from tests.simulation.sweeps.channels.clients import TEXT, Client
from tests.simulation.sweeps.channels.endpoint import SLACK, Case, run_cases
from tests.simulation.sweeps.channels.room import CHECKED

LIMIT, HALF = 1024, 512
"""At `LIMIT` waiting messages for a channel, its connection stops reading. At `HALF`, it reads again."""

UNIT = 8192
"""A long message counts as one more message for each `UNIT` of bytes."""

PACE = 0.02
"""Seconds that a slow channel needs for each `count` push."""


class SlowChannel(Channel):
    """A channel with slow and quick pushes. It counts the pushes that it has handled."""

    log_join = None
    log_handle_in = None

    async def join(self, topic: str, payload: Any) -> None:
        self.handled = 0

    @handle_in("wait")
    async def wait(self, payload: Any) -> PushReply:
        await trio.sleep(payload["seconds"])
        return PushReply({})

    @handle_in("count")
    async def count(self, payload: Any) -> PushReply:
        await trio.sleep(PACE)
        self.handled += 1
        return PushReply({"n": self.handled})

    @handle_in("quick")
    async def quick(self, payload: Any) -> PushReply:
        self.handled += 1
        return PushReply({"n": self.handled})

    @handle_in("crash")
    async def crash(self, payload: Any) -> PushReply:
        raise RuntimeError("as planned")


class SlowSocket(Socket):
    """A socket with slow channels."""

    log = None
    channels = {"room:*": SlowChannel}

    async def connect(self, params: dict[str, Any], connect_info: Any) -> None:
        # `connect` runs in the process of the connection.
        known = {"name": params["name"], "pid": current_pid()}
        self.endpoint.ledger.connects.append(known)  # type: ignore[attr-defined] # the case sets it
        self.user = params.get("user")

    def id(self) -> str | None:
        return None if self.user is None else f"user:{self.user}"


async def joined(case: Case, topic: str = "room:a", **options: Any) -> Client:
    """Connect a client, and join a slow channel."""
    client = await case.client(joins=False, **options)
    await join(case, client, topic)
    return client


async def join(case: Case, client: Client, topic: str, ref: str = "1") -> None:
    await client.send(ref, ref, topic, "phx_join", {})
    await case.until(f"{client} has joined {topic}", lambda: client.frames)
    frames = client.take()
    is_joined = [(each.topic, each.ref, each.payload["status"]) for each in frames]
    case.check(is_joined == [(topic, ref, "ok")], f"{client} joined {topic} and got {frames}")


async def send_together(client: Client, messages: list[bytes]) -> None:
    """Send messages. If the client has a stream, use a single write."""
    if client.carrier == "asgi":
        for message in messages:
            await client.send_raw(message)
    else:
        await client.write(b"".join(client.frame(TEXT, message) for message in messages))


async def look(case: Case, what: str, holds: Callable[[], Any], within: float = 60.0) -> None:
    """Wait until a condition holds, and test it twice a second. `Case.until` tests after each step of a task."""
    until = case.world.seconds + within
    while not holds():
        case.check(case.world.seconds < until, f"{what} did not happen within {within:g} s")
        await trio.sleep(0.5)


async def channel_of(case: Case, topic: str) -> Any:
    """Return the process of a topic's only channel."""
    (pid,) = case.endpoint.pubsub.subscribers(topic)
    return pid


async def flooded_channel(case: Case) -> None:
    """Check that the server stops reading at exactly 1,024 waiting messages, and reads again at 512."""
    random = case.random
    await case.start(SlowSocket, timeout=1000.0)
    # Only "asgi" gets long messages, because the simulated network is too slow for megabytes.
    carrier = random.choice(("socket", "asgi"))
    client = await joined(case, carrier=carrier)
    weight = random.choice((1, 2, 4)) if carrier == "asgi" else 1
    filler = "x" * (UNIT * (weight - 1) + 100)
    # The messages beyond the limit and the heartbeat must fit into the window. Otherwise, the client's write would last
    # until the server reads again, and the heartbeat would come too late for the check. A push has less than 150 bytes.
    beyond = 30 if carrier == "asgi" else min(30, case.world.knobs.window // 150 - 1)
    count = (LIMIT + random.choice((-1, 0, 1, beyond)) * weight) // weight
    await client.send("1", "w", "room:a", "wait", {"seconds": 40.0})
    events = [_event((count - n) * weight) for n in range(count)]
    pushes = [client.text("1", f"p{n}", "room:a", each, filler) for n, each in enumerate(events)]
    # The server also stops reading at 512 KiB of unhandled bytes, so send long messages in small groups.
    size = count if weight == 1 else 15
    for start in range(0, count, size):
        await send_together(client, pushes[start : start + size])
        await trio.sleep(0.4)
    await trio.sleep(3.0)
    await client.send(None, "beat", "phoenix", "heartbeat", {})
    await trio.sleep(SLACK)
    is_full = count * weight >= LIMIT
    early = _beats(client)
    case.check(
        early == (not is_full),
        f"{count} messages of weight {weight} wait, and a heartbeat got {early} replies",
    )
    await look(case, "all pushes are answered", lambda: len(_replies(client)) == count + 1, 600)
    await look(case, "the heartbeat is answered", lambda: _beats(client))
    if is_full:
        case.world.sometimes("a connection reads again when its channel has caught up")
        # The first reply answers `wait`. The channel takes a push from its mailbox just before it replies to that push.
        place = [frame.topic for frame in client.frames].index("phoenix")
        left = (count + 1 - place) * weight
        # The server reads the messages beyond the limit before the heartbeat, so they count too.
        most = HALF + max(0, count * weight - LIMIT) + 100
        case.check(
            HALF - 2 * weight <= left <= most,
            f"{client} was read again when {left} messages of weight {weight} waited, not at {HALF}",
        )
    refs = [frame.ref for frame in _replies(client)]
    case.check(refs == ["w", *(f"p{n}" for n in range(count))], f"{client} got the replies {refs}")
    await client.close()
    await case.nothing_is_left()


def _event(left: int) -> str:
    """Return a slow event if about `HALF` of the messages are left, and a quick event otherwise."""
    return "count" if HALF - 80 <= left <= HALF + 20 else "quick"


def _beats(client: Client) -> int:
    return sum(frame.topic == "phoenix" for frame in client.frames)


def _replies(client: Client, topic: str = "room:a") -> list[Any]:
    return [each for each in client.frames if each.topic == topic and each.event == "phx_reply"]


async def flooded_channel_ends(case: Case) -> None:
    """End a flooded channel. The server must read its client again, and answer the client's other messages."""
    random = case.random
    await case.start(SlowSocket, timeout=1000.0)
    client = await joined(case, carrier=random.choice(("socket", "asgi")))
    has_other = random.random() < 0.5
    if has_other:
        await join(case, client, "room:b", "2")
    await client.send("1", "w", "room:a", "wait", {"seconds": 30.0})
    how = random.choice(("kill", "exit", "crash", "normal"))
    count = LIMIT + random.randrange(3)
    refs = [f"p{n}" for n in range(count)]
    events = ["crash" if how == "crash" and n == 3 else "quick" for n in range(count)]
    pushes = zip(refs, events, strict=True)
    await send_together(
        client, [client.text("1", *each[:1], "room:a", each[1], {}) for each in pushes]
    )
    await trio.sleep(2.0)
    await client.send("2", "other", "room:b", "quick", {})
    await client.send(None, "beat", "phoenix", "heartbeat", {})
    await trio.sleep(2.0)
    case.check(not client.frames, f"the server reads {client}, and {count} messages wait")
    pid = await channel_of(case, "room:a")
    if how == "kill":
        kill(pid)
    elif how in ("exit", "normal"):
        send_exit(pid, "bad" if how == "exit" else Shutdown("as planned"))
    await case.until("the channel has ended", lambda: not is_alive(pid), 60)
    await trio.sleep(SLACK)
    case.world.sometimes("a flooded channel ends")
    last = [frame.event for frame in client.frames if frame.event == "phx_error"]
    case.check(
        last == ["phx_error"], f"the flooded channel ended by {how}, and {client} got {last}"
    )
    case.check(
        _beats(client) == 1, f"{client} is not read after its flooded channel ended by {how}"
    )
    others = [frame.payload["status"] for frame in _replies(client, "room:b")]
    wanted = ["ok" if has_other else "error"]
    case.check(others == wanted, f"the push to room:b after {how} got {others}, not {wanted}")
    got = [frame.ref for frame in _replies(client)]
    before = ["w", *refs[:3]] if how == "crash" else []
    case.check(got[: len(before)] == before, f"{client} got the replies {got[:5]}, then {how}")
    client.take()
    await join(case, client, "room:a", "9")
    await client.send("9", "10", "room:a", "quick", {})
    await case.until("the next membership is answered", lambda: client.frames)
    (frame,) = client.take()
    case.check(frame.payload["response"] == {"n": 1}, f"the next membership got {frame}")
    await client.close()
    await case.nothing_is_left()


async def silence_behind_a_flood(case: Case) -> None:
    """Check that a client does not count as silent while the server does not read its messages."""
    timeout = 20.0
    busy = case.random.choice((8.0, 15.0))
    await case.start(SlowSocket, timeout=timeout)
    client = await joined(case)
    pushes = [client.text("1", f"p{n}", "room:a", "quick", {}) for n in range(LIMIT + 5)]
    first = client.text("1", "w", "room:a", "wait", {"seconds": busy})
    began = case.world.seconds
    await send_together(client, [first, *pushes])
    # After the server reads again, the client may be silent for 20 s more.
    await trio.sleep(busy + timeout - 2.0 + began - case.world.seconds)
    case.check(not client.ended, f"{client} was closed with {client.code}, 18 s after the flood")
    case.check(len(_replies(client)) == LIMIT + 6, f"{client} got {len(_replies(client))} replies")
    await client.send(None, "beat", "phoenix", "heartbeat", {})
    await look(case, "the heartbeat", lambda: _beats(client))
    await look(case, "the close of a silent client", lambda: client.ended, timeout + 2)
    case.check(client.code == 1002, f"{client} was silent, and was closed with {client.code}")
    await case.nothing_is_left()


async def two_flooded_channels(case: Case) -> None:
    """Flood two channels of one client. The server must read again only when both have caught up."""
    random = case.random
    await case.start(SlowSocket, timeout=1000.0)
    client = await joined(case, carrier="asgi")
    await join(case, client, "room:b", "2")
    seconds = {"room:a": random.choice((6.0, 12.0)), "room:b": random.choice((8.0, 16.0))}
    data = []
    for ref, topic in (("1", "room:a"), ("2", "room:b")):
        pushes = [(ref, f"{topic} w", topic, "wait", {"seconds": seconds[topic]})]
        pushes += [(ref, f"{topic} {n}", topic, "quick", {}) for n in range(LIMIT + 5)]
        data += [client.text(*push) for push in pushes]
    began = case.world.seconds
    await send_together(client, data)
    await trio.sleep(2.0)
    for number in range(10):
        # The server may have received up to 512 KiB more before a channel was full.
        await client.send(None, f"beat {number}", "phoenix", "heartbeat", "x" * 60_000)
    await look(case, "the heartbeats are answered", lambda: _beats(client) == 10, 120)
    lasted = case.world.seconds - began
    # The second channel may get its pushes only after the first has caught up.
    case.check(
        max(seconds.values()) - 0.2 <= lasted <= sum(seconds.values()) + 3 * SLACK,
        f"{client} was read again after {lasted:g} s; its channels were busy for {seconds}",
    )
    for topic in seconds:
        wanted = [f"{topic} w", *(f"{topic} {n}" for n in range(LIMIT + 5))]
        await look(case, f"{topic} answers", lambda t=topic: len(_replies(client, t)) > LIMIT + 5)  # type: ignore[misc]
        refs = [frame.ref for frame in _replies(client, topic)]
        case.check(refs == wanted, f"{client} got {len(refs)} replies of {topic} in another order")
    await client.close()
    await case.nothing_is_left()


async def work_line(case: Case) -> None:
    """Let clients send more work than one turn can do. Kill some clients' connections while their work waits."""
    random = case.random
    await case.start(SlowSocket, timeout=1000.0)
    count = random.randint(3, 6)
    # The messages of "asgi" clients use no network, so all of them arrive at the same time.
    clients = [
        await joined(case, carrier=random.choice(("socket", "asgi", "asgi"))) for _ in range(count)
    ]
    connections = {each["name"]: each["pid"] for each in case.ledger.connects}
    pids = [connections[client.name] for client in clients]
    victims = random.sample(range(count), random.randint(1, count - 1))
    wanted: dict[int, list[str]] = {number: [] for number in range(count)}
    size = random.choice((600, 20_000, 70_000)) if case.world.knobs.window >= 16384 else 600
    sends: list[tuple[Client, tuple[Any, ...]]] = []
    for number, client in enumerate(clients):
        for place in range(random.randint(2, 4)):
            ref = f"{number}.{place}"
            wanted[number].append(ref)
            kind = random.choice(("long", "long", "join"))
            if kind == "join":
                sends.append((client, (ref, ref, f"room:{place}", "phx_join", {})))
            else:
                sends.append((client, ("1", ref, "room:a", "quick", "x" * size)))
    async with trio.open_nursery() as nursery:
        for client in clients:
            nursery.start_soon(_send_all, client, [each for who, each in sends if who is client])
        rounds = 0
        while victims and rounds < 3000:
            rounds += 1
            await trio.sleep(0 if random.random() < 0.9 else 0.01)
            if case.endpoint.statistics()["work"].waiting > 1 and random.random() < 0.3:
                case.world.sometimes("a connection is killed while work waits")
                for _ in range(random.randint(1, len(victims))):
                    victim = victims.pop()
                    kill(pids[victim]) if random.random() < 0.7 else send_exit(pids[victim], "bad")
                    del wanted[victim]
    await trio.sleep(20)
    for number, refs in wanted.items():
        got = [frame.ref for frame in clients[number].take() if frame.event == "phx_reply"]
        case.check(
            sorted(got) == sorted(refs), f"{clients[number]} got the replies {got}, not {refs}"
        )
    work = case.endpoint.statistics()["work"]
    case.check(work.waiting == 0, f"work waits, and all clients are quiet: {work}")
    probe = await joined(case)
    await probe.send("1", "last", "room:a", "quick", "x" * 3000)
    await case.until("a new client is answered", lambda: probe.frames)
    for client in [*clients, probe]:
        if not client.ended:
            await client.close()
    await case.nothing_is_left()


async def _send_all(client: Client, messages: list[Any]) -> None:
    for message in messages:
        await client.send(*message)


async def bytes_for_a_reader(case: Case) -> None:
    """Check that the server never closes a slow client that keeps reading, whatever the total of its bytes."""
    random, knobs = case.random, case.world.knobs
    window = knobs.window
    wide = max(200, window // 8)
    if wide > 50_000 or 40 * wide / knobs.segment > 20_000:
        return
    most = random.choice((30, 100)) * wide
    await case.start(SlowSocket, max_buffered_bytes=most, timeout=100_000)
    client = await joined(case)
    number = 0
    for _ in range(random.randint(3, 6)):
        client.pause()
        # The server counts the bytes of a write until it has written all of them, so use half of the limit.
        burst = most // wide // 2 - 3
        for _ in range(burst):
            case.endpoint.broadcast("room:a", "said", {"n": number, "x": "x" * (wide - 70)})
            number += 1
            if random.random() < 0.2:
                await trio.sleep(0.01)
        await trio.sleep(random.choice((0.0, 1.0)))
        client.resume()
        for _ in range(random.choice((0, 2, 6))):
            # The client reads some frames, and pauses again. The server then sends the same number of new frames.
            before = len(client.frames)
            await trio.sleep(random.random() * 0.1)
            client.pause()
            await trio.sleep(0.5)
            for _ in range(len(client.frames) - before):
                case.endpoint.broadcast("room:a", "said", {"n": number, "x": "x" * (wide - 70)})
                number += 1
            client.resume()
        await look(
            case,
            f"the reading of {number} frames of {wide} bytes by {client}, with a limit of {most}",
            lambda n=number: client.ended or len(client.frames) >= n,  # type: ignore[misc]
            6000,
        )
        case.check(
            not client.ended,
            f"{client} reads, and was closed with {client.code}: {case.endpoint.statistics()}",
        )
    numbers = [frame.payload["n"] for frame in client.take()]
    case.check(numbers == list(range(number)), f"{client} got {numbers}")
    case.check(case.count("phoenix", "socket_overflow") == 0, "an overflow was counted")
    await client.close()
    await case.nothing_is_left()


async def bytes_for_a_poll(case: Case) -> None:
    """Check that `max_buffered_bytes` may wait for a polling client, and that one byte more ends its session."""
    random = case.random
    most = random.choice((1000, 5000))
    await case.start(
        SlowSocket,
        max_buffered_bytes=most,
        longpoll=LongPoll(window=20.0),
        max_buffered_messages=50,
    )
    client = await joined(case, carrier="poll")
    client.pause()
    case.endpoint.broadcast("room:a", "said", {"n": "last"})
    await case.until("the last poll returns", lambda: client.frames)
    client.take()
    excess = 0
    for _ in range(random.randint(1, 3)):
        excess = random.choice((-1, 0, 0, 1, 100)) if not excess or excess < 0 else excess
        frames = random.randint(2, 5)
        sizes = [most // frames] * (frames - 1)
        sizes.append(most - sum(sizes) + excess)
        for number, size in enumerate(sizes):
            case.endpoint.broadcast("room:a", "said", _payload_of(size, number))
        await trio.sleep(0.5)
        client.resume()
        await trio.sleep(1)
        if excess > 0:
            break
        got = [frame.payload["n"] for frame in client.take()]
        case.check(
            got == list(range(frames)) and not client.ended,
            f"{sum(sizes)} bytes waited, with a limit of {most}: {client} got {got}, ended: {client.ended}",
        )
        client.pause()
        case.endpoint.broadcast("room:a", "said", {"n": "last"})
        await case.until("the poll returns", lambda: client.frames)
        client.take()
    overflows = case.count("phoenix", "socket_overflow")
    case.check(
        overflows == (excess > 0),
        f"{most + excess} bytes waited, with a limit of {most}, and {overflows} overflows were counted",
    )
    client.resume()
    await trio.sleep(1)
    case.check(client.ended == (excess > 0), f"{client} has ended: {client.ended}")
    client.vanish()
    await trio.sleep(65)
    await case.nothing_is_left()


async def values_for_a_reader(case: Case) -> None:
    """Check that a slow client gets values that may be dropped in order, with the newest value of each key.

    Ordinary messages and the replies to rejoins are among the values. The client gets all of them in their place.
    """
    random = case.random
    await case.start(SlowSocket, timeout=100_000.0, longpoll=LongPoll(window=60.0))
    client = await joined(case, carrier=random.choice(("socket", "poll")))
    sent: list[Any] = []

    def received() -> list[Any]:
        return [
            each.payload["value"] if each.event == "said" else ["", each.ref]
            for each in client.frames
            if each.event in {"said", "phx_reply"}
        ]

    def send(key: str, size: int) -> None:
        value = [key, len(sent)]
        sent.append(value)
        payload = {"value": value, "x": "x" * size}
        if key:
            case.endpoint.broadcast_latest("room:a", "said", payload, key=key)
        else:
            case.endpoint.broadcast("room:a", "said", payload)

    for _ in range(random.randint(1, 3)):
        client.pause()
        for ref in range(2, random.randint(20, 60)):
            size = random.choice((0, 50, 3000))
            for _ in range(random.choice((1, 1, 5, 100))):
                send(random.choice(("a", "b", "c", "d")) if random.random() < 0.9 else "", size)
            if random.random() < 0.3:
                await trio.sleep(random.choice((0.0, 0.01, 0.3)))
                if random.random() < 0.2:
                    (client.pause if client.is_reading else client.resume)()
            if random.random() < 0.05:
                await client.send(str(ref), str(ref), "room:a", "phx_join", {})
                await trio.sleep(5)
                sent.append(["", str(ref)])
        client.resume()
        send("", 0)
        await look(case, f"{client} reads on", lambda: client.ended or sent[-1] in received(), 6000)
        case.check(not client.ended, f"{client} was closed with {client.code}")
    got = received()
    everything = iter(sent)
    case.check(all(each in everything for each in got), f"{client} got {got} of {sent}")
    ordinary = [each for each in sent if not each[0]]
    case.check([each for each in got if not each[0]] == ordinary, f"{client} got {got}")
    case.check(dict(got) == dict(sent), f"{client} got {dict(got)} of {dict(sent)}")
    latest = case.endpoint.statistics()["latest"]
    missing = len(sent) - len(got)
    case.check((latest.replaced, latest.dropped) == (missing, 0), f"{missing} missing: {latest}")
    case.world.sometimes("values are replaced", missing > 0)
    client.vanish()
    await trio.sleep(185)
    await case.nothing_is_left()


def _payload_of(size: int, number: int) -> dict[str, Any]:
    """Return a payload whose V2 broadcast has exactly `size` bytes."""
    empty = [None, None, "room:a", "said", {"n": number, "x": ""}]
    bare = len(json.dumps(empty, separators=(",", ":")))
    return {"n": number, "x": "x" * (size - bare)}


async def one_huge_frame(case: Case) -> None:
    """Send one huge frame to an empty buffer, which must accept it. The next frame must overflow the buffer."""
    most = 2000
    await case.start(SlowSocket, max_buffered_bytes=most, longpoll=LongPoll(window=20.0))
    client = await joined(case, carrier="poll")
    client.pause()
    case.endpoint.broadcast("room:a", "said", {"n": "last"})
    await case.until("the last poll returns", lambda: client.frames)
    client.take()
    case.endpoint.broadcast("room:a", "said", _payload_of(3 * most, 0))
    is_too_much = case.random.random() < 0.5
    if is_too_much:
        case.endpoint.broadcast("room:a", "said", {"n": 1})
    client.resume()
    await trio.sleep(1)
    got = [frame.payload["n"] for frame in client.take()]
    case.check(client.ended == is_too_much, f"{client} got {got}, and has ended: {client.ended}")
    case.check(is_too_much or got == [0], f"{client} got {got}, not the one frame")
    client.vanish()


async def held_posts(case: Case) -> None:
    """Check that posts for a flooded channel wait, and keep their order while the channel catches up."""
    random = case.random
    await case.start(SlowSocket, longpoll=LongPoll(window=60.0))
    client = await joined(case, carrier="poll")
    await client.send("1", "w", "room:a", "wait", {"seconds": 2.0})
    refs = ["w"]
    statuses: dict[str, Any] = {}
    for size in (*[100] * 10, 24):
        names = [f"p{len(refs) + number}" for number in range(size)]
        events = [_event(LIMIT + 1 - int(name[1:])) for name in names]
        lines = [
            client.text("1", name, "room:a", event, {})
            for name, event in zip(names, events, strict=True)
        ]
        answer = await client.request("POST", b"\n".join(lines))
        case.check(answer["status"] == 200, f"{client} posted {size} messages and got {answer}")
        refs += names
    async with trio.open_nursery() as nursery:

        async def post(name: str, data: bytes) -> None:
            statuses[name] = (await client.request("POST", data))["status"]

        # Each of these posts begins after the previous one. Meanwhile, the channel catches up to 512 waiting messages.
        for number in range(random.choice((3, 30))):
            refs.append(f"late {number}")
            line = client.text("1", refs[-1], "room:a", "quick", {})
            nursery.start_soon(post, refs[-1], line)
            await trio.sleep(random.choice((PACE / 2, PACE, 0.4, 0.7, 1.1)))
            if number == 1:
                case.check(
                    not statuses, f"the channel is full, and posts were answered: {statuses}"
                )
    case.world.sometimes("posts wait for a busy channel")
    await look(case, "all is answered", lambda: len(_replies(client)) >= len(refs), 300)
    case.check(set(statuses.values()) == {200}, f"the posts were answered {statuses}")
    got = [frame.ref for frame in _replies(client)]
    wrong = next(((a, b) for a, b in zip(got, refs, strict=False) if a != b), None)
    case.check(
        len(got) == len(refs) and wrong is None,
        f"{client} got {len(got)} replies of {len(refs)}; the first difference is {wrong}",
    )
    client.vanish()
    await trio.sleep(185)
    await case.nothing_is_left()


async def pool_dies(case: Case) -> None:
    """Kill the supervisors of the channels during joins. Every join must get one reply. Later joins must succeed."""
    random = case.random
    await case.start(SlowSocket, timeout=1000.0)
    clients = [await case.client(joins=False) for _ in range(2)]
    name = (case.endpoint, "channels", "SlowSocket")
    await trio.sleep(1.0)
    asked: list[tuple[Client, str]] = []
    for number in range(6):
        client, ref = random.choice(clients), str(number + 1)
        asked.append((client, ref))
        await client.send(ref, ref, f"room:{number}", "phx_join", {})
        await trio.sleep(random.choice((0.0, 0.0, 0.01, 0.1)))
        if number in (1, 3):
            parts = [whereis((*name, part)) for part in range(2)]
            for pid in parts:
                if pid is not None and random.random() < 0.7:
                    kill(pid)
    await trio.sleep(5)
    for client, ref in asked:
        replies = [each for each in client.frames if (each.event, each.ref) == ("phx_reply", ref)]
        case.check(len(replies) == 1, f"the join {ref} of {client} got the replies {replies}")
        crashed = replies[0].payload == {"status": "error", "response": {"reason": "join crashed"}}
        case.world.sometimes("a join finds no supervisor", crashed)
    for client in clients:
        client.take()
        await join(case, client, "room:again", "99")
        await client.close()
    await case.nothing_is_left()


async def many_rejoins(case: Case) -> None:
    """Join a topic many times while `join` runs. Every join must be accepted in its turn, and the last must stay."""
    random = case.random
    await case.start()
    client = await case.client(joins=False)
    count = random.choice((7, 8, 9, 10, 12))
    seconds = random.choice((1.0, 3.0))
    for number in range(count):
        acts = [["sleep", seconds]] if number == 0 else [["answer", {"n": number}]]
        await client.send(str(number), str(number), "room:a", "phx_join", {"acts": acts})
    await trio.sleep(15)
    replies = {frame.ref: frame.payload for frame in client.frames if frame.event == "phx_reply"}
    case.check(
        list(replies) == list(map(str, range(count)))
        and all(each["status"] == "ok" for each in replies.values()),
        f"{count} joins of {client} got {replies}",
    )
    closes = [frame.join_ref for frame in client.frames if frame.event == "phx_close"]
    case.check(closes == list(replies)[:-1], f"{client} got phx_close for {closes}")
    await client.close()
    await case.nothing_is_left()


async def deaf_goodbye(case: Case) -> None:
    """Let a client not finish the close handshake. The server must abort the connection after five seconds."""
    random = case.random
    await case.start(timeout=1000.0)
    client = await case.client(params={"user": "ann"})
    how = random.choice(("disconnect", "malformed", "drain"))
    client.pause()
    if how == "disconnect":
        case.endpoint.broadcast("user:ann", "disconnect", {})
    elif how == "malformed":
        await client.write(client.frame(TEXT, b"nonsense"))
    else:
        case.nursery.start_soon(case.endpoint.drain)
    await trio.sleep(4.0)
    left = await DynamicSupervisor.which_children((case.endpoint, "connections"))
    case.check(len(left) == 1, f"{how}: the server did not wait for the close of {client}")
    reasons = {"disconnect": "disconnected", "malformed": "closed", "drain": "draining"}
    life = case.life(client)
    case.check(
        life.terminated == [Shutdown(reasons[how])],
        f"{how}: the channel of {client} ended with {life.terminated}",
    )
    await trio.sleep(2.0 + SLACK)
    left = await DynamicSupervisor.which_children((case.endpoint, "connections"))
    case.check(not left, f"{how}: {client} did not answer for 6 s, and is still connected")
    client.resume()
    await case.nothing_is_left()


CASES: list[Callable[[Case], Awaitable[None]]] = [
    flooded_channel,
    flooded_channel,
    flooded_channel_ends,
    flooded_channel_ends,
    two_flooded_channels,
    silence_behind_a_flood,
    work_line,
    work_line,
    bytes_for_a_reader,
    bytes_for_a_poll,
    bytes_for_a_poll,
    values_for_a_reader,
    values_for_a_reader,
    one_huge_frame,
    held_posts,
    pool_dies,
    pool_dies,
    many_rejoins,
    many_rejoins,
    deaf_goodbye,
    deaf_goodbye,
]


@scenario(params={"cases": 1}, invariants=("all", *CHECKED))
@small_bounds
async def pressure(world: World) -> None:
    """Run some cases, one after the other."""
    await run_cases(world, CASES)

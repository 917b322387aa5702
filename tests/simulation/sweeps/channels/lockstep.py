"""Clients of one endpoint: one random operation after the other, with an exact check after each operation.

    ashtree simulate tests.simulation.sweeps.channels.lockstep:lockstep --seeds 1-1000

`Model` predicts the frames of each client, in order, and the callbacks of each channel. The sweep also checks the
subscriptions, the processes and the counters of the server. When all clients are gone, the server may have no process
and no subscription left for them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import trio

from actors import (
    NORMAL,
    SHUTDOWN,
    Crash,
    Shutdown,
    call,
    cast,
    kill,
    send,
    send_exit,
)
from channels import Binary, Endpoint, LongPoll, Mount
from channels.errors import EncodeError
from supervision import DynamicSupervisor
from supervision.simulation import World
from tests.laws.scenarios import scenario
from tests.simulation.sweeps.bounds import small_bounds
from tests.simulation.sweeps.channels.clients import (
    BINARY,
    TEXT,
    Carrier,
    Client,
    Frame,
    pack_push,
)
from tests.simulation.sweeps.channels.model import CRASHED, Member, Model, Seat
from tests.simulation.sweeps.channels.room import CHECKED, Acts, Ledger, Life, UserSocket

PAUSE = 2.5
"""Seconds to wait after each operation, so that all its effects happen before the check."""

TOPICS = ("room:a", "room:b", "room:c", "room:fixed", "any:room", "any:x", "rooms")
ROOMS = ("room:a", "room:b", "room:c")
COLORS = {"room:fixed": ("fixed", "red"), "rooms": (None, "blue")}


def is_room(topic: str) -> bool:
    """Return True if a `Room` serves a topic. The first route that matches decides."""
    return topic.startswith("room:") and topic != "room:fixed"


def route_of(topic: str) -> tuple[str | None, str]:
    """Return the assigns `route` and `color` that the route of a topic sets."""
    if topic in COLORS:
        return COLORS[topic]
    return ("room" if topic.startswith("room:") else "rest", "blue")


def _crashed_last(frames: list[Frame]) -> list[Frame]:
    def is_crash(frame: Frame) -> bool:
        return "join crashed" in str(frame.payload)

    return sorted(frames, key=lambda frame: (1, str(frame)) if is_crash(frame) else (0, ""))


class Lockstep:
    """The state of one run."""

    def __init__(self, world: World, nursery: trio.Nursery) -> None:
        self.world = world
        self.nursery = nursery
        self.random = world.random("operations")
        self.ledger = Ledger()
        self.model = Model()
        self.endpoint = Endpoint(
            sockets={
                "/socket": Mount(UserSocket, longpoll=LongPoll(window=4.0), timeout=100_000),
                "/zip": Mount(UserSocket, compress=True, timeout=100_000, max_frame_size=5000),
            },
            listen=world.network.open,
        )
        self.endpoint.ledger = self.ledger  # type: ignore[attr-defined]
        self.serial = 0
        self.made = 0
        self.malformed = 0
        # Polling clients cannot get bytes, so some runs have none.
        self.has_polls = self.random.random() < 0.6
        self.what = ""

    # Choices

    def number(self) -> int:
        self.serial += 1
        return self.serial

    def a_seat(self) -> Seat:
        return self.random.choice([seat for seat in self.model.seats if seat.open])

    def a_member(self, *, room: bool = False) -> Member | None:
        members = [
            member
            for seat in self.model.seats
            for member in seat.members.values()
            if member.is_room or not room
        ]
        return self.random.choice(members) if members else None

    def payload(self) -> dict[str, Any]:
        chance = self.random.random()
        content: Any = "é" * self.random.randrange(4)
        if chance < 0.1:
            content = [1, 2.5, None, True, {"deep": [{}]}]
        elif chance < 0.15:
            # On a slow network, a long message would take longer than the pause.
            is_fast = self.world.knobs.window >= 65536 and self.world.knobs.segment >= 1460
            # `max_frame_size` of the mount "/zip" is smaller than a long message.
            can_be_long = is_fast and all(seat.client.path != "/zip" for seat in self.model.seats)
            content = "x" * self.random.choice((125, 126, 127, 300, 70_000 if can_be_long else 10))
        return {"n": self.number(), "x": content}

    def act(self) -> list[Any]:
        """Return one random action that does not end the callback."""
        random = self.random
        name = random.choices(
            (
                "push",
                "broadcast",
                "broadcast_from",
                "endpoint",
                "plain",
                "subscribe",
                "unsubscribe",
            ),
            (8, 8, 6, 3, 1, 2, 1),
        )[0]
        if name == "push":
            return ["push", "pushed", self.payload()]
        if name in ("broadcast", "broadcast_from"):
            return [name, random.choice(("said", "said", "seen", "hidden")), self.payload()]
        if name == "endpoint":
            event = random.choice(("said", "seen"))
            return ["endpoint", random.choice(TOPICS), event, self.payload()]
        if name == "plain":
            return ["plain", random.choice(ROOMS), f"plain {self.number()}"]
        topic = random.choice((*ROOMS, "news"))
        return [name, topic]

    def acts(self, most: int = 3) -> list[list[Any]]:
        return [self.act() for _ in range(self.random.randrange(most + 1))]

    def later(self, most: int = 2) -> list[list[Any]]:
        """Return the actions of a later callback. They begin with a sleep, so that all other processes act first."""
        acts = self.acts(most)
        return [["sleep", 0.3], *acts] if acts else []

    def response(self) -> Any:
        return self.random.choice(({}, {"n": self.number()}, [1, 2], "text", None, 7, True))

    # Running

    async def run(self) -> None:
        """Run the operations."""
        await self.endpoint.start_link(host="server", port=4000)
        for _ in range(3):
            await self.connect()
        for _ in range(self.world.params["operations"]):
            if not any(seat.open for seat in self.model.seats):
                await self.connect()
            operations = self.random.choices(*zip(*OPERATIONS, strict=True))[0]
            operation: Callable[[Lockstep], Awaitable[None]] = operations
            await self.step(operation)
        await self.end()

    async def step(self, operation: Callable[[Lockstep], Awaitable[None]]) -> None:
        """Do one operation, and check all its effects."""
        self.what = operation.__name__
        await operation(self)
        await trio.sleep(PAUSE)
        self.model.settle()
        self.check_frames()
        self.check_lives()
        await self.check_server()

    def tell(self, text: str) -> None:
        """Record the details of the operation, for the text of a failure."""
        self.what = f"{self.what}: {text}"
        self.world.note("operation", what=self.what)

    def check(self, holds: object, problem: str) -> None:
        self.world.check(holds, f"{problem}, after {self.what}")

    def check_frames(self) -> None:
        """Compare the frames of each client with the expected ones, topic by topic."""
        for seat in self.model.seats:
            if seat.open:
                pings, pongs = seat.client.pings, seat.client.pongs
                self.check(pings == pongs, f"{seat.client} sent {pings} and got {pongs}")
                pings.clear()
                pongs.clear()
            got, wanted = seat.client.take(), self.model.expected.pop(seat, [])
            if "join_slowly" in self.what:
                # The connection reports a crashed join while the next channel starts. The order of the frames is open.
                got, wanted = _crashed_last(got), _crashed_last(wanted)
            for topic in {repr(frame.topic): None for frame in (*got, *wanted)}:
                self._compare(
                    seat,
                    topic,
                    [frame for frame in got if repr(frame.topic) == topic],
                    [frame for frame in wanted if repr(frame.topic) == topic],
                )

    def _compare(self, seat: Seat, topic: str, got: list[Frame], wanted: list[Frame]) -> None:
        for index in range(max(len(got), len(wanted))):
            one = str(got[index]) if index < len(got) else "nothing more"
            other = str(wanted[index]) if index < len(wanted) else "nothing more"
            self.check(
                one == other, f"{seat.client} on {topic}: frame {index + 1} is {one}, not {other}"
            )

    def check_lives(self) -> None:
        """Compare the callbacks of the channels' processes with the model."""
        for seat in self.model.seats:
            for topic, members in seat.history.items():
                lives = self.ledger.of(seat.client.name, topic)
                self.check(
                    len(lives) == len(members),
                    f"{seat.client} started {len(lives)} channels of {topic!r}, not {len(members)}",
                )
                for life, member in zip(lives, members, strict=True):
                    self._check_life(life, member)
                members[:] = [member for member in members if member.alive]
                gone = len(lives) - len(members)
                for life in lives[:gone]:
                    self.ledger.lives.remove(life)

    def _check_life(self, life: Life, member: Member) -> None:
        self.check(life.did == member.did, f"{member} did {life.did}, not {member.did}")
        reasons = [
            CRASHED
            if isinstance(reason, Crash) and isinstance(reason.exception, Exception)
            else reason
            for reason in life.terminated
        ]
        self.check(
            reasons == member.terminated,
            f"{member}: terminate ran with {life.terminated}, not with {member.terminated}",
        )
        self.check(
            life.is_alive == member.alive,
            f"{member}: its process is {'alive' if life.is_alive else 'dead'}",
        )
        route, color = route_of(member.topic)
        wanted: dict[str, Any] = {"client": member.seat.client.name, "color": color}
        wanted.update({} if route is None else {"route": route})
        wanted.update({"mine": 1} if member.is_room else {})
        self.check(life.assigns == wanted, f"{member} got the assigns {life.assigns}, not {wanted}")

    async def check_server(self) -> None:
        """Compare the subscriptions and the processes of the server with the model."""
        pubsub, wanted = self.endpoint.pubsub, self.model.subscribers()
        for topic in (*TOPICS, "news"):
            found = len(pubsub.subscribers(topic))
            self.check(
                found == wanted.get(topic, 0),
                f"{topic!r} has {found} subscriptions, not {wanted.get(topic, 0)}",
            )
        users = [
            seat.user
            for seat in self.model.seats
            if seat.open and seat.user is not None and seat.client.carrier != "poll"
        ]
        for user in ("ann", "bob"):
            found = len(pubsub.subscribers(f"user:{user}"))
            self.check(
                found >= users.count(user),
                f"{found} connections listen to user:{user}, not {users}",
            )
        running = 0
        for number in range(2):
            name = (self.endpoint, "channels", "UserSocket", number)
            running += len(await DynamicSupervisor.which_children(name))
        self.check(
            running == self.model.living(),
            f"{running} channels run, not {self.model.living()}",
        )

    async def end(self) -> None:
        """End all connections in some way. Check that the server has nothing left."""
        how = self.random.choice(("drain", "leave", "stop"))
        self.what = f"the end by {how}"
        open_seats = [seat for seat in self.model.seats if seat.open]
        if how == "leave":
            for seat in open_seats:
                seat.client.vanish()
        elif how == "drain":
            await self.endpoint.drain()
            for seat in open_seats:
                self.model.disconnect(seat, Shutdown("draining"))
        await trio.sleep(30)
        if how == "leave":
            self.vanished(open_seats)
        if how != "stop":
            for seat in open_seats:
                seat.client.take()
            await self.check_nothing_left()
        if how == "drain":
            for seat in open_seats:
                if seat.client.carrier != "poll":
                    self.check(
                        seat.client.code == 1012,
                        f"{seat.client} was closed with {seat.client.code}",
                    )
        counts = self.endpoint.statistics()["counts"]
        found = counts.get(("phoenix", "socket_malformed"), 0)
        self.check(
            found == self.malformed,
            f"{found} malformed messages were counted, not {self.malformed}",
        )

    def vanished(self, seats: list[Seat]) -> None:
        """End the connections of vanished clients in the model."""
        polling = [seat for seat in seats if seat.client.carrier == "poll"]
        for seat in seats:
            if seat not in polling:
                self.model.disconnect(seat, Shutdown("closed"))
        # The server notices the end of a polling client last. Until then its channels get what others broadcast.
        self.model.deliver()
        for seat in polling:
            self.model.disconnect(seat, Shutdown("inactive"))

    async def check_nothing_left(self) -> None:
        """Check that the server has no process and no subscription for any client."""
        self.check_lives()
        await self.check_server()
        figures = self.endpoint.statistics()
        self.check(
            figures["subscriptions"] == 0 and figures["topics"] == 0,
            f"the endpoint still has {figures['subscriptions']} subscriptions",
        )
        for name in ("connections", "sessions"):
            left = await DynamicSupervisor.which_children((self.endpoint, name))
            self.check(not left, f"{len(left)} {name} are left")
        self.check(figures["work"].waiting == 0, f"work waits: {figures['work']}")

    # Operations

    async def connect(self) -> None:
        """Connect a new client."""
        random = self.random
        self.made += 1
        name = f"client{self.made}"
        user = random.choice((None, "ann", "bob"))
        carriers: tuple[Carrier, ...] = ("socket", "asgi", "poll")
        carrier = random.choices(carriers, (6, 2, 3 if self.has_polls else 0))[0]
        path = "/zip" if carrier == "socket" and random.random() < 0.2 else "/socket"
        client = Client(
            self.world,
            self.endpoint,
            name,
            vsn=random.choice(("1", "2", "2")),
            carrier=carrier,
            path=path,
            compress=path == "/zip" and random.random() < 0.7,
            params={"name": name, **({} if user is None else {"user": user})},
        )
        self.what = f"connect of {client}"
        accepted = await client.connect(self.nursery)
        self.check(accepted, f"{client} was answered {client.status}")
        self.model.seats.append(Seat(client, user))

    async def join(self) -> None:
        """Join a topic. The client may have joined it already."""
        seat, topic = self.a_seat(), self.random.choice((*ROOMS, *TOPICS))
        if self.random.random() < 0.4:
            # Often choose the client with the most channels, so that it reaches its limit.
            seat = max(self.model.seats, key=lambda each: (each.open, len(each.members)))
        await self.join_with(seat, topic, self.join_acts())

    def join_acts(self) -> list[list[Any]]:
        random = self.random
        before = [["sleep", 0.2]] if random.random() < 0.2 else []
        if random.random() < 0.2:
            before.append(["subscribe", random.choice((*ROOMS, "news"))])
        if random.random() < 0.2:
            before.append(["at_end", self.later() + ([["crash"]] if random.random() < 0.2 else [])])
        if random.random() < 0.05:
            before.append(["trap"])
        if random.random() < 0.1:
            before.append(["info", self.later()])
        ends: tuple[list[Any], ...] = (
            ["refuse", {"reason": "no"}],
            ["refuse", None],
            ["crash"],
            ["push", "pushed", {}],
            ["broadcast", "said", {}],
            ["exit", "normal"],
            ["answer", {"n": self.number()}],
            ["answer", [1]],
            ["answer", False],
        )
        return [*before, random.choice(ends)] if random.random() < 0.3 else before

    def refs(self) -> tuple[Any, Any]:
        """Return a join_ref and a ref for a join."""
        ref = str(self.number())
        return self.random.choices(
            ((ref, ref), (None, ref), (ref, None), (int(ref), int(ref)), ("", ref)),
            (12, 2, 1, 1, 1),
        )[0]

    async def join_with(self, seat: Seat, topic: str, acts: Acts) -> None:
        """Join a topic, and expect the answer."""
        join_ref, ref = self.refs()
        self.tell(f"{seat.client} joins {topic!r} as {join_ref!r}/{ref!r} with {acts}")
        old = seat.members.get(topic)
        await seat.client.send(join_ref, ref, topic, "phx_join", {"acts": acts})
        if old is not None and old.trap:
            # The old channel traps the exit signal, so the server kills the channel after five seconds.
            await trio.sleep(6)
        if old is None and len(seat.members) >= UserSocket.max_channels:
            self.world.sometimes("a client has joined too many topics")
            reason = {"reason": "too many channels joined"}
            self.model.emit_reply(seat, join_ref, ref, topic, "error", reason)
            return
        closes = []
        if old is not None:
            self.world.sometimes("a client joins a topic again")
            if old.trap:
                old.did.append("exit")
            self.model.gone(old)
            closes.append(old)
        member = self.new_member(seat, topic, join_ref, ref)
        self.model.join(seat, member, acts, closes)

    def new_member(self, seat: Seat, topic: str, join_ref: Any, ref: Any) -> Member:
        member = Member(seat, topic, is_room(topic) or False, join_ref, ref)
        seat.members[topic] = member
        return member

    async def join_nowhere(self) -> None:
        """Join a topic that no route matches."""
        seat = self.a_seat()
        topic: Any = self.random.choice(
            ("lobby", "room", "", "phoenix", "ashtree:presence:x", "ashtree:longpoll:a", None, 7)
        )
        ref = str(self.number())
        self.tell(f"{seat.client} joins {topic!r}")
        await seat.client.send(ref, ref, topic, "phx_join", {})
        unmatched = {"reason": "unmatched topic"}
        self.model.emit_reply(seat, None, ref, topic, "error", unmatched)

    async def join_slowly(self) -> None:
        """Join a topic several times before the server answers the first join."""
        seat = self.a_seat()
        topic = self.random.choice(ROOMS)
        old = seat.members.get(topic)
        if (old is not None and old.trap) or (
            old is None and len(seat.members) >= UserSocket.max_channels
        ):
            return
        count = self.random.randint(1, 3)
        joins = []
        for index in range(count):
            acts = self.random.choice(
                ([], [], [["refuse", {"k": index}]], [["crash"]], [["answer", {"k": index}]])
            )
            # With three joins and 8 seconds, the model could not know if the server still handles the second join.
            longest = 8.0 if count < 3 else 1.0
            seconds = self.random.choice((0.5, 1.0, longest)) if index == 0 else 0.0
            join_ref = str(self.number())
            joins.append((join_ref, seconds, [["sleep", seconds], *acts] if seconds else acts))
        self.tell(f"{seat.client} joins {topic!r} while it joins: {joins}")
        for join_ref, _, acts in joins:
            await seat.client.send(join_ref, join_ref, topic, "phx_join", {"acts": acts})
        then = self.random.choice((None, "leave", "push"))
        last = str(self.number())
        if then is not None:
            event = "phx_leave" if then == "leave" else "echo"
            await seat.client.send(joins[-1][0], last, topic, event, {})
        await trio.sleep(9)
        self._decide_joins(seat, topic, joins, then, last)

    def _decide_joins(
        self, seat: Seat, topic: str, joins: list[Any], then: str | None, last: str
    ) -> None:
        closes: list[Member] = []
        old = seat.members.get(topic)
        if old is not None:
            self.model.gone(old)
            closes.append(old)
        for index, (join_ref, seconds, acts) in enumerate(joins):
            member = self.new_member(seat, topic, join_ref, join_ref)
            is_last = index == len(joins) - 1
            if seconds > 5 and not is_last:
                # After the next join arrives, the server waits at most five more seconds for this one.
                self.world.sometimes("a join was given up")
                seat.history[topic].append(member)
                member.did.append("join")
                self.model.crashed_join(member, closes)
                closes = []
                continue
            said = self.model.join(seat, member, acts, closes)
            closes = []
            if said == "ok" and not is_last:
                self.world.sometimes("a join was replaced")
                self.model.gone(member)
                closes.append(member)
            if is_last and then is not None and said == "ok":
                event = "phx_leave" if then == "leave" else "echo"
                self.model.push(member, last, event, {})

    async def join_too_often(self) -> None:
        """Join a topic many times before the server answers the first join. All joins wait in one line."""
        seat, topic = self.a_seat(), self.random.choice(ROOMS)
        if topic in seat.members or len(seat.members) >= UserSocket.max_channels:
            return
        count = self.random.choice((9, 10, 12))
        refs = [str(self.number()) for _ in range(count)]
        self.tell(f"join_slowly: {seat.client} joins {topic!r} {count} times: {refs}")
        for ref in refs:
            acts = [["sleep", 2.0]] if ref == refs[0] else []
            await seat.client.send(ref, ref, topic, "phx_join", {"acts": acts})
        await trio.sleep(3)
        closes: list[Member] = []
        for ref in refs:
            member = self.new_member(seat, topic, ref, ref)
            self.model.join(seat, member, [], closes)
            closes = [member]
            if ref != refs[-1]:
                self.model.gone(member)

    async def leave(self) -> None:
        """Leave a topic. The client may not have joined it, and the join_ref may be wrong."""
        member = self.a_member()
        ref = self.random.choice((str(self.number()), None))
        if member is None or self.random.random() < 0.15:
            seat, topic = self.a_seat(), self.random.choice(("lobby", "room:none", "phx"))
            join_ref = self.random.choice((None, "5"))
            self.tell(f"{seat.client} leaves {topic!r}, which it has not joined")
            await seat.client.send(join_ref, ref, topic, "phx_leave", {})
            self.model.emit_reply(seat, join_ref, ref, topic, "ok", {})
            return
        join_ref, is_current = self.join_ref_of(member)
        self.tell(f"{member.seat.client} leaves {member.topic!r} with {join_ref!r}")
        await member.seat.client.send(join_ref, ref, member.topic, "phx_leave", {})
        if is_current:
            self.model.push(member, ref, "phx_leave", {})

    def join_ref_of(self, member: Member) -> tuple[Any, bool]:
        """Return a join_ref for a message to a channel, and True if the server must accept it."""
        chance = self.random.random()
        if chance < 0.75:
            return member.join_ref, True
        if chance < 0.85:
            return None, True
        other: Any = self.random.choice(("0", 0, True, "stale", member.channel_ref, [1]))
        if isinstance(member.join_ref, str) and chance > 0.95:
            # As a join_ref, 1 is not equal to "1".
            other = int(member.join_ref) if member.join_ref.isdigit() else 5
        elif isinstance(member.join_ref, int):
            # As a join_ref, 1 is not equal to 1.0.
            other = float(member.join_ref)
        return other, repr(other) == repr(member.join_ref)

    async def push(self) -> None:
        """Push actions to a room."""
        member = self.a_member(room=True)
        if member is None:
            return
        acts = self.acts()
        random = self.random
        if random.random() < 0.15:
            acts.insert(random.randrange(len(acts) + 1), ["sleep", 0.1])
        if random.random() < 0.15:
            late = [["late", 0.1, "ok", {}, 1]] if random.random() < 0.2 else []
            # `late` crashes outside of the handler of a push, because it has no push to reply to.
            acts.append(["info", [*self.later(), *late]])
        chance = random.random()
        if chance < 0.45:
            acts.append(["reply", random.choice(("ok", "error", "odd")), self.response()])
        elif chance < 0.6:
            acts.append(["late", 1.0, "ok", self.response(), random.choice((1, 1, 2))])
        if random.random() < 0.3:
            acts.append(self.an_end())
        await self.push_to(member, "do", {"acts": acts})

    def an_end(self) -> list[Any]:
        random = self.random
        return random.choice(
            (
                ["stop", "normal"],
                ["stop", "shutdown"],
                ["stop", "shutdown x"],
                ["stop", "bad"],
                ["crash"],
                ["exit", "normal"],
                ["exit", "bad"],
                ["wrong"],
                ["refuse", {}],
                [
                    "continue",
                    [*self.later(1), *random.choice(([], [["crash"]], [["stop", "normal"]]))],
                ],
                ["within", 1.6, [*self.acts(1), *random.choice(([], [["stop", "normal"]]))]],
                ["at_end", self.later()],
                ["no_reply"],
            )
        )

    async def push_to(self, member: Member, event: Any, payload: Any) -> None:
        """Push to a channel, with a random ref and join_ref."""
        ref: Any = self.random.choice((str(self.number()), str(self.number()), self.number(), None))
        join_ref, is_current = self.join_ref_of(member)
        self.world.sometimes("a push has the join_ref of another join", not is_current)
        client = member.seat.client
        if client.path == "/zip" and len(str(payload)) > 4000:
            return
        self.tell(
            f"{client} pushes {event!r} to {member.topic!r} as {join_ref!r}/{ref!r}: {payload}"
        )
        await client.send(join_ref, ref, member.topic, event, payload)
        if is_current:
            self.model.push(member, ref, event, payload)

    async def echo(self) -> None:
        """Push any value, and get it back."""
        member = self.a_member(room=True)
        if member is None:
            return
        event = self.random.choice(("echo", "echo2", "anything"))
        await self.push_to(member, event, self.response())

    async def echo_bytes(self) -> None:
        """Push bytes, and get them back."""
        members = [
            member
            for seat in self.model.seats
            for member in seat.members.values()
            if member.is_room
            and seat.client.vsn == "2"
            and isinstance(member.join_ref, str)
            and seat.client.carrier != "poll"
        ]
        if not members:
            return
        member = self.random.choice(members)
        data = self.random.randbytes(self.random.choice((0, 1, 200, 3000)))
        ref = self.random.choice((str(self.number()), "", "é" * 100))
        join_ref = self.random.choice((member.join_ref, member.join_ref, "", "stale"))
        self.tell(f"{member.seat.client} pushes {len(data)} bytes as {join_ref!r}/{ref!r}")
        packed = pack_push(join_ref, ref, member.topic, "echo", data)
        await member.seat.client.send_raw(packed, binary=True)
        # A binary message has no null, so an empty join_ref must be equal to the member's join_ref too.
        if join_ref == member.join_ref:
            self.model.push(member, ref, "echo", data)

    async def push_bytes(self) -> None:
        """Make a channel push or broadcast bytes, which V1 cannot express."""
        member = self.a_member(room=True)
        if member is None or any(
            seat.client.carrier == "poll" and seat.members for seat in self.model.seats
        ):
            return
        name = self.random.choice(("bin", "bin_broadcast", "bin_broadcast"))
        acts = [*self.acts(1), [name, "said", f"bytes {self.number()}"], ["reply", "ok", {}]]
        await self.push_to(member, "do", {"acts": acts})

    async def push_unknown(self) -> None:
        """Push an event without a handler."""
        member = self.a_member()
        if member is not None:
            event: Any = self.random.choice(
                ("unknown", "phx_reply", "phx_close", 5, None, ["list"], {})
            )
            await self.push_to(member, event, {})

    async def push_nowhere(self) -> None:
        """Push to a topic that the client has not joined."""
        seat, ref = self.a_seat(), str(self.number())
        topic: Any = self.random.choice(("lobby", "room:none", "phoenix", None, [1], {"a": 1}))
        event = self.random.choice(("do", "phx_close", "phx_reply"))
        self.tell(f"{seat.client} pushes to {topic!r}")
        await seat.client.send(self.random.choice((None, "1")), ref, topic, event, {})
        unmatched = {"reason": "unmatched topic"}
        self.model.emit_reply(seat, None, ref, topic, "error", unmatched)

    async def heartbeat(self) -> None:
        """Send heartbeats in all forms, and pings."""
        seat = self.a_seat()
        ref: Any = self.random.choice((str(self.number()), None, 7, {"any": "ref"}))
        join_ref = self.random.choice((None, "1", 5))
        self.tell(f"{seat.client} sends a heartbeat")
        await seat.client.send(
            join_ref, ref, "phoenix", "heartbeat", self.random.choice(({}, None))
        )
        self.model.emit_reply(seat, None, ref, "phoenix", "ok", {})
        if seat.client.carrier == "socket":
            await seat.client.write(seat.client.ping())

    async def from_outside(self) -> None:
        """Broadcast through the endpoint, from outside of all channels."""
        topic, event = self.random.choice((*TOPICS, "news")), self.random.choice(("said", "seen"))
        payload: Any = self.payload()
        how = self.random.choice(("broadcast", "from", "local", "plain", "boom", "bytes"))
        if how in ("boom", "bytes") and not topic.startswith("room:"):
            how = "broadcast"
        sender = self.a_member() if how == "from" else None
        endpoint = self.endpoint
        if how == "boom":
            event, payload = "seen", self.a_boom()
        self.tell(f"{how} of {event!r} to {topic!r}: {payload}")
        if how == "plain":
            endpoint.pubsub.broadcast(topic, "outside")
            self.model.plain(topic, "outside")
        elif how == "bytes":
            await self._broadcast_bytes(topic)
        elif sender is not None:
            life = self.ledger.of(sender.seat.client.name, sender.topic)[-1]
            endpoint.broadcast_from(life.pid, topic, event, payload)
            self.model.broadcast(topic, event, payload, sender=sender)
        else:
            endpoint.broadcast(topic, event, payload)
            self.model.broadcast(topic, event, payload)

    def a_boom(self) -> dict[str, Any]:
        return {self.random.choice(("boom", "stop")): self.a_seat().client.name, "n": self.number()}

    async def _broadcast_bytes(self, topic: str) -> None:
        if any(seat.client.carrier == "poll" for seat in self.model.seats if topic in seat.members):
            # Polling has no binary messages.
            return
        data = f"bytes {self.number()}".encode()
        fine = self.model.broadcast(topic, "said", data)
        try:
            self.endpoint.broadcast(topic, "said", Binary(data))
        except EncodeError:
            self.check(not fine, f"a broadcast of bytes to {topic!r} raised, and nobody has V1")
        else:
            self.check(
                fine, f"a broadcast of bytes to {topic!r} did not raise, and somebody has V1"
            )

    async def call_it(self) -> None:
        """Call or cast to a channel's process."""
        member = self.a_member(room=True)
        if member is None:
            return
        life = self.ledger.of(member.seat.client.name, member.topic)[-1]
        acts = [*self.acts(2), *self.random.choice(([], [["stop", "normal"]], [["stop", "bad"]]))]
        how = self.random.choice(("call", "cast", "send"))
        self.tell(f"{how} to {member}: {acts}")
        if how == "call":
            answer = await call(life.pid, acts)
            outcome = self.model.act(member, acts)
            wanted = "stopped" if outcome[0] == "stop" else "called"
            self.check(answer == wanted, f"the call to {member} was answered {answer!r}")
        else:
            cast(life.pid, acts) if how == "cast" else send(life.pid, acts)
            outcome = self.model.act(member, acts)
        member.within = None
        member.did.append({"call": "call", "cast": "cast", "send": "info"}[how])
        self.model.result(member, outcome)

    async def kill_it(self) -> None:
        """Kill a channel's process, or send it an exit signal."""
        member = self.a_member()
        if member is None:
            return
        life = self.ledger.of(member.seat.client.name, member.topic)[-1]
        reason = self.random.choice(("kill", "bad", SHUTDOWN, NORMAL))
        self.tell(f"{reason!r} to {member}")
        if reason == "kill":
            kill(life.pid)
            self.model.end(member, None, terminates=False)
            return
        send_exit(life.pid, reason)
        if member.trap:
            self.model.mail.append((member, "exit", reason))
        elif reason is not NORMAL:
            self.model.end(member, None, terminates=False)

    async def malform(self) -> None:
        """Send a message that breaks the protocol, which ends the connection."""
        seat = self.a_seat()
        client = seat.client
        v2 = client.vsn == "2"
        text, code = self.random.choice(
            (
                (b"", 1011),
                (b"nonsense", 1011),
                (b"{", 1011),
                (
                    b'["1","1","room:a","do"]' if v2 else b'{"topic":"a","event":"b","payload":{}}',
                    1011,
                ),
                (b"{}" if v2 else b"[]", 1011),
                (b'["1","1","t","e",NaN]' if v2 else b'{"topic":NaN}', 1011),
                (b'["' + b"r" * 4097 + b'","1","room:a","do",{}]' if v2 else b"x" * 5000, 1011),
                (b"\xff\xfe", 1007),
            )
        )
        binary = False
        if v2 and client.carrier != "poll" and self.random.random() < 0.3:
            text = self.random.choice(
                (b"\x01\x00", b"\x00\x09\x09\x09\x09abc", b"\x01\x00\x00\x00\x00", b"")
            )
            binary, code = True, 1011
        if client.carrier == "poll" and not text.startswith(b"[") and v2:
            # The server reads a line of a batch that does not begin with "[" as base64.
            text, code = b'["short"]', 1011
        if client.carrier == "asgi" and code == 1007:
            text, code = b"nonsense", 1011
        self.tell(f"{client} sends {text[:50]!r}")
        self.malformed += 1
        if client.carrier == "socket":
            # The server must ignore a message that follows in the same bytes.
            beat = client.text(None, "late", "phoenix", "heartbeat", {})
            first = client.frame(BINARY if binary else TEXT, text)
            await client.write(first + client.frame(TEXT, beat))
        else:
            await client.send_raw(text, binary=binary)
        await self.ended(seat, code, Shutdown("closed"))

    async def ended(self, seat: Seat, code: int, reason: Any) -> None:
        """Expect the end of a connection. Nothing comes after its close frame."""
        self.model.disconnect(seat, reason)
        await trio.sleep(6)
        client = seat.client
        self.check(client.ended, f"the connection of {client} did not end")
        if client.carrier != "poll":
            self.check(client.code == code, f"{client} was closed with {client.code}, not {code}")

    async def too_big(self) -> None:
        """Send a message beyond the limit of the mount."""
        seats = [seat for seat in self.model.seats if seat.open and seat.client.path == "/zip"]
        if not seats:
            return
        seat = self.random.choice(seats)
        size = self.random.choice((5000, 5001, 9000))
        data = seat.client.text(None, None, "phoenix", "heartbeat", "")
        data = seat.client.text(None, None, "phoenix", "heartbeat", "x" * (size - len(data)))
        self.tell(f"{seat.client} sends {len(data)} bytes")
        await seat.client.send_raw(data)
        if size == 5000:
            self.model.emit_reply(seat, None, None, "phoenix", "ok", {})
        else:
            self.malformed += 1
            await self.ended(seat, 1009, Shutdown("closed"))

    async def disconnect(self) -> None:
        """Broadcast `disconnect` to all connections of a user."""
        user = self.random.choice(("ann", "bob", "nobody"))
        self.tell(f"disconnect of {user}")
        self.endpoint.broadcast(
            f"user:{user}", self.random.choice(("disconnect", "disconnect")), {}
        )
        for seat in self.model.seats:
            if seat.open and seat.user == user:
                await self.ended(seat, 1001, Shutdown("disconnected"))

    async def not_disconnect(self) -> None:
        """Broadcast another event to the id of a user. No client gets it."""
        self.endpoint.broadcast("user:ann", self.random.choice(("connect", "phx_close")), {})

    async def hang_up(self) -> None:
        """Close a connection in one of several ways."""
        seat = self.a_seat()
        client = seat.client
        how = self.random.choice(("close", "vanish"))
        self.tell(f"{client} goes by {how}")
        reason = Shutdown("closed")
        if client.carrier == "poll":
            # The session ends because no polls come. It checks for polls every 6 seconds, which is 1.5 windows.
            reason = Shutdown("inactive")
            client.vanish()
            await trio.sleep(13)
        elif how == "close" or client.carrier == "asgi":
            code = self.random.choice((1000, 1001, 4000))
            await client.close(code)
            await trio.sleep(PAUSE)
            if client.carrier == "socket":
                self.check(
                    client.code == 1000, f"{client} closed with {code} and got {client.code}"
                )
        else:
            client.vanish()
        self.model.disconnect(seat, reason)
        await trio.sleep(6)


OPERATIONS: list[tuple[Any, int]] = [
    (Lockstep.connect, 2),
    (Lockstep.join, 18),
    (Lockstep.join_nowhere, 1),
    (Lockstep.join_slowly, 3),
    (Lockstep.join_too_often, 1),
    (Lockstep.leave, 3),
    (Lockstep.push, 16),
    (Lockstep.echo, 3),
    (Lockstep.echo_bytes, 3),
    (Lockstep.push_bytes, 3),
    (Lockstep.push_unknown, 1),
    (Lockstep.push_nowhere, 1),
    (Lockstep.heartbeat, 2),
    (Lockstep.from_outside, 8),
    (Lockstep.call_it, 3),
    (Lockstep.kill_it, 2),
    (Lockstep.malform, 1),
    (Lockstep.too_big, 1),
    (Lockstep.disconnect, 1),
    (Lockstep.not_disconnect, 1),
    (Lockstep.hang_up, 1),
]


@scenario(params={"operations": 30}, invariants=("all", *CHECKED))
@small_bounds
async def lockstep(world: World) -> None:
    """Run random operations of clients, each with an exact check."""
    async with trio.open_nursery() as nursery:
        await Lockstep(world, nursery).run()
        nursery.cancel_scope.cancel()

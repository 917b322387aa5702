"""Clients that act at the same time, in bursts, while connections break and processes die.

    ashtree simulate tests.simulation.sweeps.channels.crowd:crowd --seeds 1-1000

The channels record each frame that they cause. So the sweep knows the frames of each connection and their order. A
client must get all of these frames, or the first ones if its connection ended early. Each client also checks these
rules of the protocol:

- Every join gets one reply, and every push at most one. A push gets no reply only if its channel has ended.
- No frame of a membership comes before the reply to its join, or after its phx_close or phx_error.
- A client gets broadcasts only for topics that it has joined. It never gets its own `broadcast_from`.

Some connections have a deadline, and some channels move the deadline. The server closes no connection before its
deadline. Each connection ends soon after its deadline.

At the end all clients disconnect, and the server may have no connection, channel or subscription left.
"""

from __future__ import annotations

import math
from collections import defaultdict
from random import Random
from typing import Any, Literal

import trio
import trio.lowlevel
from attrs import define, field

from actors import Pid, current_pid, current_runtime, is_alive, kill, send_exit
from channels import Endpoint, LongPoll, Mount, PushReply, Route, Socket
from channels.channel import connection_of
from channels.telemetry import SOCKET_EXPIRED
from supervision import DynamicSupervisor
from supervision.simulation import World
from tests.laws.scenarios import scenario
from tests.simulation.sweeps.bounds import small_bounds
from tests.simulation.sweeps.channels.clients import BROKEN, Carrier, Client, Frame
from tests.simulation.sweeps.channels.room import CHECKED, Ledger, Life, Room

TOPICS = ("room:1", "room:2", "room:3")
INTERCEPTED = ("seen", "hidden")


class Writes:
    """The application's frames for each connection, in the order in which the server writes them."""

    def __init__(self, endpoint: Endpoint, ledger: Ledger) -> None:
        self.endpoint = endpoint
        self.ledger = ledger
        self.of: dict[str, list[str]] = defaultdict(list)
        self.clients: dict[Any, str] = {}

    def push(self, client: str, topic: str, event: str, payload: Any) -> None:
        self.of[client].append(f"{event} on {topic}: {payload}")

    def broadcast(self, topic: str, event: str, payload: Any, sender: Any = None) -> None:
        for subscription in self.endpoint.pubsub.subscriptions(topic):
            has_fastlane = subscription.metadata is not None and event not in INTERCEPTED
            if has_fastlane and subscription.pid is not sender:
                self.push(self.clients[subscription.pid], topic, event, payload)

    def reply(self, client: str, topic: str, ref: Any) -> None:
        if ref is not None:
            self.of[client].append(f"reply on {topic} to {ref}")


class Deadlines:
    """The deadlines of connections, and the check that the server keeps them."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.random = world.random("deadlines")
        # By process and not by name, because a polling client may begin two sessions under one name.
        self.of: dict[Pid, float] = {}
        self.problems: list[str] = []
        current_runtime().telemetry.attach(SOCKET_EXPIRED, self.expired)

    def move(self, connection: Pid, seconds: float) -> None:
        """Note that the application gives a connection some seconds, unless its deadline has passed."""
        now = trio.current_time()
        if self.of.get(connection, math.inf) > now:
            self.of[connection] = now + seconds

    def expired(self, event: Any, measured: Any, about: Any) -> None:
        connection, now = about["pid"], trio.current_time()
        deadline = self.of.get(connection, math.inf)
        if now < deadline:
            # Reported later, because telemetry catches the exceptions of its handlers.
            self.problems.append(f"{connection} expired at {now}, before its time {deadline}")
        self.world.sometimes("a connection expires")

    def check(self) -> None:
        """Check that each connection ends after its deadline and the closing handshake, and not before."""
        self.world.check(not self.problems, "; ".join(self.problems))
        late = trio.current_time() - 6
        for connection, deadline in list(self.of.items()):
            if not is_alive(connection):
                del self.of[connection]
            else:
                self.world.check(deadline >= late, f"{connection} goes on after {deadline}")


class Busy(Room):
    """A room that records each frame in the same step in which it writes the frame."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: Writes = self.assigns["writes"]
        self.writes.clients[current_pid()] = self.life.client
        self.ref: Any = None

    async def do(self, payload: Any) -> Any:
        self.ref = payload["ref"]
        result = await self.act(payload["acts"])
        reply = result if isinstance(result, PushReply) else getattr(result, "reply", None)
        if isinstance(reply, PushReply):
            self.writes.reply(self.life.client, self.topic, self.ref)
        return result

    def push(self, event: str, payload: Any) -> None:
        super().push(event, payload)
        self.writes.push(self.life.client, self.topic, event, payload)

    def broadcast(self, event: str, payload: Any) -> None:
        super().broadcast(event, payload)
        self.writes.broadcast(self.topic, event, payload)

    def broadcast_from(self, event: str, payload: Any) -> None:
        super().broadcast_from(event, payload)
        self.writes.broadcast(self.topic, event, payload, current_pid())

    def act_endpoint(self, topic: str, event: str, payload: Any) -> None:
        self.writes.broadcast(topic, event, payload)
        super().act_endpoint(topic, event, payload)

    def act_expire(self, seconds: float) -> None:
        self.endpoint.deadlines.move(connection_of(self), seconds)  # type: ignore[attr-defined]
        self.expire_connection_after(seconds)


class CrowdSocket(Socket):
    """A socket whose connections have unique names."""

    log = None
    channels = {"room:*": Route("room:*", Busy)}

    async def connect(self, params: dict[str, Any], connect_info: Any) -> None:
        self.assigns["ledger"] = self.endpoint.ledger  # type: ignore[attr-defined] # the sweep sets it
        self.assigns["writes"] = self.endpoint.writes  # type: ignore[attr-defined]
        self.assigns["client"] = self.name = params["name"]
        deadlines: Deadlines = self.endpoint.deadlines  # type: ignore[attr-defined]
        if deadlines.random.random() < 0.4:
            seconds = deadlines.random.random() * 3
            deadlines.move(current_pid(), seconds)
            self.expire_connection_after(seconds)

    def id(self) -> str:
        return f"id:{self.name}"


@define(eq=False)
class Asked:
    """A message of a client that expects a reply."""

    kind: Literal["join", "leave", "push"]
    topic: str
    join_ref: str
    replies: int = 0


@define(eq=False)
class Person:
    """One client, and its knowledge about its current connection."""

    crowd: Crowd
    number: int
    random: Random = field(init=False)
    client: Client = field(init=False)
    made: int = 0
    asked: dict[str, Asked] = field(factory=dict)
    # The topics and join_refs of accepted memberships, with True until the membership ends.
    members: dict[tuple[str, str], bool] = field(factory=dict)
    joined: dict[str, str] = field(factory=dict)
    known: set[str] = field(factory=set)
    got: list[str] = field(factory=list)
    serial: int = 0
    stopped: bool = False

    def __attrs_post_init__(self) -> None:
        self.random = self.crowd.world.random("person", self.number)

    # Acting

    async def live(self, nursery: trio.Nursery) -> None:
        """Connect, act, and connect again when the connection ends."""
        while not self.stopped:
            await self.connect(nursery)
            while not (self.client.ended or self.stopped):
                await self.act()
                await trio.sleep(self.random.random() * 0.4)
            if not self.stopped:
                await self.check_end()

    async def connect(self, nursery: trio.Nursery) -> None:
        self.made += 1
        self.asked, self.members, self.joined, self.got = {}, {}, {}, []
        self.known = set()
        carriers: tuple[Carrier, ...] = ("socket", "socket", "asgi", "poll")
        self.client = Client(
            self.crowd.world,
            self.crowd.endpoint,
            f"c{self.number}.{self.made}",
            carrier=carriers[self.number],
            params={"name": f"c{self.number}.{self.made}"},
        )
        self.crowd.ids.append(f"id:{self.client.name}")
        self.client.frames = Incoming(self)  # type: ignore[assignment] # reads each frame at once
        try:
            accepted = await self.client.connect(nursery)
        except BROKEN:
            self.client.gone.set()
            return
        is_refused = self.client.status is not None and self.client.status >= 400
        self.check(accepted or not is_refused, f"the server refused it with {self.client.status}")

    def check(self, holds: object, problem: str) -> None:
        self.crowd.world.check(holds, f"{self.client}: {problem}")

    def ref(self) -> str:
        self.serial += 1
        return str(self.serial)

    async def act(self) -> None:
        """Send a burst of messages."""
        for _ in range(self.random.choice((1, 1, 1, 2, 4))):
            what = self.random.choices(
                ("join", "leave", "push", "rejoin", "heartbeat", "pause", "go"),
                (6, 3, 14, 2, 1, 0.5, 0.4),
            )[0]
            if what == "go":
                await self.go()
            elif what == "rejoin":
                topic = self.random.choice(TOPICS)
                await self.send("leave", topic)
                await self.send("join", topic)
            elif what == "pause" and self.client.carrier == "socket":
                self.client.pause()
                await trio.sleep(self.random.random())
                self.client.resume()
            elif what == "heartbeat":
                await self.client.send(None, None, "phoenix", "heartbeat", {})
            elif what in ("join", "leave", "push"):
                await self.send(what, self.random.choice(TOPICS))

    async def go(self) -> None:
        """End the connection, with a close frame or without."""
        if self.random.random() < 0.5:
            self.client.vanish()
        else:
            await self.client.close()
        with trio.move_on_after(10):
            await self.client.gone.wait()

    async def send(self, what: Any, topic: str) -> None:
        ref = self.ref()
        if what == "join":
            self.joined[topic] = ref
            self.asked[ref] = Asked("join", topic, ref)
            await self.client.send(ref, ref, topic, "phx_join", {"acts": self.crowd.join_acts()})
            return
        join_ref = self.joined.get(topic)
        if join_ref is None:
            return
        self.asked[ref] = Asked(what, topic, join_ref)
        if what == "leave":
            del self.joined[topic]
            await self.client.send(join_ref, ref, topic, "phx_leave", {})
        else:
            payload = {"ref": ref, "acts": self.crowd.acts(self.random)}
            await self.client.send(join_ref, ref, topic, "do", payload)

    # Listening

    def read(self, frame: Frame) -> None:
        """Check one frame against the rules."""
        if frame.topic == "phoenix":
            return
        event, topic = frame.event, frame.topic
        if event == "phx_reply":
            self.read_reply(frame)
        elif event in ("phx_close", "phx_error"):
            self.check(frame.ref == frame.join_ref, f"the refs of {frame} differ")
            is_member = self.members.get((topic, frame.join_ref))
            self.check(is_member, f"{frame} ends a membership that has ended or never was")
            self.members[topic, frame.join_ref] = False
            if self.joined.get(topic) == frame.join_ref:
                del self.joined[topic]
        else:
            self.got.append(f"{event} on {topic}: {frame.payload}")
            if frame.join_ref is None:
                self.check(topic in self.known, f"{frame} came, and it never joined {topic}")
            else:
                lasts = self.members.get((topic, frame.join_ref))
                may_be_late = event == "last" and lasts is False
                self.check(lasts or may_be_late, f"{frame} came outside of its membership")

    def read_reply(self, frame: Frame) -> None:
        asked = self.asked.get(frame.ref)
        self.check(asked is not None, f"{frame} answers nothing")
        assert asked is not None
        status, response = frame.payload["status"], frame.payload["response"]
        is_unmatched = response == {"reason": "unmatched topic"}
        asked.replies += 1
        self.check(
            asked.replies == 1, f"{frame} is reply {asked.replies} to {asked.kind} {frame.ref}"
        )
        wanted = None if is_unmatched else asked.join_ref
        self.check(
            (frame.topic, frame.join_ref) == (asked.topic, wanted),
            f"{frame} answers {asked.kind} {frame.ref} of {asked.topic} as {asked.join_ref}",
        )
        if asked.kind == "join":
            if status == "ok":
                self.members[asked.topic, asked.join_ref] = True
                self.known.add(asked.topic)
            elif self.joined.get(asked.topic) == asked.join_ref:
                del self.joined[asked.topic]
        elif asked.kind == "push" and not is_unmatched:
            self.got.append(f"reply on {frame.topic} to {frame.ref}")

    # The end

    async def check_end(self, *, whole: bool = False) -> None:
        """Check the frames that have arrived. If `whole`, no frame and no reply may be missing."""
        await trio.lowlevel.checkpoint()
        wrote = self.crowd.writes.of[self.client.name]
        for index, (got, written) in enumerate(zip(self.got, wrote, strict=False)):
            self.check(
                got == written, f"frame {index + 1} of the application is {got!r}, not {written!r}"
            )
        self.check(len(self.got) <= len(wrote), f"it also got {self.got[len(wrote) :]}")
        if not whole:
            return
        self.check(len(self.got) == len(wrote), f"it misses {wrote[len(self.got) :]}")
        for ref, asked in self.asked.items():
            if asked.replies:
                continue
            lasts = self.members.get((asked.topic, asked.join_ref))
            self.check(asked.kind != "join", f"the join {ref} of {asked.topic} got no reply")
            self.check(
                not lasts,
                f"{asked.kind} {ref} on {asked.topic} got no reply, and its channel lives",
            )


class Incoming:
    """A replacement for a client's list of frames. It checks each frame as soon as the frame arrives."""

    def __init__(self, person: Person) -> None:
        self.person = person

    def append(self, frame: Frame) -> None:
        self.person.read(frame)


class Crowd:
    """The state of one run."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.random = world.random("acts")
        self.ledger = Ledger()
        self.endpoint = Endpoint(
            sockets={"/socket": Mount(CrowdSocket, longpoll=LongPoll(window=4.0), timeout=1000)},
            listen=world.network.open,
        )
        self.writes = Writes(self.endpoint, self.ledger)
        self.endpoint.ledger = self.ledger  # type: ignore[attr-defined]
        self.endpoint.writes = self.writes  # type: ignore[attr-defined]
        self.deadlines = Deadlines(world)
        self.endpoint.deadlines = self.deadlines  # type: ignore[attr-defined]
        self.people: list[Person] = []
        # The ids of all sockets.
        self.ids: list[str] = []
        self.serial = 0

    def payload(self) -> dict[str, Any]:
        self.serial += 1
        return {"n": self.serial}

    def join_acts(self) -> list[list[Any]]:
        random = self.random
        acts: list[list[Any]] = []
        if random.random() < 0.4:
            acts.append(["sleep", random.random()])
        if random.random() < 0.2:
            acts.append(["at_end", [["push", "last", self.payload()]]])
        if random.random() < 0.2:
            acts.append(["subscribe", random.choice(("news", "more news"))])
        if random.random() < 0.15:
            acts.append(random.choice((["crash"], ["refuse", {}], ["exit", "normal"], ["trap"])))
        return acts

    def acts(self, random: Any) -> list[list[Any]]:
        acts: list[list[Any]] = []
        for _ in range(random.randrange(4)):
            name = random.choice(("push", "broadcast", "broadcast_from", "endpoint", "sleep"))
            event = random.choice(("said", "said", "seen", "hidden"))
            if name == "sleep":
                acts.append(["sleep", random.random() / 4])
            elif name == "endpoint":
                topic = random.choice((*TOPICS, "news"))
                acts.append(["endpoint", topic, "said", self.payload()])
            else:
                acts.append([name, "said" if name == "push" else event, self.payload()])
        renewal = self.endpoint.deadlines.random  # type: ignore[attr-defined]
        if renewal.random() < 0.15:
            acts.append(["expire", renewal.choice((math.inf, 1 + 3 * renewal.random()))])
        acts.append(["reply", "ok", {}])
        chance = random.random()
        if chance < 0.25:
            acts.append(
                random.choice(
                    (["stop", "normal"], ["stop", "bad"], ["crash"], ["exit", "normal"], ["wrong"])
                )
            )
        return acts

    async def disturb(self) -> None:
        """Kill channels, broadcast from outside of channels, and inject network faults."""
        random, network = self.world.random("disturb"), self.world.network
        while True:
            await trio.sleep(random.random() / 2)
            self.deadlines.check()
            what = random.choice(("broadcast", "broadcast", "kill", "exit", "reset", "hold", "id"))
            lives: list[Life] = self.ledger.alive()
            if what == "broadcast":
                topic, payload = random.choice(TOPICS), self.payload()
                self.writes.broadcast(topic, "said", payload)
                self.endpoint.broadcast(topic, "said", payload)
            elif what == "kill" and lives and random.random() < 0.5:
                kill(random.choice(lives).pid)
            elif what == "exit" and lives and random.random() < 0.5:
                send_exit(random.choice(lives).pid, "bad")
            elif what == "reset" and network.connections and random.random() < 0.2:
                random.choice(network.connections).reset()
            elif what == "hold" and network.connections:
                held = random.choice(network.connections)
                held.hold()
                try:
                    await trio.sleep(random.random())
                finally:
                    held.release()
            elif what == "id" and random.random() < 0.2:
                person = random.choice(self.people)
                self.endpoint.broadcast(f"id:{person.client.name}", "disconnect", {})


@scenario(params={"seconds": 5.0}, invariants=("all", *CHECKED))
@small_bounds
async def crowd(world: World) -> None:
    """Run four clients at once, with faults, for some seconds."""
    state = Crowd(world)
    await state.endpoint.start_link(host="server", port=4000)
    async with trio.open_nursery() as nursery:
        scope = trio.CancelScope()

        async def disturb() -> None:
            with scope:
                await state.disturb()

        for number in range(4):
            state.people.append(Person(state, number))
            nursery.start_soon(state.people[-1].live, nursery)
        await trio.sleep(0.5)
        nursery.start_soon(disturb)
        await trio.sleep(world.params["seconds"])
        scope.cancel()
        for person in state.people:
            person.stopped = True
        await trio.sleep(30)
        state.deadlines.check()
        for person in state.people:
            await person.check_end(whole=not person.client.ended)
        await part(state)
        nursery.cancel_scope.cancel()


async def part(state: Crowd) -> None:
    """End all connections. Check that the server has no connection, channel or subscription left."""
    world, endpoint = state.world, state.endpoint
    how = world.random("end").choice(("drain", "vanish", "close"))
    for person in state.people:
        if how == "vanish":
            person.client.vanish()
        elif how == "close":
            await person.client.close()
    if how == "drain":
        await endpoint.drain()
    await trio.sleep(30)
    figures = endpoint.statistics()
    left = {
        topic: pids
        for topic in (*TOPICS, "news", "more news", *state.ids)
        if (pids := endpoint.pubsub.subscribers(topic))
    }
    world.check(
        figures["subscriptions"] == 0,
        f"after {how} there are {figures['subscriptions']} subscriptions: {left}",
    )
    for life in state.ledger.lives:
        who = f"the channel {life.topic!r} of {life.client}"
        world.check(not life.is_alive, f"{who} lives after {how}")
        world.check(len(life.terminated) <= 1, f"terminate of {who} ran with {life.terminated}")
    for name in ("connections", "sessions"):
        found = await DynamicSupervisor.which_children((endpoint, name))
        world.check(not found, f"after {how} there are {len(found)} {name}")
    for number in range(2):
        found = await DynamicSupervisor.which_children(
            (endpoint, "channels", "CrowdSocket", number)
        )
        world.check(not found, f"after {how} there are {len(found)} channels")

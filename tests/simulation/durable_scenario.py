"""Durable topics in one world with their clients, while nodes are killed in the middle of appends.

    ashtree simulate tests.simulation.durable_scenario:in_memory --seeds 1-1000
    ashtree simulate tests.simulation.durable_scenario:on_disk --seeds 1-1000
    ashtree simulate tests.simulation.durable_scenario:in_redis --seeds 1-1000

Nodes are killed, lose their power and are replaced one after the other. Connections break and stall, networks split,
channels and processes of the history crash, clocks are set. At the end, every client has every message that was
acknowledged to its sender, once and in order, or was told `_recovered: false`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from random import Random
from typing import Any

import trio

from actors import ExitReason, is_normal_exit
from channels import Channel, Endpoint, PubSub, PushReply, Route, Socket, handle_in
from channels.client import (
    ChannelClosed,
    ClientChannel,
    ClientPush,
    PushTimeout,
    Refused,
    RetryTable,
    open_socket,
)
from channels.durable import History, MemoryStorage, RedisStorage, SQLiteStorage, Storage
from channels.pubsub.redis.adapter import RedisAdapter
from channels.pubsub.redis.server import RedisServer
from channels.testing import SimulatedRedis
from supervision import Backoff, Supervisor
from supervision.chaos import At, Fault, Kill, KillNode, On
from supervision.laboratory.entropy import Chance
from supervision.simulation import Node, World
from tests.laws.scenarios import scenario
from tests.simulation.sweeps.bounds import small_bounds

PORT = 4000
TOPIC = "document:a"
SOON = RetryTable(steps=(0.1, 0.5), then=1.0, jitter=0.5)
# Seconds between the end of a handler and a kept answer, at most.
KEPT_WITHIN = 4.0


class Handled:
    """One run of a handler.

    Attributes:
        node: the label of the node.
        start: the time of its start.
        end: the time of its end; None if it never came to it.
        has_failed: True if the handler or the history raised.
    """

    def __init__(self, node: str, start: float) -> None:
        self.node = node
        self.start = start
        self.end: float | None = None
        self.has_failed = False

    def excuses(self, later: Handled, gone: set[str]) -> bool:
        """Return True if the handler may run again, as documented, although this run was before."""
        return (
            self.end is None
            or self.has_failed
            or self.node in gone
            or (self.node != later.node and later.start < self.end + KEPT_WITHIN)
        )


class Run:
    """The common data of one run. It outlives the nodes.

    Attributes:
        names: the names of the nodes.
        storage: makes the storage of a node.
        runs: the runs of the handler for each edit.
        gone: the labels of the nodes that were killed or stopped.
        labels: the labels of the incarnations of each node.
        places: the edit at each position, as somebody has heard of it.
        epochs: the epochs of these positions.
        latest: the history of the latest incarnation of each node, by the node's name.
        end: the position of all clients at the end.
    """

    def __init__(
        self, world: World, names: tuple[str, ...], storage: Callable[[Node], Storage]
    ) -> None:
        self.world = world
        self.names = names
        self.storage = storage
        self.runs: dict[str, list[Handled]] = {}
        self.gone: set[str] = set()
        self.places: dict[str, str] = {}
        self.epochs: list[str] = []
        self.latest: dict[str, History] = {}
        self.labels: dict[str, list[str]] = {name: [] for name in names}
        self.end = ""
        self.is_over = False

    def place(self, position: str, edit: str, who: str) -> None:
        """Note that somebody has heard that an edit is at a position."""
        epoch = position.partition(":")[0]
        if epoch not in self.epochs:
            self.epochs.append(epoch)
        known = self.places.setdefault(position, edit)
        self.world.check(known == edit, f"{who} heard of {edit} at {position}, others of {known}")


class Document(Channel):
    """A document of a route with a history."""

    async def join(self, topic: str, payload: Any) -> None:
        self.run: Run = self.assigns["run"]
        self.random: Random = self.assigns["random"]
        self.last: Handled | None = None

    async def _edit(self, name: str) -> None:
        self.last = Handled(self.assigns["node"], trio.current_time())
        self.run.runs.setdefault(name, []).append(self.last)
        if self.random.random() < 0.3:
            await trio.sleep(self.random.uniform(0.0, 0.1))

    def _end(self) -> None:
        assert self.last is not None
        if not self.run.is_over and self.random.random() < 0.03:
            raise RuntimeError("crashed by chance, after the append")
        self.last.end = trio.current_time()

    @handle_in("edit")
    async def edit(self, payload: Any) -> PushReply:
        await self._edit(payload["id"])
        position = await self.append("edited", payload)  # type: ignore[attr-defined] # of the route
        self._end()
        return PushReply({"id": payload["id"], "position": position})

    @handle_in("shout")
    async def shout(self, payload: Any) -> PushReply:
        await self._edit(payload["id"])
        self.broadcast("edited", payload)
        self._end()
        return PushReply({"id": payload["id"]})

    async def terminate(self, reason: ExitReason) -> None:
        if self.last is not None and not is_normal_exit(reason):
            self.last.has_failed = True


async def serve(node: Node, run: Run) -> None:
    """Run one node, until it is killed or stopped."""
    # A planned fault may have killed it in the middle of an append.
    run.gone.update(run.labels[node.name])
    run.labels[node.name].append(node.label)
    history = History(
        run.storage(node),
        max_messages=5000,
        max_age=3600.0,
        max_batch=node.random("limits").choice((1, 2, 100)),
        check_interval=1.0,
        timeout=3.0,
    )
    run.latest[node.name] = history
    assigns = {"run": run, "node": node.label, "random": node.random("document")}

    class UserSocket(Socket):
        channels = {"document:*": Route("document:*", Document, assigns, history=history)}

        async def connect(self, params: dict[str, Any], connect_info: Any) -> None:
            self.assigns["user"] = params["user"]

        def id(self) -> str:
            return f"user:{self.assigns['user']}"

    endpoint = Endpoint(
        sockets={"/socket": UserSocket},
        histories=[history],
        listen=run.world.network.open,
        pubsub=None if len(run.names) == 1 else PubSub(adapter_of(node, run.world)),
    )
    child = endpoint.child_spec(host=node.name, port=PORT)
    await Supervisor.start_link([child], label="top", max_restarts=100)
    await trio.sleep_forever()


def adapter_of(node: Node, world: World) -> RedisAdapter:
    return RedisAdapter(
        RedisServer(
            "redis://redis",
            connect=world.network.connect,
            connect_timeout=1.5,
            ping_interval=1.0,
            ping_timeout=1.5,
            backoff=Backoff(0.05, 1.0),
        ),
        node_name=node.name,
        heartbeat=1.0,
        node_timeout=8.0,
    )


class Writer:
    """A client that edits, and reads what the others edit.

    Attributes:
        heard: what the channel has told the client: each join reply, and each edit.
        answers: the answers to edits, by their names.
    """

    def __init__(self, run: Run, number: int) -> None:
        self.run = run
        self.name = f"client {number}"
        self.random = run.world.random("client", number)
        self.heard: list[tuple[str, Any]] = []
        self.response: Any = None
        self.results: dict[str, str] = {}
        self.answers: dict[str, Any] = {}
        self.open: set[str] = set()
        self.is_still = False
        self.channel: ClientChannel | None = None

    @property
    def is_joined(self) -> bool:
        return self.channel is not None and self.channel.state == "joined"

    async def connect(self, host: str, port: int) -> trio.abc.Stream:
        """Connect to a node that the load balancer has chosen."""
        chosen = self.random.choice(self.run.names)
        return await self.run.world.network.connect(chosen, port, source=self.name)

    def params(self) -> dict[str, Any]:
        self.note_join()
        return {"name": self.name}

    def note_join(self) -> None:
        """Note the reply to the last join, before anything that came after it."""
        response = None if self.channel is None else self.channel.response
        if response is not self.response:
            self.response = response
            self.heard.append(("joined", response))

    def hear(self, payload: Any, join_ref: str | None) -> None:
        self.note_join()
        self.heard.append(("edited", payload))
        self.run.place(payload["_position"], payload["id"], self.name)

    async def main(self) -> None:
        async with (
            open_socket(
                f"ws://nodes:{PORT}/socket",
                params={"user": self.name},
                connect=self.connect,
                wait=False,
                reconnect=SOON,
                rejoin=SOON,
                heartbeat_interval=1.5,
                connect_timeout=3.0,
                random=self.random.random,
            ) as socket,
            trio.open_nursery() as nursery,
        ):
            self.channel = socket.channel(TOPIC, self.params, wait=False, durable=True, timeout=5)
            self.channel.listen("edited", self.hear)
            async with self.channel:
                for number in range(10_000):
                    await trio.sleep(self.random.expovariate(4.0))
                    # A slow disk must not make a queue that outlasts the run.
                    if not self.is_still and len(self.open) < 4:
                        self.push(f"{self.name} {number}", nursery)

    def push(self, name: str, nursery: trio.Nursery) -> None:
        assert self.channel is not None
        self.open.add(name)
        event = self.random.choice(["edit", "edit", "shout"])
        nursery.start_soon(
            self.settle, name, self.channel.push_nowait(event, {"id": name}, timeout=8)
        )

    async def settle(self, name: str, push: ClientPush) -> None:
        world = self.run.world
        try:
            answer = await push.wait()
            world.check(answer["id"] == name, f"{name} got the answer of {answer}")
            if "position" in answer:
                self.run.place(answer["position"], name, self.name)
            self.answers[name] = answer
            result = "answered"
        except Refused as refused:
            # A node that stops tells the topic before it closes the connection.
            is_fine = refused.payload == {"reason": "unmatched topic"}
            world.check(is_fine, f"{name} was refused with {refused.payload}")
            result = "refused"
        except PushTimeout:
            result = "timeout"
        except ChannelClosed:
            result = "closed"
        world.check(name in self.open, f"{name} got a second result")
        self.open.discard(name)
        self.results[name] = result

    def follow(self) -> str | None:
        """Check that the client heard each edit once and in order since its last reset. Return its position."""
        check = self.run.world.check
        at: str | None = None
        for kind, payload in self.heard:
            position = payload["_position"]
            if kind == "joined":
                told = payload["_recovered"]
                where = f"{self.name} was at {at}, and joined at {position} with {told}"
                check(not told or position == at, where)
            else:
                assert at is not None
                epoch, _, offset = at.rpartition(":")
                expected = f"{epoch}:{int(offset) + 1}"
                check(position == expected, f"{self.name} was at {at}, and heard {payload}")
            at = position
        return at

    @property
    def resets(self) -> list[str]:
        """The reasons why the client was not recovered."""
        return [
            said["_reason"]
            for kind, said in self.heard
            if kind == "joined" and not said["_recovered"]
        ]


class Faults:
    """The faults of the nodes and the network, one after the other or several at once."""

    def __init__(self, run: Run, nursery: trio.Nursery, clients: list[Writer]) -> None:
        self.run = run
        self.nodes = run.world.nodes
        self.network = run.world.network
        self.random = run.world.random("faults")
        self.clients = [client.name for client in clients]
        self._nursery = nursery
        self._held: list[Any] = []

    async def rage(self, seconds: float) -> None:
        happenings = [
            self.kill,
            self.kill,
            self.cut_power,
            self.deploy,
            self.split,
            self.split,
            self.reset,
            self.reset,
            self.hold,
            self.skew,
        ]
        if len(self.run.names) > 1:
            happenings += [self.kill_redis, self.split_redis]
        while self.run.world.seconds < seconds:
            await trio.sleep(self.random.expovariate(1.0))
            self._nursery.start_soon(self.random.choice(happenings))

    async def end(self) -> None:
        """Undo everything."""
        # A node that is stopping now would count as up, and end later.
        for name in self.run.names:
            await self.ended(name)
        self.network.heal()
        for connection in self._held:
            connection.release()
        for name in (*self.run.names, *(["redis"] if len(self.run.names) > 1 else [])):
            self.boot(name)

    async def ended(self, name: str) -> None:
        """Wait for the end of a node that was stopped."""
        while self.nodes.is_up(name) and self.nodes[name].label in self.run.gone:  # noqa: ASYNC110 - a node has no event for its end
            await trio.sleep(0.1)

    def boot(self, name: str) -> None:
        if not self.nodes.is_up(name):
            self.nodes.boot(name)

    def lose(self, name: str, *, power: bool) -> None:
        """Kill a node, as `kill -9` does."""
        if self.nodes.is_up(name):
            self.run.gone.add(self.nodes[name].label)
            self.nodes.kill(name, power=power)

    async def kill(self) -> None:
        name = self.random.choice(self.run.names)
        self.lose(name, power=False)
        await trio.sleep(self.random.choice([0.0, 0.5, 3.0]) * self.random.random())
        self.boot(name)

    async def cut_power(self) -> None:
        """Cut the power of the machine of all nodes."""
        for name in self.run.names:
            self.lose(name, power=True)
        await trio.sleep(self.random.choice([0.0, 1.0, 4.0]) * self.random.random())
        for name in self.run.names:
            self.boot(name)

    async def deploy(self) -> None:
        """Replace the nodes one after the other."""
        for name in self.run.names:
            if self.nodes.is_up(name):
                self.run.gone.add(self.nodes[name].label)
                self.nodes.stop(name)
                await self.ended(name)
                self.boot(name)
                await trio.sleep(self.random.random())

    async def split(self) -> None:
        """Cut a client off from a node, in both directions, or so that answers alone are lost."""
        client, name = self.random.choice(self.clients), self.random.choice(self.run.names)
        self.network.partition_oneway(name, client)
        if self.random.random() < 0.5:
            self.network.partition_oneway(client, name)
        await trio.sleep(self.random.uniform(0.0, 6.0))
        self.network.heal(client, name)

    async def reset(self) -> None:
        if self.network.connections:
            self.random.choice(self.network.connections).reset()

    async def hold(self) -> None:
        if self.network.connections:
            connection = self.random.choice(self.network.connections)
            connection.hold()
            self._held.append(connection)
            await trio.sleep(self.random.uniform(0.0, 4.0))
            connection.release()

    async def skew(self) -> None:
        self.nodes.skew(self.random.choice(self.run.names), self.random.uniform(-5, 5))

    async def kill_redis(self) -> None:
        if self.nodes.is_up("redis"):
            self.nodes.kill("redis", power=self.random.random() < 0.5)
            await trio.sleep(self.random.uniform(0.0, 3.0))
            self.boot("redis")

    async def split_redis(self) -> None:
        name = self.random.choice(self.run.names)
        self.network.partition(name, "redis")
        await trio.sleep(self.random.uniform(0.0, 5.0))
        self.network.heal(name, "redis")


def crashes(chance: Chance) -> list[Kill]:
    """Kill the processes of histories a few times."""
    return [
        Kill(
            target=chance.choice(["*/writer", "*/checker"]),
            when=At(round(chance.uniform(1.0, 6.0), 2)),
            pick=round(chance.random(), 2),
        )
        for _ in range(3)
    ]


async def live(run: Run, *, shares_disk: bool = False) -> list[Writer]:
    """Run the clients under faults, and judge."""
    world, disk = run.world, None
    for name in run.names:
        node = world.nodes.start(name, serve, run, disk=disk)
        disk = node.disk if shares_disk else None
    writers = [Writer(run, number) for number in range(world.params["clients"])]
    async with trio.open_nursery() as nursery:
        for writer in writers:
            nursery.start_soon(writer.main)
        async with trio.open_nursery() as storm:
            faults = Faults(run, storm, writers)
            await faults.rage(world.params["seconds"])
            storm.cancel_scope.cancel()
        await faults.end()
        run.is_over = True
        await world.recovered(
            "every client is joined", lambda: all(each.is_joined for each in writers), within=30.0
        )
        # A last edit of each, whose offset shows gaps before it.
        await trio.sleep(1.0)
        for writer in writers:
            writer.is_still = True
        await world.eventually(
            "every push has a result", lambda: not any(each.open for each in writers), within=20.0
        )
        await world.eventually("all clients agree", lambda: agree(run, writers), within=10.0)
        if len(run.names) > 1:
            await cut_off_last_edit(run, writers)
        nursery.cancel_scope.cancel()
    judge(run, writers)
    return writers


async def cut_off_last_edit(run: Run, writers: list[Writer]) -> None:
    """Keep one more edit while a node is cut off from Redis. No later message shows the gap to its clients."""
    network, (cut_off, other) = run.world.network, run.names
    before = int(run.end.rpartition(":")[2])
    network.partition(cut_off, "redis")
    # Longer than the time after which a connection counts as lost.
    await trio.sleep(1.0)
    run.latest[other].append_nowait(TOPIC, "edited", {"id": "the last edit"})
    await trio.sleep(4.0)
    network.heal(cut_off, "redis")

    def has_arrived() -> bool:
        return agree(run, writers) and int(run.end.rpartition(":")[2]) > before

    await run.world.eventually("the last edit arrives", has_arrived, within=20.0)


def agree(run: Run, writers: list[Writer]) -> bool:
    """Return True if all clients are at the last known position, and note it as the end."""
    for writer in writers:
        writer.note_join()
    positions = {writer.heard[-1][1]["_position"] for writer in writers if writer.heard}
    if len(positions) != 1:
        return False
    (run.end,) = positions
    epoch, _, last = run.end.rpartition(":")
    # An answer may come before the message.
    known = {place for place in run.places if place.startswith(epoch)}
    heard = set(run.places.values())
    return all(int(place.rpartition(":")[2]) <= int(last) for place in known) and (
        has_lost(writers) or all(name in heard for writer in writers for name in writer.answers)
    )


def has_lost(writers: list[Writer]) -> bool:
    """Return True if a history was lost, with its keys."""
    return any(reason == "epoch_changed" for writer in writers for reason in writer.resets)


def judge(run: Run, writers: list[Writer]) -> None:
    """Check the promises."""
    world = run.world
    end = run.end
    epoch, _, last = end.rpartition(":")
    for writer in writers:
        # A push that timed out may be handled after the end.
        at = writer.follow() or ""
        is_there = at.rpartition(":")[0] == epoch and int(at.rpartition(":")[2]) >= int(last)
        world.check(is_there, f"{writer.name} ended at {at}, before the end {end}")
        for name, answer in writer.answers.items():
            position = answer.get("position")
            if position is not None and position.startswith(epoch):
                kept = int(position.rpartition(":")[2]) <= int(last)
                world.check(kept, f"{name} was acknowledged at {position}, behind the end {end}")
    counted = Counter((place.rpartition(":")[0], name) for place, name in run.places.items())
    for (_, name), times in counted.items():
        world.check(times == 1, f"{name} was kept {times} times")
    if not has_lost(writers):
        heard = {name for (_, name) in counted}
        for writer in writers:
            lost = [name for name in writer.answers if name not in heard]
            world.check(not lost, f"{lost} were acknowledged, and nobody heard of them")
    # A history in memory is lost with its node alone, which excuses a run already.
    excuses_all = len(run.names) > 1 and has_lost(writers)
    for name, runs in run.runs.items():
        for earlier, later in pairwise(runs):
            excused = excuses_all or earlier.excuses(later, run.gone)
            world.check(excused, f"the handler of {name} ran {len(runs)} times")
    results = Counter(result for writer in writers for result in writer.results.values())
    world.check(results["answered"] > 0, f"no push was answered: {results}")
    resets = Counter(reason for writer in writers for reason in writer.resets)
    twice = sum(len(runs) > 1 for runs in run.runs.values())
    world.sometimes("a handler ran again", twice)
    again = sum(history.statistics()["repeated"] for history in run.latest.values())
    world.sometimes("a push got its first answer again", again)
    world.sometimes(
        "a client was recovered",
        any(len(writer.resets) < sum(k == "joined" for k, _ in writer.heard) for writer in writers),
    )
    world.note("results", **results, **resets, again=twice, kept=len(run.places))


@scenario(faults=crashes, params={"clients": 3, "seconds": 10.0})
@small_bounds
async def in_memory(world: World) -> None:
    """One node with its history in memory. A restart loses the history, and the clients get the reason."""
    run = Run(world, ("a",), lambda _: MemoryStorage())
    writers = await live(run)
    resets = {reason for writer in writers for reason in writer.resets}
    world.check(resets <= {"new", "epoch_changed"}, f"the resets were {resets}")
    world.sometimes("the history was lost", "epoch_changed" in resets)


def crashes_in_appends(chance: Chance) -> list[Fault]:
    """Also kill nodes in the middle of transactions, or cut the power of their machine."""
    return [
        *crashes(chance),
        *(
            KillNode(
                node=chance.choice(["a", "b"]),
                power=chance.random() < 0.5,
                reboot_after=round(chance.uniform(0.0, 2.0), 2),
                when=On(chance.choice(["operation", "fsync"]), nth=chance.randrange(20, 200)),
            )
            for _ in range(3)
        ),
    ]


@scenario(faults=crashes_in_appends, params={"clients": 3, "seconds": 10.0})
@small_bounds
async def on_disk(world: World) -> None:
    """Two processes of one machine on a SQLite file, which loses nothing."""
    redis = SimulatedRedis()
    world.nodes.start("redis", redis.main)
    run = Run(world, ("a", "b"), lambda node: SQLiteStorage("/simulated/history.db"))
    writers = await live(run, shares_disk=True)
    resets = {reason for writer in writers for reason in writer.resets}
    world.check(resets == {"new"}, f"the resets were {resets}")
    world.check(len(run.epochs) == 1, f"the epochs were {run.epochs}")
    hits = [report for report in world.faults.report() if isinstance(report.fault, KillNode)]
    world.sometimes("a kill hit an append", any(each.status == "applied" for each in hits))


@scenario(faults=crashes, params={"clients": 3, "seconds": 10.0})
@small_bounds
async def in_redis(world: World) -> None:
    """Two nodes on a Redis server, which loses its history when it is killed, or writes everything to its disk."""
    appendonly = world.random("redis").random() < 0.5
    redis = SimulatedRedis(appendonly=appendonly)
    world.nodes.start("redis", redis.main)
    calls = world.random("limits").choice((1, 2, 100))
    run = Run(
        world,
        ("a", "b"),
        lambda node: RedisStorage(
            RedisServer(
                "redis://redis",
                connect=node.connect,
                connect_timeout=1.5,
                ping_interval=1.0,
                ping_timeout=1.5,
                backoff=Backoff(0.05, 1.0),
            ),
            max_calls=calls,
            timeout=2.0,
        ),
    )
    writers = await live(run)
    resets = {reason for writer in writers for reason in writer.resets}
    world.check(resets <= {"new", "epoch_changed"}, f"the resets were {resets}")
    world.sometimes("the history was lost", "epoch_changed" in resets)
    if appendonly:
        world.check(resets == {"new"}, f"the resets were {resets}, although the server keeps all")
        world.check(len(run.epochs) == 1, f"the epochs were {run.epochs}")

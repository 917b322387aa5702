"""Processes that subscribe, unsubscribe, broadcast and die, compared with a model of the table of subscriptions.

ashtree simulate tests.simulation.sweeps.channels.pubsub:pubsub --seeds 1-1000
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from attrs import define, field

from actors import GenServer, Pid, Reply, Stop, call, is_alive, kill, send_exit, spawn
from channels import Broadcast, PubSub
from channels.pubsub.local import Subscription, dispatch
from supervision.simulation import World
from tests.laws.scenarios import scenario
from tests.simulation.sweeps.bounds import small_bounds

TOPICS = ("a", "b", "c", "")


class Ear(GenServer[list[Any]]):
    """A process that subscribes and broadcasts on request, and keeps the messages that it gets."""

    async def init(self, pubsub: PubSub) -> None:
        self.pubsub = pubsub
        self.state: list[Any] = []

    async def handle_call(self, request: Any, sender: Any) -> Reply | Stop:
        name, *arguments = request
        if name == "stop":
            return Stop("stopped", reply=None)
        if name == "crash":
            raise RuntimeError("as planned")
        if name == "heard":
            heard, self.state = self.state, []
            return Reply(heard)
        return Reply(getattr(self, name)(*arguments))

    def subscribe(self, topic: str, metadata: Any) -> Subscription:
        return self.pubsub.subscribe(topic, metadata=metadata)

    def unsubscribe(self, topic: str) -> None:
        self.pubsub.unsubscribe(topic)

    def broadcast(self, topic: str, message: Any, sender: Pid | None) -> None:
        self.pubsub.broadcast(topic, message, sender=sender)

    async def handle_info(self, message: Any) -> None:
        self.state.append(message)


@define(eq=False)
class Subscriber:
    """The model of one process: its topics, the oldest subscription first, and the messages that it must have got."""

    name: str
    pid: Pid
    heard: list[Any] = field(factory=list)


class PubSubSweep:
    """The state of one run."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.random = world.random("operations")
        self.pubsub = PubSub()
        self.subscribers: list[Subscriber] = []
        self.table: list[tuple[Subscriber, str, Any]] = []
        self.serial = 0
        self.dispatched: list[Any] = []

    async def start(self) -> None:
        name = f"ear{self.serial}"
        self.serial += 1
        self.subscribers.append(Subscriber(name, await Ear.start(self.pubsub)))

    def somebody(self) -> Subscriber:
        return self.random.choice(self.subscribers)

    def deliver(self, topic: str, message: Any, sender: Pid | None) -> None:
        for subscriber, subscribed, _ in self.table:
            if subscribed == topic and subscriber.pid is not sender:
                subscriber.heard.append(message)

    def a_message(self, topic: str) -> Any:
        self.serial += 1
        content = {"n": self.serial}
        return Broadcast(topic, "said", content) if self.random.random() < 0.6 else content

    async def step(self) -> str:
        """Do one operation. Return its description."""
        random, who, topic = self.random, self.somebody(), self.random.choice(TOPICS)
        what = random.choices(
            ("subscribe", "unsubscribe", "broadcast", "outside", "end", "start", "dispatcher"),
            (8, 3, 6, 3, 2, 2, 1),
        )[0]
        if what == "subscribe":
            metadata = random.choice((None, None, "note"))
            made = await call(who.pid, ("subscribe", topic, metadata))
            self.table.append((who, topic, metadata))
            is_right = (made.pid, made.topic, made.metadata) == (who.pid, topic, metadata)
            self.world.check(is_right, f"{who.name} subscribed to {topic!r} and got {made!r}")
        elif what == "unsubscribe":
            await call(who.pid, ("unsubscribe", topic))
            self.table = [each for each in self.table if each[:2] != (who, topic)]
        elif what == "broadcast":
            message = self.a_message(topic)
            sender = random.choice((None, who.pid, self.somebody().pid))
            await call(who.pid, ("broadcast", topic, message, sender))
            self.deliver(topic, message, sender)
            return f"{who.name} broadcasts {message!r} to {topic!r}, not to {sender!r}"
        elif what == "outside":
            return self.from_outside(topic)
        elif what == "end":
            return await self.end(who)
        elif what == "dispatcher":
            self.dispatch(topic)
        elif len(self.subscribers) < 8:
            await self.start()
        return f"{what} of {who.name} on {topic!r}"

    def from_outside(self, topic: str) -> str:
        message, sender = self.a_message(topic), self.random.choice((None, self.somebody().pid))
        how = self.random.choice(("broadcast", "local", "direct", "nobody"))
        if how == "broadcast":
            self.pubsub.broadcast(topic, message, sender=sender)
        elif how == "local":
            self.pubsub.local_broadcast(topic, message, sender=sender)
        else:
            node = self.pubsub.node_name if how == "direct" else "another"
            sender = None
            self.pubsub.direct_broadcast(node, topic, message)
        if how != "nobody":
            self.deliver(topic, message, sender)
        return f"{how} of {message!r} to {topic!r}, not to {sender!r}"

    async def end(self, who: Subscriber) -> str:
        """End a process in some way. Only the subscriptions of this process end."""
        how = self.random.choice(("stop", "crash", "kill", "exit"))
        if how == "stop":
            await call(who.pid, ("stop",))
        elif how == "crash":
            try:
                await call(who.pid, ("crash",))
            except Exception:  # any exit of the server
                pass
        elif how == "kill":
            kill(who.pid)
        else:
            send_exit(who.pid, "bad")
        await self.world.settle()
        self.world.check(not is_alive(who.pid), f"{who.name} lives after {how}")
        topics = {topic for owner, topic, _ in self.table if owner is who}
        self.world.sometimes("a process with several topics ended", len(topics) > 1)
        self.table = [each for each in self.table if each[0] is not who]
        self.subscribers.remove(who)
        await self.start()
        return f"{who.name} ended by {how}"

    def dispatch(self, topic: str) -> None:
        """Broadcast with a custom dispatcher. Check that it gets all subscriptions in order."""

        def note(subscriptions: Iterable[Subscription], sender: Pid | None, message: Any) -> None:
            found = [(each.pid, each.topic, each.metadata) for each in subscriptions]
            self.dispatched.append(found)
            dispatch(subscriptions, sender, message)

        self.pubsub.broadcast(topic, "by hand", dispatcher=note)
        wanted = [(owner.pid, at, data) for owner, at, data in self.table if at == topic]
        found = self.dispatched[-1] if self.dispatched else []
        self.dispatched = []
        self.world.check(found == wanted, f"the dispatcher of {topic!r} got {found}, not {wanted}")
        self.deliver(topic, "by hand", None)

    async def check(self, what: str) -> None:
        """Compare the table and the messages of each process with the model."""
        for subscriber in self.subscribers:
            heard = await call(subscriber.pid, ("heard",))
            self.world.check(
                heard == subscriber.heard,
                f"{subscriber.name} heard {heard}, not {subscriber.heard}, after: {what}",
            )
            subscriber.heard = []
        for topic in TOPICS:
            pids = self.pubsub.subscribers(topic)
            wanted = tuple(owner.pid for owner, at, _ in self.table if at == topic)
            self.world.check(
                pids == wanted, f"{topic!r} has the subscribers {pids}, not {wanted}, after: {what}"
            )
        figures = self.pubsub.statistics()
        topics = Counter(topic for _, topic, _ in self.table)
        wanted_figures = {"topics": len(topics), "subscriptions": topics.total()}
        self.world.check(
            figures == wanted_figures,
            f"the figures are {figures}, not {wanted_figures}, after: {what}",
        )


@scenario(params={"operations": 60})
@small_bounds
async def pubsub(world: World) -> None:
    """Run random operations on the table of subscriptions, each with an exact check."""
    sweep = PubSubSweep(world)
    sweep.pubsub.attach(world.runtime)
    for _ in range(4):
        await sweep.start()
    for _ in range(world.params["operations"]):
        what = await sweep.step()
        await world.settle()
        await sweep.check(what)
    for subscriber in sweep.subscribers:
        spawn(_end, subscriber.pid)
    await world.settle()
    figures = sweep.pubsub.statistics()
    world.check(
        figures == {"topics": 0, "subscriptions": 0},
        f"all processes have ended, but the figures are {figures}",
    )


async def _end(pid: Pid) -> None:
    kill(pid)

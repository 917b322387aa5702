"""One presence with its owners and its readers. A model knows the keys that are present.

    ashtree simulate tests.simulation.sweeps.channels.presence:presence --seeds 1-1000

Watchers apply the diffs as phoenix.js does, and must arrive at the state of the model. The cluster scenario does the
same for several nodes.
"""

from __future__ import annotations

import math
from typing import Any

import trio
from attrs import define, field

from actors import GenServer, Pid, Reply, call, kill, spawn
from channels import Broadcast, PubSub
from channels.errors import EncodeError
from channels.presence import AlreadyTracked, NotTracked, Presence
from channels.presence.roster import TooManyCalls
from channels.testing import PresenceDiffsFit
from supervision import Supervisor
from supervision.simulation import World
from tests.laws.scenarios import scenario
from tests.simulation.sweeps.bounds import small_bounds

TOPICS = ("room:1", "room:2")
KEYS = ("ann", "bob", "7")
# If fetch fails, the diff is lost. The next diff also contains the lost changes.
FAILING = "fetch fails"


class Online(Presence):
    """A presence that adds data in `fetch`, and records the calls of `handle_metas`."""

    sweep: Any = None

    async def fetch(self, topic: str, presences: Any) -> Any:
        await trio.sleep(self.sweep.fetch_takes)
        if self.sweep.is_failing:
            raise RuntimeError(FAILING)
        return {key: {**entry, "name": key.upper()} for key, entry in presences.items()}

    async def init(self) -> Any:
        return {}

    async def handle_metas(self, topic: str, diff: Any, presences: Any, state: Any) -> Any:
        fold(state.setdefault(topic, {}), diff)
        self.sweep.handled = state
        self.sweep.check_handled(topic, diff, presences)
        return state


class Plain(Presence):
    """A presence without callbacks."""

    sweep: Any = None


def fold(state: dict[str, list[Any]], diff: Any) -> None:
    """Apply a diff as phoenix.js does: joins first, and metas by their refs."""
    for key, entry in diff["joins"].items():
        refs = {meta["phx_ref"] for meta in entry["metas"]}
        old = [meta for meta in state.get(key, []) if meta["phx_ref"] not in refs]
        state[key] = [*old, *entry["metas"]]
    for key, entry in diff["leaves"].items():
        refs = {meta["phx_ref"] for meta in entry["metas"]}
        left = [meta for meta in state.get(key, []) if meta["phx_ref"] not in refs]
        if left:
            state[key] = left
        else:
            state.pop(key, None)


class Watcher(GenServer[None]):
    """A reader of one topic: it subscribes, asks for the list, and folds the diffs that follow."""

    async def init(self, sweep: Sweep, topic: str) -> None:
        self.sweep, self.topic = sweep, topic
        self.shown: dict[str, list[Any]] = {}
        self.diffs: list[Any] = []
        self.count: int | None = None
        self.size_at_sync = 0.0
        sweep.pubsub.subscribe(topic)
        await self.sync()

    async def sync(self) -> None:
        try:
            presences = await self.sweep.presence.list(self.topic)
        except RuntimeError:
            presences = {}
        self.shown = {key: list(entry["metas"]) for key, entry in presences.items()}
        # While a topic is counted, `list` still reads the keys, and no diff clears the list of this reader. A topic
        # that has become small is counted until its next diff.
        is_counted = self.sweep.presence.statistics()["counted_topics"] > 0
        self.size_at_sync = math.inf if is_counted else len(presences)

    async def handle_call(self, request: Any, sender: Any) -> Reply:
        if request == "sync":
            await self.sync()
        diffs, self.diffs = self.diffs, []
        return Reply((self.shown, diffs, self.count, self.size_at_sync))

    async def handle_info(self, message: Any) -> None:
        assert isinstance(message, Broadcast)
        if message.event == "presence_state":
            self.shown = {key: list(entry["metas"]) for key, entry in message.payload.items()}
            return
        if self.sweep.is_strict:
            self.check_diff(message.payload)
        self.diffs.append(message.payload)
        self.count = message.payload.get("count", self.count)
        fold(self.shown, message.payload)

    def check_diff(self, diff: Any) -> None:
        """Check that a diff has only leaves that this watcher shows, and only joins that it does not show."""
        shown = {meta["phx_ref"] for metas in self.shown.values() for meta in metas}
        for side, is_known in (("joins", False), ("leaves", True)):
            for key, entry in diff[side].items():
                for meta in entry["metas"]:
                    if (meta["phx_ref"] in shown) is not is_known:
                        self.sweep.problems.append(
                            f"the {side} of {self.topic} have {meta} of {key}; shown are {sorted(shown)}"
                        )


@define(eq=False)
class Owned:
    """A presence in the model.

    Attributes:
        until: the end of the grace period. None while the owner is alive.
    """

    topic: str
    key: str
    owner: Pid
    data: dict[str, Any]
    ref: str
    before: str | None = None
    until: float | None = None

    @property
    def meta(self) -> dict[str, Any]:
        refs = {"phx_ref": self.ref}
        if self.before is not None:
            refs["phx_ref_prev"] = self.before
        return {**self.data, **refs}


@define(eq=False)
class Sweep:
    """The state of one run."""

    world: World
    random: Any = None
    pubsub: PubSub = field(factory=PubSub)
    presence: Any = None
    owners: list[Pid] = field(factory=list)
    dead: list[Pid] = field(factory=list)
    watchers: list[tuple[str, Pid]] = field(factory=list)
    entries: list[Owned] = field(factory=list)
    refs: set[str] = field(factory=set)
    grace: float = 0.0
    fetch_takes: float = 0.0
    is_failing: bool = False
    has_failed: bool = False
    counted_from: int | None = None
    top: Any = None
    crashed_at: float = -10.0
    # True if no process reads the list while changes wait. Then no diff contains a presence that came and went.
    is_strict: bool = False
    # The differences that watchers found. A watcher does not raise, because that would only crash its own process.
    problems: list[str] = field(factory=list)
    handled: dict[str, Any] = field(factory=dict)
    what: str = ""

    async def start(self) -> None:
        self.random = self.world.random("operations")
        kind = self.random.choice((Online, Plain))
        self.grace = self.random.choice((0.0, 0.0, 3.0))
        self.fetch_takes = self.random.choice((0.0, 0.02, 0.3))
        kind.sweep = self
        self.counted_from = self.random.choice((None, None, 2, 3))
        self.presence = kind(
            leave_grace=self.grace,
            interval=self.random.choice((0.05, 0.5)),
            counted_from=self.counted_from,
        )
        self.top = await Supervisor.start_link([self.presence.child_spec(self.pubsub)], label="top")
        for _ in range(3):
            self.owners.append(spawn(trio.sleep_forever))
        if isinstance(self.presence, Plain) and self.counted_from is None:
            self.is_strict = self.random.random() < 0.7
        if self.is_strict:
            for topic in TOPICS:
                self.watchers.append((topic, await Watcher.start(self, topic)))

    def check(self, holds: object, problem: str) -> None:
        self.world.check(holds, f"{problem}, after {self.what}")

    def check_handled(self, topic: str, diff: Any, presences: Any) -> None:
        shown = {key: len(metas) for key, metas in presences.items()}
        folded = {key: len(metas) for key, metas in self.handled[topic].items()}
        if not self.has_failed:
            self.check(
                shown == folded, f"handle_metas got {shown} on {topic}, and its diffs give {folded}"
            )

    # Operations

    def find(self, topic: str, key: str, owner: Pid) -> Owned | None:
        for each in self.entries:
            if (each.topic, each.key, each.owner) == (topic, key, owner) and each.until is None:
                return each
        return None

    def new_ref(self, ref: str) -> str:
        self.check(ref not in self.refs and len(ref) == 16, f"the ref {ref!r} is not new")
        self.refs.add(ref)
        return ref

    async def step(self) -> None:
        """Do one operation."""
        random = self.random
        owner, topic, key = random.choice(self.owners), random.choice(TOPICS), random.choice(KEYS)
        operation = random.choices(
            (
                self.track,
                self.update,
                self.untrack,
                self.untrack_all,
                self.end,
                self.watch,
                self.flood,
                self.fail,
                self.burst,
                self.crash,
                self.too_late,
            ),
            (8, 6, 3, 1, 3, 2, 0.3, 0.5, 2, 0.8, 1),
        )[0]
        self.what = f"{operation.__name__} of {key!r} in {topic!r} by {owner!r}"
        self.world.note("operation", what=self.what)
        await operation(owner, topic, key)

    async def track(self, owner: Pid, topic: str, key: str) -> None:
        data: dict[str, Any] = {"n": self.random.randrange(3)}
        meta = {**data, "phx_ref": "forged", "phx_ref_prev": "forged"}
        name: Any = int(key) if key == "7" else key
        known = self.find(topic, key, owner)
        try:
            ref = self.presence.track(topic, name, meta, pid=owner)
        except AlreadyTracked:
            self.check(known is not None and known.data != data, "track raised AlreadyTracked")
            return
        if known is not None:
            self.check(
                known.data == data and ref == known.ref,
                f"track again with {data} gave {ref!r}; {known.meta} was tracked",
            )
            return
        self.returned(topic, key)
        self.entries.append(Owned(topic, key, owner, data, self.new_ref(ref)))

    async def update(self, owner: Pid, topic: str, key: str) -> None:
        data: dict[str, Any] = {"n": self.random.randrange(3)}
        known = self.find(topic, key, owner)
        given: list[Any] = []

        def change(meta: Any) -> Any:
            given.append(dict(meta))
            meta["n"] = data["n"]
            return meta

        how: Any = change if self.random.random() < 0.5 else data
        try:
            ref = self.presence.update(topic, key, how, pid=owner)
        except NotTracked:
            self.check(known is None, "update raised NotTracked")
            return
        self.check(known is not None, "update did not raise NotTracked")
        assert known is not None
        if given:
            self.check(
                given == [known.meta], f"update gave {given} to the function, not {known.meta}"
            )
        if data == known.data:
            self.check(ref == known.ref, "an update with the same metadata changed the ref")
        else:
            known.data, known.before, known.ref = data, known.ref, self.new_ref(ref)
            self.returned(topic, key)

    def returned(self, topic: str, key: str) -> None:
        """Remove the presences of a key that are in their grace period, because the key has joined again."""
        self.entries = [
            each
            for each in self.entries
            if (each.topic, each.key) != (topic, key) or each.until is None
        ]

    async def untrack(self, owner: Pid, topic: str, key: str) -> None:
        self.presence.untrack(topic, key, pid=owner)
        known = self.find(topic, key, owner)
        if known is not None:
            self.entries.remove(known)

    async def untrack_all(self, owner: Pid, topic: str, key: str) -> None:
        self.presence.untrack_all(pid=owner)
        self.entries = [
            each for each in self.entries if each.owner is not owner or each.until is not None
        ]

    async def end(self, owner: Pid, topic: str, key: str) -> None:
        """End an owner. Its presences leave after the grace period."""
        kill(owner)
        await self.world.settle()
        self.owners.remove(owner)
        self.dead.append(owner)
        self.owners.append(spawn(trio.sleep_forever))
        for each in [each for each in self.entries if each.owner is owner]:
            if each.until is None and self.grace:
                each.until = self.world.seconds + self.grace
                self.world.sometimes("a presence lingers")
            elif each.until is None:
                self.entries.remove(each)

    async def fail(self, owner: Pid, topic: str, key: str) -> None:
        """Make `fetch` fail for some time. The next change then also sends the changes that the clients have missed."""
        if isinstance(self.presence, Plain):
            return
        self.is_failing = self.has_failed = True
        await self.track(owner, topic, key)
        await self.untrack(self.random.choice(self.owners), topic, self.random.choice(KEYS))
        await trio.sleep(2)
        self.is_failing = False
        for each in TOPICS:
            await self.untrack(owner, each, "7")
            await trio.sleep(1)
            await self.track(owner, each, "7")
            # Wait until the presence has announced the change. If the next operation undid it before, there would be no
            # diff, and the clients would still lack the changes.
            await trio.sleep(1)
        self.world.sometimes("clients have missed a diff")

    async def watch(self, owner: Pid, topic: str, key: str) -> None:
        """Start or end a watcher."""
        if self.is_strict:
            return
        if len(self.watchers) > 2:
            _, pid = self.watchers.pop(0)
            kill(pid)
        else:
            self.watchers.append((topic, await Watcher.start(self, topic)))

    async def burst(self, owner: Pid, topic: str, key: str) -> None:
        """Mix changes and reads of one topic within one broadcast interval."""
        if self.is_strict:
            return
        here = [pid for at, pid in self.watchers if at == topic]
        while len(here) < 2:
            here.append(await Watcher.start(self, topic))
            self.watchers.append((topic, here[-1]))
        for _ in range(self.random.randint(3, 8)):
            what = self.random.choice(("track", "untrack", "read", "read"))
            name = self.random.choice(KEYS[:2])
            if what == "read":
                await call(self.random.choice(here), "sync")
            elif what == "track":
                await self.track(owner, topic, name)
            else:
                await self.untrack(owner, topic, name)

    async def too_late(self, owner: Pid, topic: str, key: str) -> None:
        """Track a presence for an owner that has ended. The presence must leave after the grace period."""
        if not self.dead:
            return
        dead = self.random.choice(self.dead)
        if any((each.topic, each.key, each.owner) == (topic, key, dead) for each in self.entries):
            return
        ref = self.presence.track(topic, key, {"n": 0}, pid=dead)
        self.returned(topic, key)
        self.new_ref(ref)
        if self.grace:
            until = self.world.seconds + self.grace
            self.entries.append(Owned(topic, key, dead, {"n": 0}, ref, until=until))
        await self.world.settle()
        self.world.sometimes("an owner has ended before it is tracked")

    async def crash(self, owner: Pid, topic: str, key: str) -> None:
        """Kill a process of `Presence`. Its supervisor restarts the process, and all presences stay."""
        if self.world.seconds < self.crashed_at + 6.0:
            # More crashes would exceed the restart intensity of the supervisor.
            return
        self.crashed_at = self.world.seconds
        children = {child.id: child.pid for child in await Supervisor.which_children(self.top)}
        (presence,) = children.values()
        assert isinstance(presence, Pid)
        processes = [child.pid for child in await Supervisor.which_children(presence)]
        victim = self.random.choice(processes)
        assert isinstance(victim, Pid)
        kill(victim)
        # After the crash, `handle_metas` may miss a diff that was on its way.
        self.has_failed = True
        self.is_strict = False
        if self.random.random() < 0.5:
            await self.end(owner, topic, key)
        await trio.sleep(self.random.choice((0.0, 0.1)))
        self.world.sometimes("a process of the presence crashes")

    async def flood(self, owner: Pid, topic: str, key: str) -> None:
        """Call `track` more often than the rate limit of a process allows."""
        flooder = spawn(trio.sleep_forever)
        made = self.track_often(flooder)
        self.check(made == 100, f"{made} calls at once were allowed, not 100")
        self.presence.untrack_all(pid=flooder)
        await trio.sleep(0.5)
        made = self.track_often(flooder)
        self.check(49 <= made <= 60, f"{made} calls were allowed after half a second, not 50")
        self.presence.untrack_all(pid=flooder)
        # Unused calls do not add up beyond the limit of one second.
        await trio.sleep(3)
        made = self.track_often(flooder)
        self.check(99 <= made <= 101, f"{made} calls were allowed after three seconds, not 100")
        self.presence.untrack_all(pid=flooder)
        kill(flooder)

    def track_often(self, flooder: Pid) -> int:
        """Return the number of calls that the presence allows now."""
        for made in range(150):
            try:
                self.presence.track("room:flood", "f", {}, pid=flooder)
            except TooManyCalls:
                return made
        return 150

    # Checks

    def is_clear(self) -> bool:
        """Return True if no grace period ends within 0.3 seconds of now."""
        now = self.world.seconds
        self.entries = [
            each for each in self.entries if each.until is None or each.until > now - 0.3
        ]
        return all(each.until is None or abs(each.until - now) > 0.3 for each in self.entries)

    def wanted(self, topic: str) -> dict[str, list[Any]]:
        found: dict[str, list[Any]] = {}
        for each in self.entries:
            if each.topic == topic:
                found.setdefault(each.key, []).append(each.meta)
        return found

    def check_snapshot(self) -> None:
        """Compare the snapshots with the model. Unlike diffs, a snapshot has every change immediately."""
        if not self.is_clear():
            return
        for topic in TOPICS:
            snapshot = self.presence.snapshot(topic)
            shown = {key: _sorted(metas) for key, metas in snapshot.items()}
            wanted = {key: _sorted(metas) for key, metas in self.wanted(topic).items()}
            self.check(shown == wanted, f"{topic} shows {shown}, not {wanted}")
            self.check(
                snapshot.presences == sum(map(len, wanted.values()))
                and len(snapshot) == len(wanted),
                f"{topic} counts {snapshot.presences} presences of {len(snapshot)} keys",
            )
        figures = self.presence.statistics()
        present = len(self.entries)
        self.check(
            figures["presences"] == figures["own_presences"] == present,
            f"the figures are {figures}, with {present} presences",
        )

    async def check_all(self) -> None:
        """Wait until the presence has sent all diffs. Compare lists, diffs and watchers with the model."""
        await trio.sleep(2.0)
        if not self.is_clear():
            return
        self.check_snapshot()
        if any(each.until is not None for each in self.entries):
            # A grace period may end while fetch runs.
            return
        for topic in TOPICS:
            wanted = {key: _sorted(metas) for key, metas in self.wanted(topic).items()}
            if not self.is_failing:
                listed = await self.presence.list(topic)
                shown = {key: _sorted(entry["metas"]) for key, entry in listed.items()}
                self.check(shown == wanted, f"the list of {topic} is {shown}, not {wanted}")
                is_named = isinstance(self.presence, Plain) or all(
                    entry["name"] == key.upper() for key, entry in listed.items()
                )
                self.check(is_named, f"fetch did not see the list of {topic}: {listed}")
                for key in KEYS:
                    entry = await self.presence.get_by_key(topic, key)
                    metas = None if entry is None else _sorted(entry["metas"])
                    self.check(metas == wanted.get(key), f"{key} in {topic} is {metas}")
        await self.check_watchers()
        self.check(self.presence.statistics()["waiting_diffs"] == 0, "diffs still wait")

    async def check_watchers(self) -> None:
        self.check(not self.problems, f"{self.problems[:1]}")
        for topic, pid in self.watchers:
            shown, diffs, count, size_at_sync = await call(pid, "show")
            wanted = {key: _sorted(metas) for key, metas in self.wanted(topic).items()}
            if self.counted_from is not None and len(wanted) >= self.counted_from:
                self.world.sometimes("a topic is counted")
                self.check(
                    not diffs or count == len(wanted),
                    f"a watcher of {topic} counts {count} of {len(wanted)} keys; it got {diffs}",
                )
                # If the watcher got its list from a small topic, `Presence` must have cleared the list since then.
                self.check(
                    size_at_sync >= 0.75 * self.counted_from or not shown,
                    f"{topic} is counted, and a watcher with a list of {size_at_sync} still shows {shown}",
                )
                continue
            folded = {key: _sorted(metas) for key, metas in shown.items()}
            self.check(
                folded == wanted,
                f"a watcher of {topic} shows {folded}, not {wanted}; it got {diffs}",
            )
            self.check(
                all(diff["joins"] or diff["leaves"] or "count" in diff for diff in diffs),
                f"a diff of {topic} is empty: {diffs}",
            )


def _sorted(metas: Any) -> list[Any]:
    return sorted((dict(meta) for meta in metas), key=lambda meta: str(meta["phx_ref"]))


@scenario(params={"operations": 40}, invariants=("all", PresenceDiffsFit))
@small_bounds
async def presence(world: World) -> None:
    """Run random operations on the presences of one node, each with an exact check."""
    sweep = Sweep(world)
    await sweep.start()
    for _ in range(world.params["operations"]):
        await sweep.step()
        sweep.check_snapshot()
        chance = sweep.random.random()
        if chance < 0.3:
            await sweep.check_all()
        elif chance < 0.6:
            await trio.sleep(sweep.random.random())
    for _, pid in sweep.watchers:
        kill(pid)
    for owner in sweep.owners:
        kill(owner)
    await trio.sleep(sweep.grace + 3)
    figures = sweep.presence.statistics()
    world.check(
        figures["presences"] == figures["topics"] == figures["waiting_diffs"] == 0,
        f"all owners have ended, but the figures are {figures}",
    )
    try:
        sweep.presence.track("room:1", "big", {"x": "x" * 20_000}, pid=spawn(trio.sleep_forever))
    except EncodeError:
        return
    world.check(False, "metadata of 20,000 bytes was accepted")

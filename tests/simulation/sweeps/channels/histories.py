"""Storages of durable topics, durable channels with keyed pushes, and programs that publish over HTTP with keys.

    ashtree simulate tests.simulation.sweeps.channels.histories:storages --seeds 1-1000
    ashtree simulate tests.simulation.sweeps.channels.histories:durable_channels --seeds 1-1000
    ashtree simulate tests.simulation.sweeps.channels.histories:publishers --seeds 1-1000

All limits are small, so that the runs often stay just below a limit, reach it exactly, or exceed it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import trio
from attrs import define, field

from actors import current_runtime
from channels import Channel, Endpoint, Mount, PubSub, PushReply, Route, Socket, handle_in
from channels.durable import History, MemoryStorage, SQLiteStorage, Storage
from channels.durable.storage import Appended, Ends, NewAnswer, NewMessage, StorageError
from channels.durable.stream import Limits, Slice
from channels.publishing.http import HttpPublish
from channels.testing import JoinedNodes
from supervision.simulation import World
from tests.laws.scenarios import scenario
from tests.simulation.sweeps.bounds import small_bounds
from tests.simulation.sweeps.channels.clients import Client
from tests.simulation.sweeps.channels.room import CHECKED

TOPICS = ("a", "b", "c", "d")
BIG = 120
# Longer than two repetitions of a failed check, so that only these can explain a message that arrives earlier.
CHECK_INTERVAL = 5.0


@define(eq=False)
class Stream:
    """The kept messages of a topic in the model: time, offset and body, oldest first."""

    last: int
    kept: list[tuple[float, int, bytes]] = field(factory=list)

    def bytes(self) -> int:
        return sum(len(body) + 1 for _, _, body in self.kept)


class StorageModel:
    """The rules of `channels.durable.storage.Storage`."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.streams: dict[str, Stream] = {}
        self.keys: dict[str, tuple[float, bytes]] = {}
        self.floor = 0
        # By topic, the oldest claim first.
        self.fences: dict[str, int] = {}
        self.fence_floor = 0

    def claim(self, topic: str, fence: int) -> tuple[int | None, int]:
        known = self.fences.get(topic, self.fence_floor)
        if fence <= known:
            return known, 0
        self.fences.pop(topic, None)
        self.fences[topic] = fence
        forgotten = 0
        while len(self.fences) > self.limits.max_fences:
            oldest = self.fences.pop(next(iter(self.fences)))
            self.fence_floor = max(self.fence_floor, oldest)
            forgotten += 1
        return None, forgotten

    def refused(self, messages: list[NewMessage]) -> dict[int, int]:
        return {
            place: self.fences.get(each.topic, 0)
            for place, each in enumerate(messages)
            if each.fence != self.fences.get(each.topic)
        }

    def append(self, messages: list[NewMessage], answers: list[NewAnswer], now: float) -> Any:
        limits = self.limits
        offsets, repeated = [], []
        for place, message in enumerate(messages):
            known = self.recall(message.key, now) if message.key is not None else None
            if known is not None:
                offsets.append(int(known))
                repeated.append(place)
                continue
            stream = self.streams.pop(message.topic, None) or Stream(self.floor)
            self.streams[message.topic] = stream
            stream.last += 1
            stream.kept.append((now, stream.last, message.body))
            while stream.kept and (
                len(stream.kept) > limits.kept
                or stream.bytes() > limits.max_bytes
                or stream.kept[0][0] < now - limits.max_age
            ):
                del stream.kept[0]
            offsets.append(stream.last)
            if message.key is not None:
                self.keep(message.key, b"%d" % stream.last, now)
        kept = []
        for answer in answers:
            first = self.recall(answer.key, now)
            if first is None:
                self.keep(answer.key, answer.body, now)
            kept.append(answer.body if first is None else first)
        return offsets, repeated, kept, self.evict(), self.forget(now)

    def evict(self) -> int:
        evicted = 0
        while len(self.streams) > 1 and (
            len(self.streams) > self.limits.max_topics
            or sum(each.bytes() for each in self.streams.values()) > self.limits.max_total_bytes
        ):
            gone = self.streams.pop(next(iter(self.streams)))
            self.floor = max(self.floor, gone.last)
            evicted += 1
        return evicted

    def keep(self, key: str, value: bytes, now: float) -> None:
        self.keys.pop(key, None)
        self.keys[key] = (now, value)

    def forget(self, now: float) -> int:
        forgotten, limits = 0, self.limits
        for key in list(self.keys):
            is_old = self.keys[key][0] < now - limits.max_answer_age
            size = sum(len(name) + len(value) for name, (_, value) in self.keys.items())
            if (
                not is_old
                and len(self.keys) <= limits.max_answers
                and size <= limits.max_answer_bytes
            ):
                break
            forgotten += not is_old
            del self.keys[key]
        return forgotten

    def recall(self, key: str, now: float) -> bytes | None:
        at, value = self.keys.get(key, (now, None))
        return value if at >= now - self.limits.max_answer_age else None

    def read(self, topic: str, after: int, limit: int, now: float) -> Any:
        stream = self.streams.get(topic)
        if stream is None:
            return self.floor + 1, self.floor, []
        kept = [each for each in stream.kept if each[0] >= now - self.limits.max_age]
        first = kept[0][1] if kept else stream.last + 1
        found = [(offset, body) for _, offset, body in kept if offset > after][:limit]
        return first, stream.last, found


class StorageSweep:
    """The state of one run."""

    def __init__(self, world: World) -> None:
        self.world = world
        random = self.random = world.random("operations")
        self.limits = Limits(
            mode=random.choice(("stream", "stream", "latest")),
            max_messages=random.choice((1, 3, 5)),
            max_bytes=random.choice((BIG + 1, 200, 10_000)),
            max_age=random.choice((5.0, 300.0)),
            max_topics=random.choice((1, 2, 3, 100)),
            max_total_bytes=random.choice((300, 100_000)),
            max_answers=random.choice((2, 4, 100)),
            max_answer_bytes=random.choice((60, 10_000)),
            max_answer_age=random.choice((5.0, 300.0)),
            max_fences=random.choice((1, 2, 100)),
        )
        self.model = StorageModel(self.limits)
        self.storage: Storage = MemoryStorage()
        self.kind = "memory"
        if random.random() < 0.4:
            self.kind = "sqlite"
            self.storage = SQLiteStorage("/simulated/history.db")
        self.serial = self.fence = 0
        self.now = 1000.0
        self.used: dict[tuple[str, int], bytes] = {}

    def check(self, holds: object, problem: str) -> None:
        self.world.check(holds, f"{self.kind} with {self.limits}: {problem}")

    async def run(self) -> None:
        await self.storage.open(self.limits, fresh_epoch="epoch")
        for _ in range(self.world.params["operations"]):
            # These steps add up exactly, so a message is often exactly as old as the limit.
            self.now += self.random.choice((0.0, 0.0, 1.0, 1.0, 5.0))
            await self.random.choice(
                (self.append, self.append, self.append, self.read, self.recall, self.claim)
            )()
        self.storage.close()

    async def append(self) -> None:
        random, messages = self.random, []
        for _ in range(random.choice((0, 1, 1, 2, 4))):
            self.serial += 1
            body = b'{"n":%d}' % self.serial
            body = body.ljust(random.choice((10, 10, 60, BIG)))
            key = random.choice((None, None, "k1", "k2", "k3"))
            topic = random.choice(TOPICS)
            fence = self.model.fences.get(topic)
            if random.random() < 0.05:
                fence = random.choice((None, 1, (fence or 0) + 1, max(1, (fence or 0) - 1)))
            messages.append(NewMessage(topic, "e", body, key, fence))
        answers = []
        for _ in range(random.choice((0, 0, 1, 2))):
            self.serial += 1
            answers.append(
                NewAnswer(random.choice(("p1", "p2", "p3", "p4")), b"[%d]" % self.serial)
            )
        if not messages and not answers:
            return
        done = await self.storage.append(messages, now=self.now, answers=answers)
        refused = self.model.refused(messages)
        self.check(done.refused == refused, f"it refused {done.refused}, not {refused}")
        self.world.sometimes("a storage refuses a fence", refused)
        if refused:
            return
        wanted = self.model.append(messages, answers, self.now)
        found = (list(done.offsets), list(done.repeated), list(done.answers))
        self.check(
            found == wanted[:3],
            f"append of {messages} and {answers} gave {found}, not {wanted[:3]}",
        )
        counts = (done.evicted, done.forgotten)
        self.check(counts == wanted[3:], f"it evicted and forgot {counts}, not {wanted[3:]}")
        self.world.sometimes("a storage forgets a topic", done.evicted)
        self.world.sometimes("a storage forgets a key", done.forgotten)
        for place, (message, offset) in enumerate(zip(messages, done.offsets, strict=True)):
            if place not in done.repeated:
                at = (message.topic, offset)
                self.check(at not in self.used, f"{at} names {self.used.get(at)!r} and {message}")
                self.used[at] = message.body

    async def read(self) -> None:
        topic, after = self.random.choice(TOPICS), self.random.randrange(12)
        limit = self.random.choice((1, 2, 100))
        found = await self.storage.read(topic, after=after, limit=limit, now=self.now)
        entries = [(entry.offset, entry.body) for entry in found.entries]
        wanted = self.model.read(topic, after, limit, self.now)
        self.check(
            (found.first, found.last, entries) == wanted,
            f"read of {topic} after {after} gave {found.first, found.last, entries}, not {wanted}",
        )
        ends = (await self.storage.ends(TOPICS)).offsets
        last = {name: each.last for name, each in self.model.streams.items()}
        self.check(dict(ends) == last, f"the ends are {ends}, not {last}")
        if self.kind == "memory":
            figures = self.storage.statistics()
            streams = self.model.streams.values()
            right = {
                "topics": len(self.model.streams),
                "messages": sum(len(each.kept) for each in streams),
                "bytes": sum(each.bytes() for each in streams),
                "keys": len(self.model.keys),
                "fences": len(self.model.fences),
            }
            self.check(figures == right, f"the figures are {figures}, not {right}")

    async def claim(self) -> None:
        # Two topics have owners. The fences of all topics come from one clock, which may be set back.
        topic = self.random.choice(TOPICS[2:])
        self.fence = max(1, self.fence + self.random.choice((-2, -1, 0, 1, 1, 2)))
        done = await self.storage.claim(topic, self.fence)
        found, wanted = (done.refused, done.forgotten), self.model.claim(topic, self.fence)
        self.check(found == wanted, f"claim {self.fence} of {topic} gave {found}, not {wanted}")
        self.world.sometimes("a storage refuses a claim", done.refused is not None)
        self.world.sometimes("a storage forgets a fence", done.forgotten)

    async def recall(self) -> None:
        key = self.random.choice(("p1", "p2", "p3", "p4"))
        found = await self.storage.recall(key, now=self.now)
        wanted = self.model.recall(key, self.now)
        self.check(found == wanted, f"recall of {key} gave {found!r}, not {wanted!r}")


@scenario(params={"operations": 60}, invariants=("all",))
@small_bounds
async def storages(world: World) -> None:
    """Run random operations on a storage. The model knows the exact result of each."""
    await StorageSweep(world).run()


class Document(Channel):
    """A durable channel whose handler waits, appends, and counts its runs."""

    log_join = None
    log_handle_in = None

    async def join(self, topic: str, payload: Any) -> None:
        self.sweep: DurableSweep = self.assigns["sweep"]

    @handle_in("edit")
    async def edit(self, payload: Any) -> Any:
        number = payload["n"]
        self.sweep.runs[number] = self.sweep.runs.get(number, 0) + 1
        await trio.sleep(payload["seconds"])
        for _ in range(payload["appends"]):
            await self.append("edited", {"n": number})  # type: ignore[attr-defined] # of the route
        how = payload["how"]
        if how == "crash":
            raise RuntimeError("as planned")
        if how == "none":
            return None
        return PushReply({"n": number, "run": self.sweep.runs[number]}, status=how)


class Unsteady(MemoryStorage):
    """A storage whose next checks fail, and whose reads can be slow.

    Attributes:
        failures: the number of these checks.
        pause: seconds between a read and its result.
        overtaking: checks during an append. They may tell the channels of a message before it arrives.
    """

    failures = overtaking = _appends = 0
    pause = 0.0

    async def append(self, batch: Sequence[NewMessage], **options: Any) -> Appended:
        self._appends += 1
        try:
            return await super().append(batch, **options)
        finally:
            self._appends -= 1

    async def read(self, topic: str, *, after: int, limit: int, now: float) -> Slice:
        found = await super().read(topic, after=after, limit=limit, now=now)
        await trio.sleep(self.pause)
        return found

    async def ends(self, topics: Sequence[str]) -> Ends:
        if self.failures:
            self.failures -= 1
            raise StorageError(self.name, "as planned")
        ends = await super().ends(topics)
        self.overtaking += self._appends > 0
        return ends


@define(eq=False)
class Reader:
    """A client, and its position in the model."""

    client: Client
    joined: str | None = None
    position: str | None = None


class DurableSweep:
    """The state of one run."""

    def __init__(self, world: World, nursery: trio.Nursery) -> None:
        self.world = world
        self.nursery = nursery
        self.random = world.random("operations")
        self.most = self.random.choice((3, 6))
        self.replay = self.random.choice((2, self.most))
        self.storage = Unsteady()
        self.history = History(
            self.storage,
            max_messages=self.most,
            max_replay=self.replay,
            check_interval=CHECK_INTERVAL,
        )
        self.runs: dict[int, int] = {}
        self.log: list[int] = []
        self.readers: list[Reader] = []
        self.serial = 0
        self.repeated = 0
        # Messages that the storage got from elsewhere, and channels that had to read them there.
        self.foreign = self.gaps = 0
        self.what = ""

    def check(self, holds: object, problem: str) -> None:
        self.world.check(holds, f"{problem}, after {self.what}")

    def number(self) -> int:
        self.serial += 1
        return self.serial

    async def start(self) -> None:
        sweep, history = self, self.history

        class DocumentSocket(Socket):
            log = None
            channels = {"doc:*": Route("doc:*", Document, {"sweep": sweep}, history=history)}

            def id(self) -> str:
                return "user:ann"

        # The clients send no heartbeats, and a run can take two minutes.
        socket = Mount(DocumentSocket, timeout=600.0)
        self.endpoint = Endpoint(sockets={"/socket": socket}, histories=[history])
        await self.endpoint.start_link(port=None)
        for index in range(4):
            client = Client(self.world, self.endpoint, f"r{index}", carrier="asgi")
            self.check(await client.connect(self.nursery), f"{client} was refused")
            self.readers.append(Reader(client))
            await self.join(self.readers[-1])
        self.epoch = str(self.readers[0].position).partition(":")[0]

    async def join(self, reader: Reader) -> None:
        """Join at a random position. Check the reply and the replayed messages."""
        random, last, ref = self.random, len(self.log), str(self.number())
        first = max(1, last - self.most + 1)
        position: Any = reader.position
        if reader.position is not None:
            epoch = self.epoch
            edges = (first - 2, first - 1, first, last - self.replay - 1, last - self.replay)
            offset = max(0, random.choice((*edges, last, last + 1, last - 1)))
            position = random.choice(
                (None, position, f"{epoch}:{offset}", f"{epoch}:{offset}", f"other:{last}", "x", 7)
            )
        reader.joined = ref
        await reader.client.send(ref, ref, "doc:1", "phx_join", {"_position": position})
        await trio.sleep(0.5)
        reason, start = self.decide(position, first, last)
        frames = reader.client.take()
        # The reply to the join comes first. A phx_close of the previous membership may follow the reply.
        frames = [frame for frame in frames if frame.event != "phx_close"]
        response: Any = frames[0].payload["response"] if frames else None
        at = start if reason is None else last
        found = None if response is None else str(response["_position"]).partition(":")[2]
        self.what = f"the join of {reader.client} at {position!r}, with {first} to {last} kept"
        self.check(
            response is not None
            and (response["_recovered"], response.get("_reason")) == (reason is None, reason)
            and found == str(at),
            f"the reply is {response}, and the reason should be {reason} at {at}",
        )
        numbers = [frame.payload["n"] for frame in frames[1:]]
        wanted = self.log[start:] if reason is None else []
        self.check(numbers == wanted, f"{reader.client} got the messages {numbers}, not {wanted}")
        reader.position = frames[-1].payload["_position"] if numbers else response["_position"]
        self.world.sometimes("a client misses more messages than it may get", reason == "too_many")
        self.world.sometimes("a client is too late", reason == "too_old")
        self.world.sometimes("a client recovers", numbers)

    def decide(self, position: Any, first: int, last: int) -> tuple[str | None, int]:
        """Return the expected reason why the join recovers no messages, or None, and the offset of the position."""
        if position is None:
            return "new", 0
        epoch, _, number = str(position).rpartition(":")
        if isinstance(position, int) or epoch != self.epoch or int(number) > last:
            return "epoch_changed", 0
        offset = int(number)
        if offset + 1 < first:
            return "too_old", offset
        if last - offset > self.replay:
            return "too_many", offset
        return None, offset

    async def push(self) -> None:
        """Push with a key, perhaps from several clients or repeatedly. Check that the handler runs once."""
        random, number = self.random, self.number()
        how = random.choice(("ok", "ok", "error", "none"))
        appends = random.choice((0, 1, 2))
        payload = {"n": number, "how": how, "appends": appends, "seconds": random.choice((0, 0.2))}
        keyed = {**payload, "_key": f"key {number}"}
        pushers = random.sample(self.readers, random.randint(1, 4))
        again = random.sample(pushers, random.randint(0, len(pushers)))
        self.what = f"the push {payload} by {[str(each.client) for each in pushers]}"
        for reader in pushers:
            await reader.client.send(reader.joined, "p", "doc:1", "edit", keyed)
            if random.random() < 0.3:
                await trio.sleep(random.choice((0.05, 0.3)))
        await trio.sleep(1.0)
        for reader in again:
            await reader.client.send(reader.joined, "p", "doc:1", "edit", keyed)
        odd = random.choice(pushers)
        if random.random() < 0.3:
            other = {**keyed, "n": -number}
            await odd.client.send(odd.joined, "odd", "doc:1", "edit", other)
        await trio.sleep(1.0)
        self.check(self.runs.get(number) == 1, f"the handler ran {self.runs.get(number)} times")
        self.check(-number not in self.runs, "the handler ran for another push with the same key")
        self.log += [number] * appends
        for reader in self.readers:
            frames = reader.client.take()
            answers = [frame.payload for frame in frames if frame.ref == "p"]
            count = (reader in pushers) + (reader in again)
            answer = {"status": how, "response": {"n": number, "run": 1}}
            wanted = [] if how == "none" else [answer] * count
            self.check(answers == wanted, f"{reader.client} got {answers}, not {wanted}")
            problem = {"reason": "another push had this _key"}
            odds = [frame.payload["response"] for frame in frames if frame.ref == "odd"]
            self.check(all(each == problem for each in odds), f"{reader.client} got {odds}")
            self.heard(reader, frames)
        self.repeated += len(pushers) - 1 + len(again)

    def heard(self, reader: Reader, frames: list[Any]) -> None:
        """Check that a joined client got each new message once, with its position."""
        edits = [frame.payload for frame in frames if frame.event == "edited"]
        start = int(str(reader.position).partition(":")[2])
        wanted = [
            {"n": number, "_position": f"{self.epoch}:{start + place + 1}"}
            for place, number in enumerate(self.log[start:])
        ]
        self.check(edits == wanted, f"{reader.client} got {edits}, not {wanted}")
        if edits:
            reader.position = edits[-1]["_position"]

    async def plain_push(self) -> None:
        """Push twice without a key. Check that each push runs the handler."""
        reader, number = self.random.choice(self.readers), self.number()
        payload = {"n": number, "how": "ok", "appends": 1, "seconds": 0}
        self.what = f"two equal pushes by {reader.client} without a key"
        for _ in range(2):
            await reader.client.send(reader.joined, "p", "doc:1", "edit", payload)
        await trio.sleep(0.5)
        self.check(self.runs[number] == 2, f"the handler ran {self.runs[number]} times")
        self.log += [number, number]
        for each in self.readers:
            self.heard(each, each.client.take())

    async def crash(self) -> None:
        """Crash a handler after its append, and repeat the push. The second run must append nothing."""
        reader, number = self.random.choice(self.readers), self.number()
        payload = {"n": number, "how": "crash", "appends": 1, "seconds": 0, "_key": f"key {number}"}
        self.what = f"a crash of {reader.client} in the push {number}"
        await reader.client.send(reader.joined, "p", "doc:1", "edit", payload)
        await trio.sleep(0.5)
        self.log.append(number)
        frames = reader.client.take()
        events = [frame.event for frame in frames if frame.event != "edited"]
        self.check(events == ["phx_error"], f"{reader.client} got {events}")
        if len(frames) > 1:
            # The appended message may arrive before the crash. Otherwise, the client recovers the message.
            self.heard(reader, frames)
        for each in self.readers:
            if each is not reader:
                self.heard(each, each.client.take())
        await self.join(reader)
        self.what = f"the repetition of the push {number}"
        await reader.client.send(reader.joined, "p", "doc:1", "edit", {**payload, "how": "ok"})
        await trio.sleep(0.5)
        # A different payload is accepted here, because the crashed push left no answer for the key.
        (frame,) = [frame for frame in reader.client.take() if frame.ref == "p"]
        wanted = {"status": "ok", "response": {"n": number, "run": 2}}
        self.check(frame.payload == wanted, f"{reader.client} got {frame}, not {wanted}")
        for each in self.readers:
            self.check(not each.client.take(), f"{each.client} got a message twice")

    async def rejoin(self) -> None:
        await self.join(self.random.choice(self.readers))

    async def rejoin_meanwhile(self) -> None:
        """Append while a client rejoins at its position. Check that it gets each message once, after the reply."""
        random, reader, ref = self.random, self.random.choice(self.readers), str(self.number())
        numbers = [self.number() for _ in range(random.choice((1, 2)))]
        self.what = f"the append of {numbers} while {reader.client} rejoins"
        self.storage.pause = 0.2
        reader.joined = ref
        params = {"_position": reader.position}
        await reader.client.send(ref, ref, "doc:1", "phx_join", params)
        for number in numbers:
            await trio.sleep(random.choice((0.0, 0.05, 0.1)))
            self.history.append_nowait("doc:1", "edited", {"n": number})
            self.log.append(number)
        await trio.sleep(1.0)
        self.storage.pause = 0.0
        # A client drops the messages of its earlier membership.
        reply, *frames = [frame for frame in reader.client.take() if frame.join_ref == ref]
        response = reply.payload["response"]
        wanted = {"_recovered": True, "_position": reader.position}
        self.check(response == wanted, f"{reader.client} got the reply {response}, not {wanted}")
        self.heard(reader, frames)
        for each in self.readers:
            if each is not reader:
                self.heard(each, each.client.take())

    async def from_outside(self) -> None:
        number = self.number()
        self.what = f"the append of {number}"
        self.history.append_nowait("doc:1", "edited", {"n": number})
        await trio.sleep(0.5)
        self.log.append(number)
        for each in self.readers:
            self.heard(each, each.client.take())

    async def lost_messages(self) -> None:
        """Keep messages that no channel hears of, as if they were lost between nodes. Check that all clients get them.

        The channels notice it at the next message, at the next regular check, or at a check that the storage asks for.
        If such a check fails, the history repeats it each second.
        """
        random = self.random
        how = random.choice(("next message", "interval", "check", "check", "failed checks"))
        count = 1 if how == "next message" else random.choice((1, 1, self.replay))
        numbers = [self.number() for _ in range(count)]
        self.what = f"the loss of {numbers} until the {how}"
        messages = [NewMessage("doc:1", "edited", b'{"n":%d}' % number) for number in numbers]
        await self.storage.append(messages, now=current_runtime().now())
        self.foreign += count
        self.log += numbers
        wait = 0.5
        if how == "next message":
            numbers.append(self.number())
            self.history.append_nowait("doc:1", "edited", {"n": numbers[-1]})
            self.log.append(numbers[-1])
        elif how == "interval":
            wait += CHECK_INTERVAL
        else:
            if how == "failed checks":
                self.storage.failures = random.choice((1, 2))
                wait += self.storage.failures
            self.history.check()
        await trio.sleep(wait)
        self.gaps += len(self.readers)
        for each in self.readers:
            self.heard(each, each.client.take())
        self.world.sometimes("the history repeats a failed check", how == "failed checks")

    def compare(self) -> None:
        """Compare the counters of the history with the model."""
        figures = self.history.statistics()
        wanted = {
            "appended": len(self.log) - self.foreign,
            "repeated": self.repeated,
            "failed": 0,
            "refused": 0,
            "gaps": self.gaps,
            "lost": 0,
            "waiting": 0,
            "followed": 1,
            "handling": 0,
        }
        found = {name: figures[name] for name in wanted}
        inexact = {"repeated": 0, "gaps": 0}
        early = self.storage.overtaking * len(self.readers)
        self.check(
            {**found, **inexact} == {**wanted, **inexact}
            and found["repeated"] >= wanted["repeated"]
            and self.gaps <= found["gaps"] <= self.gaps + early,
            f"the figures are {found}, not {wanted}",
        )


@scenario(params={"operations": 20}, invariants=("all", *CHECKED))
@small_bounds
async def durable_channels(world: World) -> None:
    """Run random operations of four clients of one durable topic. The model knows the exact result of each."""
    async with trio.open_nursery() as nursery:
        sweep = DurableSweep(world, nursery)
        await sweep.start()
        for _ in range(world.params["operations"]):
            operation = sweep.random.choices(
                (
                    sweep.push,
                    sweep.rejoin,
                    sweep.rejoin_meanwhile,
                    sweep.plain_push,
                    sweep.crash,
                    sweep.from_outside,
                    sweep.lost_messages,
                ),
                (5, 5, 1, 1, 1, 3, 2),
            )[0]
            await operation()
            sweep.compare()
        nursery.cancel_scope.cancel()


class Shared(MemoryStorage):
    """A storage of two nodes. While `fails` is set, some appends are slow, and some fail before or after they keep."""

    is_shared = True

    def __init__(self, world: World) -> None:
        super().__init__()
        self.random = world.random("storage")
        self.fails = True
        self._is_open = False

    async def open(self, limits: Limits, *, fresh_epoch: str) -> None:
        if not self._is_open:
            self._is_open = True
            await super().open(limits, fresh_epoch=fresh_epoch)

    async def append(self, batch: Sequence[NewMessage], **options: Any) -> Appended:
        if not self.fails:
            return await super().append(batch, **options)
        pause = self.random.choice((0.0, 0.0, 0.05, 0.3))
        before, after = self.random.choice(
            ((False, False), (False, False), (True, False), (False, True))
        )
        await trio.sleep(pause)
        if before:
            raise StorageError(self.name, "as planned", may_be_kept=self.random.random() < 0.5)
        done = await super().append(batch, **options)
        if after:
            raise StorageError(self.name, "as planned", may_be_kept=True)
        await trio.sleep(pause)
        return done


class PublishSweep:
    """The state of one run. A message is told apart by its key, its place in the batch, and its value."""

    KEYS = ("k1", "k2", "k1:0")
    VALUES = (0, 1, 2)
    TOKEN = "a-token-for-the-sweep"

    def __init__(self, world: World) -> None:
        self.world = world
        self.storage = Shared(world)
        network = JoinedNodes(latency=0.01, heartbeat=1.0)
        self.nodes = [self.node(network, name) for name in ("one", "two")]
        # For each key and place, the accepted value and its position.
        self.accepted: dict[tuple[str, int], tuple[int, str]] = {}
        self.statuses: set[int] = set()

    def node(self, network: JoinedNodes, name: str) -> Endpoint:
        history = History(self.storage, name="publishers")
        publish = HttpPublish(token=self.TOKEN, max_messages_per_second=math.inf)

        class DocumentSocket(Socket):
            log = None
            channels = {"doc:*": Route("doc:*", Document, history=history)}

        return Endpoint(
            sockets={"/socket": DocumentSocket},
            histories=[history],
            pubsub=PubSub(network.adapter(name)),
            publish=publish,
        )

    async def publish(self, node: Endpoint, key: str, values: Sequence[int]) -> int:
        """Publish one message, or a batch of several. Return the status, and check the positions in the answer."""
        messages = [
            {"topic": "doc:1", "event": "told", "payload": {"at": [key, place], "n": value}}
            for place, value in enumerate(values)
        ]
        path = "/publish"
        content: Any = {"messages": messages}
        if len(messages) == 1:
            path, content = "/publish/doc:1/told", messages[0]["payload"]
        headers = {"authorization": f"Bearer {self.TOKEN}", "idempotency-key": key}
        status, answer = await request(node, path, content, headers)
        self.world.check(status in {202, 422, 503}, f"{values} with {key} got {status}: {answer}")
        self.statuses.add(status)
        if status == 202:
            kept = dict(self.kept())
            for place, (value, position) in enumerate(
                zip(values, answer["positions"], strict=True)
            ):
                found, wanted = kept.get(position), {"at": [key, place], "n": value}
                self.world.check(found == wanted, f"{wanted} got 202 with {position}: {found}")
                first = self.accepted.setdefault((key, place), (value, position))
                self.world.check(
                    first == (value, position), f"{first} and {value, position} got 202"
                )
        return status

    def kept(self) -> list[tuple[str, Any]]:
        """Return the positions and the payloads that the storage has."""
        stream = self.storage._streams.get("doc:1")
        entries = [] if stream is None else [entry for _, _, entry in stream.messages]
        return [(f"{each.epoch}:{each.offset}", json.loads(each.body)) for each in entries]

    async def publisher(self, number: int) -> None:
        random = self.world.random("publisher", str(number))
        for _ in range(self.world.params["requests"]):
            values = random.choices(self.VALUES, k=random.choice((1, 1, 2)))
            # Some publishers leave before they get their answer.
            with trio.move_on_after(random.choice((0.05, math.inf, math.inf))):
                await self.publish(random.choice(self.nodes), random.choice(self.KEYS), values)
            await trio.sleep(random.choice((0.0, 0.0, 0.1)))

    async def end(self) -> None:
        """Repeat everything with a storage that works. Each key and place must have exactly one message."""
        self.storage.fails = False
        for key in self.KEYS:
            for values in (*((value,) for value in self.VALUES), *product(self.VALUES, repeat=2)):
                await self.publish(self.nodes[0], key, values)
        places = [tuple(payload["at"]) for _, payload in self.kept()]
        wanted = sorted(product(self.KEYS, (0, 1)))
        self.world.check(sorted(places) == wanted, f"the storage keeps {places}")
        self.world.check(sorted(self.accepted) == wanted, f"accepted are {self.accepted}")


async def request(
    endpoint: Endpoint, path: str, content: Any, headers: Mapping[str, str]
) -> tuple[int, Any]:
    """Post JSON to an endpoint. Return the status and the JSON of the answer."""
    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "scheme": "http",
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": ("10.9.9.9", 1234),
    }
    sent: list[Any] = []

    async def receive() -> Any:
        await trio.lowlevel.checkpoint()
        return {"type": "http.request", "body": json.dumps(content).encode()}

    async def send(message: Any) -> None:
        sent.append(message)

    await endpoint(scope, receive, send)
    return sent[0]["status"], json.loads(sent[1]["body"])


@scenario(params={"requests": 6}, invariants=("all", *CHECKED))
@small_bounds
async def publishers(world: World) -> None:
    """Publish to a durable topic of two nodes, with shared keys. A 202 means that this message was kept, once."""
    sweep = PublishSweep(world)
    for node in sweep.nodes:
        await node.start_link(port=None)
    await trio.sleep(2.5)
    async with trio.open_nursery() as nursery:
        for number in range(4):
            nursery.start_soon(sweep.publisher, number)
    await sweep.end()
    for status in (202, 422, 503):
        world.sometimes(f"a publisher gets {status}", status in sweep.statuses)

"""A node of `tests.benchmarks.entities`: entities with a fenced history, and callers that write down what they see.

Each process appends JSON lines to a file of its own, at once, so that a SIGKILL loses none of them. Times are those of
CLOCK_MONOTONIC, which all processes of a machine share.

The environment has the settings: FOLDER, RATE and KEYS. With REDIS_URL, the node NODE_NAME meets the other nodes at
that server, which also has the history, and LEASE is the length of its leases.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any, ClassVar

import trio
from msgspec import Struct

from actors import CallExit, Reply, Sender, call, current_runtime, spawn
from channels import Draining, Endpoint, PubSub, Socket
from channels.cli.serve import run_endpoint
from channels.durable import History, RedisStorage, SQLiteStorage
from channels.entities import Entity, EntitySupervisor, RedisArbiter
from channels.pubsub.redis import RedisAdapter
from channels.serving.services import EndpointChild
from supervision import ChildSpec, process_spec

OVER = "over"
"""The file that ends the work of the callers."""

PATIENCE = 60.0
"""Seconds after which a caller gives up an operation."""

CALL_TIMEOUT = 5.0
# Seconds between a failed call and the next one. They double up to a second, because thousands of callers that repeat
# their calls at once would be a fault of their own.
_PAUSE = 0.02
_LONGEST_PAUSE = 1.0

folder = Path(os.environ.get("FOLDER", "/nonexistent"))


def history_at(folder: Path, redis: str | None) -> History:
    """Return the history. Its limits are so high that it keeps all messages of a run."""
    storage = (
        # A kill of a process loses nothing with NORMAL. With FULL, the figures would be those of the disk.
        SQLiteStorage(str(folder / "ledgers.db"), synchronous="NORMAL")
        if redis is None
        else RedisStorage(redis, key="ledgers")
    )
    return History(
        storage,
        max_messages=1_000_000,
        max_bytes=2**28,
        max_total_bytes=2**32,
        max_age=24 * 3600.0,
        max_topics=1_000_000,
    )


def topic_of(key: str) -> str:
    """Return the topic of the history of a key."""
    return f"ledger:{key}"


class Notes:
    """The file of this process."""

    def __init__(self) -> None:
        self._file: int | None = None

    def note(self, event: str, **about: Any) -> None:
        """Write a line. The kernel has it when this returns."""
        if self._file is None:
            path = folder / f"{os.getpid()}.notes"
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        line = {"event": event, "at": time.monotonic(), **about}
        os.write(self._file, json.dumps(line).encode() + b"\n")


notes = Notes()
redis_url = os.environ.get("REDIS_URL")
history = history_at(folder, redis_url)


class Add(Struct, tag=True, frozen=True):
    """Count an operation, once. A caller repeats it with the same id."""

    operation: str
    attempt: str


class Added(Struct, tag=True, frozen=True):
    """The operation is the `count`th one of its key, and the owner with this fence says so."""

    count: int
    fence: int
    by: str


class Ledger(Entity):
    """A counter. Its history has each operation, with the fence of the owner that appended it."""

    requests = Add
    answers = Added
    handoff = int

    async def init(self, key: str, state: int | None = None) -> None:
        self.topic = topic_of(key)
        notes.note("owned", key=key, fence=self.fence)
        await history.claim(self.topic, self.fence)
        await history.append(self.topic, "claimed", {"fence": self.fence}, fence=self.fence)
        entries = (await history.read(self.topic)).entries
        added = [json.loads(each.body) for each in entries if each.event == "added"]
        self.counts = {each["operation"]: each["count"] for each in added}
        notes.note("started", key=key, fence=self.fence, state=state, count=len(self.counts))

    async def handle_call(self, request: Add, sender: Sender) -> Reply:
        about = {"key": self.key, "fence": self.fence, "attempt": request.attempt}
        notes.note("began", **about)
        try:
            count = self.counts.get(request.operation)
            if count is None:
                count = len(self.counts) + 1
                added = {"operation": request.operation, "count": count, "fence": self.fence}
                await history.append(self.topic, "added", added, fence=self.fence)
                self.counts[request.operation] = count
        finally:
            notes.note("ended", **about)
        return Reply(Added(count, self.fence, str(os.getpid())))

    async def handle_handoff(self) -> int:
        return len(self.counts)


class Callers(EndpointChild):
    """A process that begins an operation several times in a second, and a process for each of them."""

    def __init__(self) -> None:
        self.open = 0
        self.is_over = False
        self.has_ended = trio.Event()

    def child_spec(self, services: object) -> ChildSpec:
        return process_spec(self.main, id="callers")

    async def main(self) -> None:
        """Begin operations for random keys."""
        random = current_runtime().random
        interval = 1 / float(os.environ["RATE"])
        keys = int(os.environ["KEYS"])
        number, at = 0, trio.current_time()
        while not self.is_over:
            at += interval * random.uniform(0.5, 1.5)
            await trio.sleep_until(at)
            if not (folder / OVER).exists():
                number += 1
                spawn(self.operate, str(random.randrange(keys)), f"{os.getpid()}.{number}")
        await trio.sleep_forever()

    async def operate(self, key: str, operation: str) -> None:
        """Call an entity until it answers."""
        self.open += 1
        began = trio.current_time()
        attempts = 0
        try:
            while trio.current_time() < began + PATIENCE:
                attempts += 1
                attempt = f"{operation}.{attempts}"
                about = {"operation": operation, "attempt": attempt, "key": key}
                notes.note("called", **about)
                try:
                    found = await call(
                        ledgers.via(key), Add(operation, attempt), timeout=CALL_TIMEOUT
                    )
                except CallExit as error:
                    name, text = type(error).__name__, str(error)
                    notes.note(
                        "failed", **about, error=name, may_have_run=error.may_have_run, text=text
                    )
                    await trio.sleep(min(_PAUSE * 2 ** (attempts - 1), _LONGEST_PAUSE))
                else:
                    notes.note("answered", **about, count=found.count, fence=found.fence)
                    return
        finally:
            self.open -= 1
            if self.is_over and not self.open:
                self.has_ended.set()

    async def drain(self) -> None:
        """Begin no more operations, and wait for the end of the open ones."""
        self.is_over = True
        if self.open:
            await self.has_ended.wait()


class UserSocket(Socket):
    """A socket that no client uses."""

    log = None
    channels: ClassVar[dict[str, Any]] = {}


def _supervisor() -> EntitySupervisor:
    if redis_url is None:
        return EntitySupervisor("ledgers", Ledger)
    lease = float(os.environ.get("LEASE", "10"))
    arbiter = RedisArbiter(redis_url, lease=lease, renew_interval=lease / 4, margin=lease / 5)
    return EntitySupervisor("ledgers", Ledger, arbiter=arbiter)


ledgers = _supervisor()
callers = Callers()
endpoint = Endpoint(
    pubsub=None
    if redis_url is None
    else PubSub(RedisAdapter(redis_url, node_name=os.environ["NODE_NAME"])),
    sockets={"/socket": UserSocket},
    draining=Draining(timeout=30.0),
    histories=[history],
    # The callers drain first.
    children=[ledgers, callers],
)

if __name__ == "__main__":
    run_endpoint(endpoint)

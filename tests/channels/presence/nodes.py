"""Nodes with a presence each, joined in memory, for tests of presence."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import trio

from actors import Pid, Runtime, spawn, stop
from actors.instrumentation.telemetry import Event
from channels import Broadcast, PubSub
from channels.presence import Presence
from channels.pubsub.local import Fastlane
from channels.serializers.serializer import Codec
from channels.serializers.v2 import V2
from channels.testing import JoinedNodes
from supervision import Supervisor
from tests.channels.support import Mailbox

TOPIC = "room:1"
CODEC = Codec(V2(), bytes)


class Node:
    """A node with its own PubSub, presence and owners."""

    def __init__(self, nodes: JoinedNodes, name: str, presence: Presence, **adapter: Any) -> None:
        self.name = name
        self.pubsub = PubSub(nodes.adapter(name, **adapter))
        self.presence = presence

    async def start(self) -> None:
        children = [self.pubsub.child_spec(), self.presence.child_spec(self.pubsub)]
        self.supervisor = await Supervisor.start_link(children, label=self.name)

    async def stop(self) -> None:
        await stop(self.supervisor)

    def online(self, topic: str = TOPIC) -> list[str]:
        return sorted(self.presence.snapshot(topic))

    def joins(self, *keys: str, topic: str = TOPIC, **meta: Any) -> Pid:
        """Start a process that is present under keys."""
        pid = spawn(trio.sleep_forever)
        for key in keys:
            self.presence.track(topic, key, {"at": self.name, **meta}, pid=pid)
        return pid

    async def hears(self, topic: str = TOPIC) -> Mailbox:
        """Start a process that keeps what the clients of a topic get."""
        return await listener(self.pubsub, topic)

    async def child(self, name: str) -> Pid:
        """The process of the presence with this id: `tracker` or `announcer`."""
        return await child_of(self.supervisor, f"presence {self.presence.name}", name)


async def child_of(supervisor: Pid, *path: Any) -> Pid:
    """The process at a path of child ids."""
    pid = supervisor
    for name in path:
        (found,) = [each for each in await Supervisor.which_children(pid) if each.id == name]
        assert isinstance(found.pid, Pid), found
        pid = found.pid
    return pid


async def cluster(*names: str, **options: Any) -> tuple[JoinedNodes, list[Node]]:
    nodes = JoinedNodes()
    started = [Node(nodes, name, Presence(**options)) for name in names]
    for node in started:
        await node.start()
    await trio.sleep(2.0)
    return nodes, started


async def alone(presence: Presence) -> PubSub:
    """Start a presence on a node without others."""
    pubsub = PubSub()
    await Supervisor.start_link([presence.child_spec(pubsub)])
    return pubsub


async def listener(pubsub: PubSub, topic: str = TOPIC) -> Mailbox:
    """Start a client of a topic; its mailbox keeps the events that it gets as frames."""
    mailbox = Mailbox()
    lane = Fastlane(_Out(mailbox.messages), CODEC, frozenset())
    await mailbox.start(lambda: pubsub.subscribe(topic, metadata=lane))
    return mailbox


class _Out:
    """An out-buffer that reads its frames."""

    def __init__(self, messages: list[Any]) -> None:
        self.messages = messages

    def put(self, frame: bytes) -> None:
        _, _, topic, event, payload = json.loads(frame)
        self.messages.append(Broadcast(topic, event, payload))

    def put_latest(self, key: Any, frame: bytes) -> None:
        self.put(frame)

    def statistics(self) -> Any:
        return None


def diffs(messages: Sequence[Any]) -> list[tuple[list[str], list[str]]]:
    """The keys of the joins and leaves of each diff."""
    return [
        (sorted(each.payload["joins"]), sorted(each.payload["leaves"]))
        for each in messages
        if isinstance(each, Broadcast) and each.event == "presence_diff"
    ]


def payloads(mailbox: Mailbox, event: str) -> list[Any]:
    return [each.payload for each in mailbox.messages if each.event == event]


def listen(runtime: Runtime, event: Event) -> list[dict[str, Any]]:
    """Collect the metadata of an event from now on."""
    heard: list[dict[str, Any]] = []
    runtime.telemetry.attach(event, lambda _, __, about: heard.append(dict(about)))
    return heard


class Client:
    """The state of a topic in phoenix.js after the events so far: its `syncState` and `syncDiff`.

    As in phoenix.js, new metas come behind the old ones, so after a netsplit, the order can differ from the server's.
    """

    def __init__(self) -> None:
        self.metas: dict[str, list[str]] = {}
        self.count: int | None = None
        self.left: list[str] = []

    def hear(self, messages: Sequence[Any]) -> Client:
        for each in messages:
            if each.event == "presence_state":
                self._replace({key: _refs(entry) for key, entry in each.payload.items()})
            elif each.event == "presence_diff":
                self._apply(each.payload)
        return self

    def _replace(self, state: dict[str, list[str]]) -> None:
        known = self.metas
        joins = {
            key: [ref for ref in refs if ref not in known.get(key, ())]
            for key, refs in state.items()
        }
        leaves = {
            key: [ref for ref in refs if ref not in state.get(key, ())]
            for key, refs in known.items()
        }
        self._sync(joins, leaves)

    def _apply(self, diff: dict[str, Any]) -> None:
        self.count = diff.get("count", self.count)
        joins, leaves = (
            {key: _refs(entry) for key, entry in diff[side].items()} for side in ("joins", "leaves")
        )
        self._sync(joins, leaves)

    def _sync(self, joins: dict[str, list[str]], leaves: dict[str, list[str]]) -> None:
        for key, new in joins.items():
            self.metas[key] = [*(ref for ref in self.metas.get(key, ()) if ref not in new), *new]
        for key, left in leaves.items():
            rest = [ref for ref in self.metas.get(key, []) if ref not in left]
            if rest:
                self.metas[key] = rest
            elif self.metas.pop(key, None) is not None:
                self.left.append(key)


def _refs(entry: dict[str, Any]) -> list[str]:
    return [meta["phx_ref"] for meta in entry["metas"]]


def truth(presence: Presence, topic: str = TOPIC) -> dict[str, list[str]]:
    """The state that a client should have: the keys of a topic, with the refs of their metas."""
    return {
        key: [meta["phx_ref"] for meta in metas] for key, metas in presence.snapshot(topic).items()
    }

"""Presence over several nodes: everybody sees everybody, through crashes, netsplits and stops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import trio

from actors import Pid, Runtime, kill, spawn, stop
from channels import Broadcast, PubSub
from channels.presence import Presence
from channels.testing import JoinedNodes
from supervision import Supervisor
from tests.channels.support import Mailbox, settle

TOPIC = "room:1"


class Node:
    """A node with its own PubSub, presence and owners."""

    def __init__(self, nodes: JoinedNodes, name: str, **options: Any) -> None:
        self.name = name
        self.pubsub = PubSub(nodes.adapter(name))
        self.presence = Presence(**options)

    async def start(self) -> None:
        children = [self.pubsub.child_spec(), self.presence.child_spec(self.pubsub)]
        self.supervisor = await Supervisor.start_link(children, label=self.name)

    async def stop(self) -> None:
        await stop(self.supervisor)

    def online(self, topic: str = TOPIC) -> list[str]:
        return sorted(self.presence.snapshot(topic))

    def joins(self, *keys: str, topic: str = TOPIC) -> Pid:
        """Start a process that is present under keys."""
        pid = spawn(trio.sleep_forever)
        for key in keys:
            self.presence.track(topic, key, {"at": self.name}, pid=pid)
        return pid

    async def hears(self, topic: str = TOPIC) -> Mailbox:
        mailbox = Mailbox()
        await mailbox.start(lambda: self.pubsub.subscribe(topic))
        return mailbox


async def cluster(*names: str, **options: Any) -> tuple[JoinedNodes, list[Node]]:
    nodes = JoinedNodes()
    started = [Node(nodes, name, **options) for name in names]
    for node in started:
        await node.start()
    await trio.sleep(2.0)
    return nodes, started


def diffs(messages: Sequence[Any]) -> list[tuple[list[str], list[str]]]:
    return [
        (sorted(each.payload["joins"]), sorted(each.payload["leaves"]))
        for each in messages
        if isinstance(each, Broadcast) and each.event == "presence_diff"
    ]


async def test_presences_are_seen_on_every_node_within_moments(runtime: Runtime) -> None:
    _, (a, b, c) = await cluster("a", "b", "c")
    a.joins("ann")
    b.joins("bob")
    assert (a.online(), b.online()) == (["ann"], ["bob"])
    await trio.sleep(0.1)
    assert a.online() == b.online() == c.online() == ["ann", "bob"]
    assert c.presence.snapshot(TOPIC)["ann"][0]["at"] == "a"


async def test_the_end_of_an_owner_is_a_leave_everywhere(runtime: Runtime) -> None:
    _, (a, b) = await cluster("a", "b")
    heard = await b.hears()
    pid = a.joins("ann")
    await trio.sleep(0.1)
    kill(pid)
    await trio.sleep(0.1)
    assert a.online() == b.online() == []
    assert diffs(heard.messages) == [(["ann"], []), ([], ["ann"])]


async def test_a_new_node_learns_who_is_there(runtime: Runtime) -> None:
    nodes, (a, b) = await cluster("a", "b")
    for n in range(300):
        a.joins(f"user {n}")
    b.joins("bob")
    await trio.sleep(1.0)
    c = Node(nodes, "c")
    await c.start()
    await trio.sleep(2.0)
    assert len(c.online()) == 301
    assert c.online() == a.online() == b.online()


async def test_a_set_larger_than_a_message_travels_in_pages(runtime: Runtime) -> None:
    nodes, (a, b) = await cluster("a", "b")
    pid = spawn(trio.sleep_forever)
    for n in range(3_000):
        await trio.sleep(0.01)
        a.presence.track(TOPIC, f"user {n}", {"text": "x" * 300}, pid=pid)
    nodes.cut("a", "b")
    await trio.sleep(35)
    assert len(b.online()) == 0
    nodes.heal()
    await trio.sleep(5)
    assert len(b.online()) == 3_000
    c = Node(nodes, "c")
    await c.start()
    await trio.sleep(5)
    assert c.online() == a.online()


async def test_a_netsplit_hides_after_the_down_period_and_heals_without_ghosts(
    runtime: Runtime,
) -> None:
    nodes, (a, b) = await cluster("a", "b", down_period=10.0)
    ann, bob = a.joins("ann"), b.joins("bob")
    await trio.sleep(1.0)
    nodes.cut("a", "b")
    await trio.sleep(8.0)
    assert a.online() == b.online() == ["ann", "bob"]
    await trio.sleep(4.0)
    assert (a.online(), b.online()) == (["ann"], ["bob"])
    kill(bob)
    b.joins("eve")
    await trio.sleep(0.5)
    nodes.heal()
    await trio.sleep(3.0)
    assert a.online() == b.online() == ["ann", "eve"]
    kill(ann)
    await trio.sleep(0.5)
    assert a.online() == b.online() == ["eve"]


async def test_a_node_that_stops_takes_its_presences_with_it_at_once(runtime: Runtime) -> None:
    _, (a, b) = await cluster("a", "b")
    a.joins("ann")
    b.joins("bob")
    await trio.sleep(0.5)
    await b.stop()
    await settle()
    assert a.online() == ["ann"]


async def test_changes_just_before_a_stop_reach_the_others(runtime: Runtime) -> None:
    _, (a, b) = await cluster("a", "b", leave_grace=5.0)
    pid = b.joins("bob")
    await trio.sleep(0.5)
    b.presence.update(TOPIC, "bob", {"last": "words"}, pid=pid)
    await b.stop()
    await settle()
    assert a.presence.snapshot(TOPIC)["bob"][0]["last"] == "words"
    await trio.sleep(6.0)
    assert a.online() == []


async def test_a_lost_delta_is_made_up_for(runtime: Runtime) -> None:
    nodes, (a, b) = await cluster("a", "b")
    nodes.loses = lambda *_: True
    ann = a.joins("ann")
    a.joins("amy")
    await trio.sleep(0.2)
    kill(ann)
    await trio.sleep(0.2)
    nodes.loses = lambda *_: False
    await trio.sleep(3.0)
    assert b.online() == ["amy"]


async def test_a_restarted_node_replaces_its_former_presences(runtime: Runtime) -> None:
    nodes, (a, b) = await cluster("a", "b")
    b.joins("bob")
    await trio.sleep(0.5)
    nodes.isolate("b")
    await b.stop()
    nodes.heal()
    again = Node(nodes, "b")
    await again.start()
    again.joins("ben")
    await trio.sleep(2.0)
    assert a.online() == again.online() == ["ben"]


async def test_somebody_who_rejoins_within_the_grace_never_leaves(runtime: Runtime) -> None:
    _, (a, b) = await cluster("a", "b", leave_grace=5.0)
    heard = await b.hears()
    first = a.joins("ann")
    await trio.sleep(1.0)
    kill(first)
    await trio.sleep(3.0)
    assert a.online() == b.online() == ["ann"]
    a.joins("ann")
    await trio.sleep(6.0)
    assert a.online() == b.online() == ["ann"]
    assert diffs(heard.messages) == [(["ann"], []), (["ann"], ["ann"])]
    assert len(b.presence.snapshot(TOPIC)["ann"]) == 1


async def test_somebody_who_rejoins_on_another_node_never_leaves(runtime: Runtime) -> None:
    _, (a, b, c) = await cluster("a", "b", "c", leave_grace=5.0)
    heard = await c.hears()
    a.joins("ann")
    await trio.sleep(1.0)
    await a.stop()
    await trio.sleep(1.0)
    b.joins("ann")
    await trio.sleep(10.0)
    assert c.online() == ["ann"]
    assert diffs(heard.messages) == [(["ann"], []), (["ann"], ["ann"])]


async def test_changes_within_the_interval_are_one_diff(runtime: Runtime) -> None:
    _, (a, b) = await cluster("a", "b", interval=1.0)
    here, there = await a.hears(), await b.hears()
    for n in range(10):
        a.joins(f"user {n}")
        await trio.sleep(0.01)
    await trio.sleep(3.0)
    for heard in (here, there):
        seen = diffs(heard.messages)
        assert len(seen) == 2
        assert sorted(key for joins, _ in seen for key in joins) == a.online()


async def test_a_tracker_that_crashes_forgets_nobody(runtime: Runtime) -> None:
    _, (a, b) = await cluster("a", "b")
    ann = a.joins("ann")
    await trio.sleep(0.5)
    tracking = a.presence._tracking
    assert tracking is not None
    assert tracking.tracker is not None
    kill(tracking.tracker)
    await settle()
    assert a.online() == b.online() == ["ann"]
    a.joins("amy")
    kill(ann)
    await trio.sleep(1.0)
    assert a.online() == b.online() == ["amy"]


async def test_an_owner_of_another_node_is_a_text(runtime: Runtime) -> None:
    _, (a, b) = await cluster("a", "b")
    a.joins("ann")
    await trio.sleep(0.5)
    (entry,) = b.presence.snapshot(TOPIC).entries("ann")
    assert isinstance(entry.owner, str)

"""The announcer process: what clients get, and when, whatever the application's callbacks do."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import pytest
import trio

from actors import Pid, Runtime, kill, spawn
from actors.process import current_pid
from channels import Broadcast, PubSub
from channels.messages import Binary
from channels.presence import Presence, Presences, Snapshot
from channels.presence.delta import Entry
from channels.presence.diff import Diff
from channels.telemetry import PRESENCE_CALLBACK_FAILED
from supervision import Supervisor
from tests.channels.presence.nodes import (
    TOPIC,
    Client,
    alone,
    child_of,
    cluster,
    diffs,
    listen,
    listener,
    payloads,
    truth,
)
from tests.channels.support import settle


def joins(presence: Presence, *keys: str, topic: str = TOPIC) -> Pid:
    pid = spawn(trio.sleep_forever)
    for key in keys:
        presence.track(topic, key, pid=pid)
    return pid


# Diffs and their order


async def test_the_first_change_goes_out_at_once_and_the_next_ones_together(
    runtime: Runtime,
) -> None:
    presence = Presence(interval=1.0)
    heard = await listener(await alone(presence))
    joins(presence, "ann")
    await settle()
    assert diffs(heard.messages) == [(["ann"], [])]
    bob = joins(presence, "bob")
    joins(presence, "eve")
    await trio.sleep(0.9)
    assert len(heard.messages) == 1
    kill(bob)
    await trio.sleep(0.2)
    assert diffs(heard.messages) == [(["ann"], []), (["eve"], [])]


async def test_the_diffs_of_a_topic_reach_only_its_clients(runtime: Runtime) -> None:
    presence = Presence()
    pubsub = await alone(presence)
    heard, other = await listener(pubsub), await listener(pubsub, "room:2")
    joins(presence, "ann")
    joins(presence, "bob", topic="room:2")
    await trio.sleep(1.0)
    assert diffs(heard.messages) == [(["ann"], [])]
    assert diffs(other.messages) == [(["bob"], [])]


async def test_an_interval_of_nothing_announces_every_turn(runtime: Runtime) -> None:
    presence = Presence(interval=0.0)
    heard = await listener(await alone(presence))
    for key in ("ann", "bob"):
        joins(presence, key)
        await settle()
    assert diffs(heard.messages) == [(["ann"], []), (["bob"], [])]


async def test_a_large_diff_goes_out_in_parts_that_keep_both_sides_of_a_key(
    runtime: Runtime,
) -> None:
    presence = Presence(interval=1.0, max_calls_per_second=float("inf"))
    heard = await listener(await alone(presence))
    pid = joins(presence, *(f"user {n}" for n in range(2_500)))
    await trio.sleep(0.5)
    assert [len(part[0]) for part in diffs(heard.messages)] == [1_000, 1_000, 500]
    heard.messages.clear()
    for n in range(2_500):
        presence.update(TOPIC, f"user {n}", {"n": n}, pid=pid)
    await trio.sleep(1.5)
    found = diffs(heard.messages)
    assert [len(joined) for joined, _ in found] == [1_000, 1_000, 500]
    assert all(joined == left for joined, left in found)


async def test_others_run_between_the_parts_of_a_large_diff(runtime: Runtime) -> None:
    presence = Presence(interval=1.0, max_calls_per_second=float("inf"))
    heard = await listener(await alone(presence))
    seen: list[int] = []

    async def other() -> None:
        while True:
            seen.append(len(heard.messages))
            await trio.lowlevel.checkpoint()

    joins(presence, *(f"user {n}" for n in range(5_000)))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        while len(heard.messages) < 5:
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    assert all(after - before <= 2 for before, after in itertools.pairwise(seen))


async def test_a_reader_of_a_withdrawn_change_gets_a_correction(runtime: Runtime) -> None:
    presence = Presence(interval=1.0)
    pubsub = await alone(presence)
    heard = await listener(pubsub)
    joins(presence, "ann")
    await settle()
    bob = joins(presence, "bob")
    state = await presence.list(TOPIC)
    client = Client().hear([Broadcast(TOPIC, "presence_state", state)])
    heard.messages.clear()
    kill(bob)
    await trio.sleep(2.0)
    assert list(client.hear(heard.messages).metas) == ["ann"]


async def test_the_same_ref_in_joins_and_leaves_stays_present_for_phoenix_js(
    runtime: Runtime,
) -> None:
    # A node whose clock was set back begins a newer incarnation with the presences that it has.
    _, (a, b) = await cluster("a", "b", interval=0.5)
    heard = await b.hears()
    a.joins("ann")
    await trio.sleep(1.0)
    tracking = a.presence._tracking
    assert tracking is not None
    tracking.roster.renew(tracking.roster.state.incarnation + 1)
    await trio.sleep(3.0)
    assert Client().hear(heard.messages).metas == truth(b.presence) == truth(a.presence)
    assert list(truth(b.presence)) == ["ann"]


# fetch


class Fetching(Presence):
    """A presence whose fetch takes a time for each topic, and fails for some."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.seconds: dict[str, float] = {}
        self.fails: dict[str, Any] = {}
        self.calls: list[tuple[str, list[str]]] = []
        self.running = self.most = 0
        self.fetchers: set[Pid] = set()

    async def fetch(self, topic: str, presences: Presences) -> Presences:
        self.calls.append((topic, list(presences)))
        self.fetchers.add(current_pid())
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await trio.sleep(self.seconds.get(topic, 0.0))
        finally:
            self.running -= 1
        failure = self.fails.get(topic)
        if isinstance(failure, Exception):
            raise failure
        added = {} if failure is None else {"added": failure}
        return {key: {**entry, "n": len(presences), **added} for key, entry in presences.items()}


async def test_fetch_gets_all_joins_of_a_diff_at_once_and_all_leaves(runtime: Runtime) -> None:
    presence = Fetching(interval=1.0)
    heard = await listener(await alone(presence))
    joins(presence, "ann")
    await settle()
    bob = joins(presence, "bob", "ben")
    await trio.sleep(1.5)
    kill(bob)
    joins(presence, "eve")
    await trio.sleep(1.5)
    assert presence.calls == [
        (TOPIC, ["ann"]),
        (TOPIC, ["bob", "ben"]),
        (TOPIC, ["eve"]),
        (TOPIC, ["bob", "ben"]),
    ]
    last = payloads(heard, "presence_diff")[-1]
    assert {entry["n"] for entry in last["leaves"].values()} == {2}


async def test_fetch_runs_in_a_process_of_the_presence_and_not_in_a_channels(
    runtime: Runtime,
) -> None:
    presence, pubsub = Fetching(), PubSub()
    spec = presence.child_spec(pubsub)
    supervisor = await Supervisor.start_link([spec])
    await listener(pubsub)
    joins(presence, "ann")
    await settle()
    assert presence.fetchers == {await child_of(supervisor, spec.id, "announcer")}


async def test_a_slow_fetch_delays_only_its_own_topic(runtime: Runtime) -> None:
    presence = Fetching()
    pubsub = await alone(presence)
    slow, quick = await listener(pubsub, "slow"), await listener(pubsub, "quick")
    presence.seconds["slow"] = 4.0
    joins(presence, "ann", topic="slow")
    await settle()
    for key in ("bob", "eve"):
        joins(presence, key, topic="slow")
        joins(presence, key, topic="quick")
        await trio.sleep(1.0)
    assert diffs(slow.messages) == []
    assert diffs(quick.messages) == [(["bob"], []), (["eve"], [])]
    await trio.sleep(10.0)
    assert diffs(slow.messages) == [(["ann"], []), (["bob", "eve"], [])]


async def test_the_fetches_that_run_at_a_time_are_bounded(runtime: Runtime) -> None:
    presence = Fetching(max_fetches=3)
    pubsub = await alone(presence)
    heard = [await listener(pubsub, f"room:{n}") for n in range(10)]
    for n in range(10):
        presence.seconds[f"room:{n}"] = 1.0
        joins(presence, "ann", topic=f"room:{n}")
    await trio.sleep(10.0)
    assert presence.most == 3
    assert all(diffs(each.messages) == [(["ann"], [])] for each in heard)


async def test_a_fetch_that_nobody_needs_does_not_run(runtime: Runtime) -> None:
    presence = Fetching()
    await alone(presence)
    joins(presence, "ann")
    await trio.sleep(1.0)
    assert presence.calls == []


@pytest.mark.parametrize(
    ("failure", "seconds"),
    [(LookupError("no database"), 0.0), (Binary(b"x"), 0.0), (None, 60.0)],
    ids=["raises", "adds what JSON cannot express", "hangs"],
)
async def test_clients_that_miss_a_diff_get_everybody_with_the_next_change(
    runtime: Runtime, failure: Any, seconds: float
) -> None:
    presence = Fetching(callback_timeout=2.0)
    heard = await listener(await alone(presence))
    failed = listen(runtime, PRESENCE_CALLBACK_FAILED)
    ann = joins(presence, "ann")
    await trio.sleep(1.0)
    presence.fails[TOPIC], presence.seconds[TOPIC] = failure, seconds
    joins(presence, "bob")
    kill(ann)
    await trio.sleep(3.0)
    assert diffs(heard.messages) == [(["ann"], [])]
    assert presence.statistics()["callbacks_failed"] == len(failed) > 0
    assert {(each["callback"], each["topic"]) for each in failed} == {("fetch", TOPIC)}
    presence.fails.clear()
    presence.seconds.clear()
    joins(presence, "eve")
    await trio.sleep(3.0)
    (state,) = payloads(heard, "presence_state")
    assert sorted(state) == ["bob", "eve"]
    assert Client().hear(heard.messages).metas == truth(presence)
    joins(presence, "ann")
    await trio.sleep(3.0)
    assert diffs(heard.messages)[-1] == (["ann"], [])


async def test_a_change_that_is_undone_at_once_is_no_next_change_for_clients_that_miss_a_diff(
    runtime: Runtime,
) -> None:
    presence = Fetching()
    heard = await listener(await alone(presence))
    joins(presence, "ann")
    await trio.sleep(1.0)
    presence.fails[TOPIC] = LookupError("no database")
    joins(presence, "bob")
    await trio.sleep(1.0)
    presence.fails.clear()
    presence.untrack(TOPIC, "eve", pid=joins(presence, "eve"))
    await trio.sleep(1.0)
    assert payloads(heard, "presence_state") == []
    joins(presence, "eve")
    await trio.sleep(1.0)
    assert Client().hear(heard.messages).metas == truth(presence)


async def test_clients_that_miss_the_last_leave_of_a_topic_are_told_that_it_is_empty(
    runtime: Runtime,
) -> None:
    presence = Fetching()
    heard = await listener(await alone(presence))
    ann = joins(presence, "ann")
    await trio.sleep(1.0)
    presence.fails[TOPIC] = LookupError("no database")
    kill(ann)
    await trio.sleep(1.0)
    assert payloads(heard, "presence_state") == [{}]
    assert presence.statistics()["counted_topics"] == 0


async def test_a_fetch_that_fails_for_ever_costs_no_channel_and_little_memory(
    runtime: Runtime,
) -> None:
    presence = Fetching()
    pubsub = await alone(presence)
    heard = [await listener(pubsub, f"room:{n}") for n in range(20)]
    pids = []
    for n in range(20):
        presence.fails[f"room:{n}"] = LookupError("no database")
        pids.append(joins(presence, "ann", topic=f"room:{n}"))
    await trio.sleep(1.0)
    assert presence.statistics()["presences"] == 20
    for pid in pids:
        kill(pid)
    await trio.sleep(1.0)
    sizes = presence.statistics()
    assert (sizes["presences"], sizes["counted_topics"], sizes["waiting_diffs"]) == (0, 0, 0)
    assert all(Client().hear(each.messages).metas == {} for each in heard)


async def test_somebody_who_comes_and_goes_while_fetch_hangs_takes_no_memory(
    runtime: Runtime,
) -> None:
    presence = Fetching(callback_timeout=100.0)
    await listener(await alone(presence))
    presence.seconds[TOPIC] = 50.0
    joins(presence, "ann")
    await settle()
    for n in range(100):
        pid = joins(presence, f"user {n}")
        kill(pid)
        await trio.sleep(0.1)
    assert presence._tracking is not None
    assert len(presence._tracking.roster.diffs) == 0


async def test_a_dispatcher_that_raises_is_reported_like_a_fetch(runtime: Runtime) -> None:
    def dispatcher(subscriptions: Any, sender: Pid | None, message: Any) -> None:
        raise LookupError("not today")

    presence = Presence(dispatcher=dispatcher)
    await listener(await alone(presence))
    joins(presence, "ann")
    await trio.sleep(1.0)
    assert presence.statistics()["callbacks_failed"] == 1
    assert list(presence.snapshot(TOPIC)) == ["ann"]


# Counted topics


async def test_a_topic_that_grows_and_shrinks_changes_between_list_and_count(
    runtime: Runtime,
) -> None:
    presence = Presence(counted_from=4)
    heard = await listener(await alone(presence))
    pids = []
    for n in range(5):
        pids.append(joins(presence, f"user {n}"))
        await trio.sleep(0.2)
    known = Client().hear(heard.messages)
    assert (known.metas, known.count) == ({}, 5)
    assert payloads(heard, "presence_state") == [{}]
    heard.messages.clear()
    for pid in pids[:3]:
        kill(pid)
        await trio.sleep(0.2)
    counts = [diff.get("count") for diff in payloads(heard, "presence_diff")]
    assert counts == [4, 3]
    known.hear(heard.messages)
    assert known.metas == truth(presence)
    assert sorted(known.metas) == ["user 3", "user 4"]
    kill(pids[3])
    await trio.sleep(0.2)
    assert known.hear(heard.messages).metas == truth(presence)


async def test_a_function_that_cannot_say_if_a_topic_is_counted_means_that_it_is(
    runtime: Runtime,
) -> None:
    def fails(topic: str) -> bool:
        raise LookupError(topic)

    presence = Presence(counted=fails)
    heard = await listener(await alone(presence))
    joins(presence, "ann")
    await trio.sleep(1.0)
    assert payloads(heard, "presence_diff") == [{"joins": {}, "leaves": {}, "count": 1}]
    assert presence.statistics()["callbacks_failed"] >= 1


# handle_metas


class Watching(Presence):
    """A presence that notes what handle_metas gets."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.seen: list[tuple[str, list[str], list[str], dict[str, int], Any]] = []
        self.act: Any = None

    async def init(self) -> Any:
        return 0

    async def handle_metas(
        self, topic: str, diff: Mapping[str, Presences], presences: Snapshot, state: Any
    ) -> Any:
        here = {key: len(metas) for key, metas in presences.items()}
        self.seen.append((topic, sorted(diff["joins"]), sorted(diff["leaves"]), here, state))
        if self.act == "hang":
            await trio.sleep_forever()
        if self.act is not None:
            raise self.act
        return state + 1


async def test_handle_metas_gets_each_diff_with_everybody_after_it_and_keeps_a_state(
    runtime: Runtime,
) -> None:
    presence = Watching()
    await alone(presence)
    ann = joins(presence, "ann")
    await trio.sleep(1.0)
    bob = joins(presence, "bob")
    await trio.sleep(1.0)
    again = joins(presence, "ann")
    await trio.sleep(1.0)
    presence.update(TOPIC, "ann", {"n": 1}, pid=again)
    await trio.sleep(1.0)
    kill(ann)
    await trio.sleep(1.0)
    kill(bob)
    await trio.sleep(1.0)
    kill(again)
    await trio.sleep(1.0)
    assert presence.seen == [
        (TOPIC, ["ann"], [], {"ann": 1}, 0),
        (TOPIC, ["bob"], [], {"ann": 1, "bob": 1}, 1),
        (TOPIC, ["ann"], [], {"ann": 2, "bob": 1}, 2),
        (TOPIC, ["ann"], ["ann"], {"ann": 2, "bob": 1}, 3),
        (TOPIC, [], ["ann"], {"ann": 1, "bob": 1}, 4),
        (TOPIC, [], ["bob"], {"ann": 1}, 5),
        (TOPIC, [], ["ann"], {}, 6),
    ]


async def test_metas_of_other_versions_reach_handle_metas_without_a_ref(runtime: Runtime) -> None:
    presence = Watching(interval=1.0)
    await alone(presence)
    joins(presence, "ann")
    await settle()
    tracking = presence._tracking
    assert tracking is not None
    odd = [Entry("other", TOPIC, key, key, {"phx_ref": ["x"]}) for key in ("bob", "eve", "joe")]
    del odd[0].meta["phx_ref"]
    tracking.roster.diffs.add(Diff(joins=odd))
    tracking.roster.snapshots.apply(Diff(joins=odd))
    # A reader has seen them, so clients get both changes of those that leave.
    tracking.roster.diffs.note_read(TOPIC)
    tracking.roster.diffs.add(Diff(leaves=odd[:2]))
    tracking.roster.snapshots.apply(Diff(leaves=odd[:2]))
    tracking.note_change()
    await trio.sleep(2.0)
    here = {"ann": 1, "joe": 1}
    assert presence.seen[-1] == (TOPIC, ["joe"], ["bob", "eve"], here, 1)
    assert presence.statistics()["callbacks_failed"] == 0
    joins(presence, "amy")
    await trio.sleep(2.0)
    assert presence.seen[-1] == (TOPIC, ["amy"], [], {**here, "amy": 1}, 2)


async def test_handle_metas_sees_the_topic_as_it_was_after_the_diff(runtime: Runtime) -> None:
    class Slow(Watching):
        async def fetch(self, topic: str, presences: Presences) -> Presences:
            await trio.sleep(1.0)
            return presences

    presence = Slow()
    await alone(presence)
    ann = joins(presence, "ann")
    await trio.sleep(0.5)
    kill(ann)
    joins(presence, "bob")
    await trio.sleep(5.0)
    assert presence.seen == [
        (TOPIC, ["ann"], [], {"ann": 1}, 0),
        (TOPIC, ["bob"], ["ann"], {"bob": 1}, 1),
    ]


@pytest.mark.parametrize("act", [LookupError("not today"), "hang"], ids=["raises", "hangs"])
async def test_a_handle_metas_that_fails_keeps_its_state_and_costs_no_diff(
    runtime: Runtime, act: Any
) -> None:
    presence = Watching(callback_timeout=2.0)
    heard = await listener(await alone(presence))
    presence.act = act
    joins(presence, "ann")
    await trio.sleep(3.0)
    presence.act = None
    joins(presence, "bob")
    await trio.sleep(3.0)
    assert diffs(heard.messages) == [(["ann"], []), (["bob"], [])]
    assert [state for *_, state in presence.seen] == [0, 0]
    assert presence.statistics()["callbacks_failed"] == 1


async def test_handle_metas_of_several_topics_do_not_overlap(runtime: Runtime) -> None:
    class Exclusive(Presence):
        most = running = 0

        async def init(self) -> Any:
            return ()

        async def handle_metas(
            self, topic: str, diff: Mapping[str, Presences], presences: Snapshot, state: Any
        ) -> Any:
            self.running += 1
            self.most = max(self.most, self.running)
            await trio.sleep(0.1)
            self.running -= 1
            return (*state, topic)

    presence = Exclusive()
    await alone(presence)
    for n in range(5):
        joins(presence, "ann", topic=f"room:{n}")
    await trio.sleep(3.0)
    assert presence.most == 1
    assert presence._tracking is not None
    assert sorted(presence._tracking.metas_state) == [f"room:{n}" for n in range(5)]


async def test_without_an_init_the_state_of_handle_metas_begins_as_none(runtime: Runtime) -> None:
    class Plain(Presence):
        states: Any = ()

        async def handle_metas(
            self, topic: str, diff: Mapping[str, Presences], presences: Snapshot, state: Any
        ) -> Any:
            self.states = (*self.states, state)
            return len(self.states)

    presence = Plain()
    await alone(presence)
    for key in ("ann", "bob"):
        joins(presence, key)
        await trio.sleep(1.0)
    assert presence.states == (None, 1)


# A crash of the process


async def test_clients_are_in_step_again_after_a_crash_in_the_middle_of_a_diff(
    runtime: Runtime,
) -> None:
    presence, pubsub = Fetching(), PubSub()
    spec = presence.child_spec(pubsub)
    supervisor = await Supervisor.start_link([spec])
    heard, other = await listener(pubsub), await listener(pubsub, "room:2")
    ann = joins(presence, "ann")
    joins(presence, "ann", topic="room:2")
    await trio.sleep(1.0)
    presence.seconds[TOPIC] = 3.0
    kill(ann)
    joins(presence, "bob")
    await trio.sleep(1.0)
    kill(await child_of(supervisor, spec.id, "announcer"))
    joins(presence, "eve")
    await trio.sleep(10.0)
    assert Client().hear(heard.messages).metas == truth(presence)
    assert sorted(truth(presence)) == ["bob", "eve"]
    assert len(payloads(heard, "presence_state")) == 1
    assert payloads(other, "presence_state") == []


async def test_topics_stay_counted_and_handle_metas_keeps_its_state_through_a_crash(
    runtime: Runtime,
) -> None:
    presence, pubsub = Watching(counted_from=2), PubSub()
    spec = presence.child_spec(pubsub)
    supervisor = await Supervisor.start_link([spec])
    heard = await listener(pubsub)
    pids = [joins(presence, f"user {n}") for n in range(3)]
    await trio.sleep(1.0)
    kill(await child_of(supervisor, spec.id, "announcer"))
    await trio.sleep(1.0)
    for pid in pids[:2]:
        kill(pid)
    await trio.sleep(1.0)
    assert Client().hear(heard.messages).metas == truth(presence)
    assert list(truth(presence)) == ["user 2"]
    assert presence.seen[-1][-1] == 1


# Other nodes


async def test_each_node_announces_to_its_own_clients_only(runtime: Runtime) -> None:
    _, (a, b) = await cluster("a", "b")
    heard = [await node.hears() for node in (a, b)]
    a.joins("ann")
    await trio.sleep(1.0)
    assert [diffs(each.messages) for each in heard] == [[(["ann"], [])]] * 2

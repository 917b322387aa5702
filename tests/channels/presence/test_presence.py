"""The calls of a presence: tracking, reading, what clients get, and mistakes."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Mapping
from typing import Any

import pytest
import trio

from actors import (
    InvalidArgument,
    InvalidOperation,
    Pid,
    Runtime,
    StartError,
    kill,
    open_runtime,
    send,
    spawn,
    stop,
    wait_exit,
)
from actors.errors import InvalidOption, WrongThread
from actors.process import current_pid
from channels import Channel, EncodeError, Endpoint, PubSub, PushReply, Socket, handle_in
from channels.presence import AlreadyTracked, NotTracked, Presence, Presences, TooManyCalls
from channels.presence.presence import MOST_META_BYTES
from channels.presence.wire import MAX_TEXT
from channels.pubsub.local import Subscription
from channels.telemetry import PRESENCE_CALLS_REFUSED
from channels.testing import ANYTHING, open_channel_test
from supervision import Supervisor, render
from tests.channels.presence.nodes import (
    TOPIC,
    Client,
    alone,
    child_of,
    diffs,
    listen,
    listener,
    payloads,
    truth,
)
from tests.channels.support import settle


def owner() -> Pid:
    return spawn(trio.sleep_forever)


# Tracking


async def test_a_tracked_key_is_listed_at_once_with_its_metadata_and_a_ref(
    runtime: Runtime,
) -> None:
    presence = Presence()
    await alone(presence)
    ref = presence.track(TOPIC, "ann", {"device": "phone"}, pid=owner())
    assert await presence.list(TOPIC) == {"ann": {"metas": [{"device": "phone", "phx_ref": ref}]}}
    assert len(ref) == 16


async def test_a_number_as_key_becomes_text_and_shares_the_entry_of_that_text(
    runtime: Runtime,
) -> None:
    presence = Presence()
    await alone(presence)
    presence.track(TOPIC, 7, pid=owner())
    presence.track(TOPIC, "7", pid=owner())
    listed = await presence.list(TOPIC)
    assert list(listed) == ["7"]
    assert len(listed["7"]["metas"]) == 2


async def test_the_current_process_is_tracked_by_default_until_it_ends(runtime: Runtime) -> None:
    presence = Presence()
    await alone(presence)
    go = trio.Event()

    async def work() -> None:
        presence.track(TOPIC, "ann")
        await go.wait()

    pid = spawn(work)
    await settle()
    assert "ann" in presence.snapshot(TOPIC)
    go.set()
    await wait_exit(pid)
    await settle()
    assert presence.snapshot(TOPIC).get("ann") == ()
    assert presence.statistics()["topics"] == 0


async def test_a_process_that_has_ended_already_is_present_only_for_a_moment(
    runtime: Runtime,
) -> None:
    presence = Presence()
    await alone(presence)
    pid = owner()
    kill(pid)
    await wait_exit(pid)
    presence.track(TOPIC, "ann", pid=pid)
    await settle()
    assert len(presence.snapshot(TOPIC)) == 0


async def test_an_owner_that_is_no_pid_of_this_runtime_is_refused_and_changes_nothing(
    runtime: Runtime,
) -> None:
    presence = Presence(max_calls_per_second=2.0)
    await alone(presence)
    calls: list[Any] = [
        lambda: presence.track(TOPIC, "ann", pid="room-1"),  # type: ignore[arg-type]
        lambda: presence.untrack(TOPIC, "ann", pid="room-1"),  # type: ignore[arg-type]
        lambda: presence.untrack_all(pid="room-1"),  # type: ignore[arg-type]
        lambda: presence.update(TOPIC, "ann", {}, pid="room-1"),  # type: ignore[arg-type]
    ]
    for call in calls:
        with pytest.raises(InvalidArgument) as refused:
            call()
        assert refused.value.value == "room-1"
    foreign: list[Pid] = []

    async def elsewhere() -> None:
        async with open_runtime():
            foreign.append(owner())
            here.set()
            await trio.to_thread.run_sync(done.wait)

    here, done = threading.Event(), threading.Event()
    thread = threading.Thread(target=trio.run, args=(elsewhere,))
    thread.start()
    try:
        await trio.to_thread.run_sync(here.wait)
        with pytest.raises(WrongThread):
            presence.track(TOPIC, "ann", pid=foreign[0])
    finally:
        done.set()
        await trio.to_thread.run_sync(thread.join)
    assert len(presence.snapshot(TOPIC)) == 0
    assert presence.statistics()["presences"] == 0


async def test_the_same_metadata_again_changes_nothing_and_other_metadata_is_an_error(
    runtime: Runtime,
) -> None:
    presence = Presence()
    pubsub = await alone(presence)
    heard = await listener(pubsub)
    pid = owner()
    ref = presence.track(TOPIC, "ann", {"on": (1, 2)}, pid=pid)
    await trio.sleep(1.0)
    assert presence.track(TOPIC, "ann", {"on": [1, 2]}, pid=pid) == ref
    with pytest.raises(AlreadyTracked) as caught:
        presence.track(TOPIC, "ann", {"on": 3}, pid=pid)
    assert (caught.value.owner, caught.value.topic, caught.value.key) == (pid, TOPIC, "ann")
    await trio.sleep(1.0)
    assert diffs(heard.messages) == [(["ann"], [])]


async def test_an_update_replaces_the_metadata_and_names_the_ref_before(runtime: Runtime) -> None:
    presence = Presence()
    pubsub = await alone(presence)
    heard = await listener(pubsub)
    pid = owner()
    first = presence.track(TOPIC, "ann", {"n": 1, "old": True}, pid=pid)
    await trio.sleep(1.0)
    second = presence.update(TOPIC, "ann", {"n": 2}, pid=pid)
    await trio.sleep(1.0)
    new = {"n": 2, "phx_ref": second, "phx_ref_prev": first}
    assert payloads(heard, "presence_diff")[1] == {
        "joins": {"ann": {"metas": [new]}},
        "leaves": {"ann": {"metas": [{"n": 1, "old": True, "phx_ref": first}]}},
    }
    assert await presence.get_by_key(TOPIC, "ann") == {"metas": [new]}


async def test_an_update_can_be_a_function_of_the_present_metadata(runtime: Runtime) -> None:
    presence = Presence()
    await alone(presence)
    pid = owner()
    ref = presence.track(TOPIC, "ann", {"seen": [1]}, pid=pid)
    got: list[Any] = []

    def change(meta: dict[str, Any]) -> dict[str, Any]:
        got.append(dict(meta))
        meta["seen"].append(2)
        return meta

    presence.update(TOPIC, "ann", change, pid=pid)
    assert got == [{"seen": [1, 2], "phx_ref": ref}]
    (meta,) = presence.snapshot(TOPIC)["ann"]
    assert meta["seen"] == [1, 2]
    assert meta["phx_ref"] != ref


async def test_an_update_by_a_function_sends_both_sides_and_the_ref_before(
    runtime: Runtime,
) -> None:
    presence = Presence()
    heard = await listener(await alone(presence))
    pid = owner()
    first = presence.track(TOPIC, "ann", {"n": 1}, pid=pid)
    await trio.sleep(1.0)
    second = presence.update(TOPIC, "ann", lambda meta: {"n": meta["n"] + 1}, pid=pid)
    await trio.sleep(1.0)
    assert payloads(heard, "presence_diff")[1] == {
        "joins": {"ann": {"metas": [{"n": 2, "phx_ref": second, "phx_ref_prev": first}]}},
        "leaves": {"ann": {"metas": [{"n": 1, "phx_ref": first}]}},
    }


async def test_an_update_with_the_same_metadata_sends_no_diff(runtime: Runtime) -> None:
    presence = Presence()
    pubsub = await alone(presence)
    heard = await listener(pubsub)
    pid = owner()
    ref = presence.track(TOPIC, "ann", {"n": 1}, pid=pid)
    await trio.sleep(1.0)
    assert presence.update(TOPIC, "ann", lambda meta: meta, pid=pid) == ref
    await trio.sleep(1.0)
    assert diffs(heard.messages) == [(["ann"], [])]


async def test_an_update_of_nobody_is_an_error(runtime: Runtime) -> None:
    presence = Presence()
    await alone(presence)
    presence.track(TOPIC, "ann", pid=owner())
    with pytest.raises(NotTracked) as refused:
        presence.update(TOPIC, "ann", {}, pid=owner())
    assert refused.value.key == "ann"


async def test_an_update_whose_function_fails_changes_nothing(runtime: Runtime) -> None:
    presence = Presence()
    await alone(presence)
    pid = owner()
    ref = presence.track(TOPIC, "ann", {"n": 1}, pid=pid)

    def fails(meta: dict[str, Any]) -> dict[str, Any]:
        meta["n"] = 2
        raise LookupError("not today")

    with pytest.raises(LookupError):
        presence.update(TOPIC, "ann", fails, pid=pid)
    assert presence.snapshot(TOPIC)["ann"] == ({"n": 1, "phx_ref": ref},)


async def test_untrack_removes_one_key_and_untrack_all_the_rest(runtime: Runtime) -> None:
    presence = Presence()
    pubsub = await alone(presence)
    heard = await listener(pubsub)
    pid = owner()
    for key in ("ann", "amy", "abe"):
        presence.track(TOPIC, key, pid=pid)
    presence.track("room:2", "ann", pid=pid)
    presence.untrack(TOPIC, "ann", pid=pid)
    assert sorted(presence.snapshot(TOPIC)) == ["abe", "amy"]
    await trio.sleep(1.0)
    presence.untrack_all(pid=pid)
    assert presence.statistics()["presences"] == 0
    await trio.sleep(1.0)
    assert diffs(heard.messages) == [(["abe", "amy"], []), ([], ["abe", "amy"])]


async def test_untracking_nobody_does_nothing(runtime: Runtime) -> None:
    presence = Presence()
    pubsub = await alone(presence)
    heard = await listener(pubsub)
    presence.untrack(TOPIC, "ann", pid=owner())
    presence.untrack_all(pid=owner())
    await trio.sleep(1.0)
    assert heard.messages == []


async def test_the_metadata_is_a_copy_in_the_form_that_json_gives_it(runtime: Runtime) -> None:
    presence = Presence()
    await alone(presence)
    given = {"at": dt.date(2026, 1, 2), "tags": ("a",), "phx_ref": "mine", "deep": {"n": 1}}
    ref = presence.track(TOPIC, "ann", given, pid=owner())
    given["deep"]["n"] = 2  # type: ignore[index]
    after = {"at": "2026-01-02", "tags": ["a"], "phx_ref": ref, "deep": {"n": 1}}
    assert presence.snapshot(TOPIC)["ann"] == (after,)


async def test_what_a_reader_does_with_its_list_changes_nothing(runtime: Runtime) -> None:
    presence = Presence()
    await alone(presence)
    presence.track(TOPIC, "ann", {"n": 1}, pid=owner())
    listed = await presence.list(TOPIC)
    listed["ann"]["metas"][0]["n"] = 2
    listed.clear()
    assert presence.snapshot(TOPIC)["ann"][0]["n"] == 1


@pytest.mark.parametrize(
    ("meta", "problem"),
    [
        (["a"], "its metadata is of type list, not a JSON object; write a dict"),
        ({"a": object()}, "object"),
        ({"a": "\ud800"}, "surrogates"),
        ({"a": "x" * 20_000}, "its metadata has 20008 bytes, and the limit is 16384"),
    ],
    ids=["a list", "an object", "half a character", "too large"],
)
async def test_metadata_that_cannot_travel_is_refused_in_the_caller(
    runtime: Runtime, meta: Any, problem: str
) -> None:
    presence = Presence()
    await alone(presence)
    pid = owner()
    with pytest.raises(EncodeError, match=problem):
        presence.track(TOPIC, "ann", meta, pid=pid)
    presence.track(TOPIC, "ann", {"n": 1}, pid=pid)
    with pytest.raises(EncodeError, match=problem):
        presence.update(TOPIC, "ann", meta, pid=pid)
    assert presence.snapshot(TOPIC)["ann"][0]["n"] == 1


@pytest.mark.parametrize("key", [None, True, 1.5, b"ann", "k" * (MAX_TEXT + 1), "\ud800"])
async def test_a_key_that_cannot_travel_is_refused(runtime: Runtime, key: Any) -> None:
    presence = Presence()
    await alone(presence)
    with pytest.raises(EncodeError, match="its key"):
        presence.track(TOPIC, key, pid=owner())


@pytest.mark.parametrize("topic", ["t" * (MAX_TEXT + 1), "\ud800"])
async def test_a_topic_that_cannot_travel_is_refused(runtime: Runtime, topic: str) -> None:
    presence = Presence()
    await alone(presence)
    with pytest.raises(EncodeError, match="its topic"):
        presence.track(topic, "ann", pid=owner())


async def test_what_is_neither_channel_nor_topic_is_a_mistake(runtime: Runtime) -> None:
    presence = Presence()
    await alone(presence)
    where: Any = None
    with pytest.raises(InvalidArgument, match="got None instead of a channel or a topic"):
        presence.track(where, "ann", pid=owner())


# The rate limit


async def test_a_process_that_calls_too_often_is_refused_and_can_go_on_later(
    runtime: Runtime,
) -> None:
    presence = Presence(max_calls_per_second=10)
    await alone(presence)
    refused = listen(runtime, PRESENCE_CALLS_REFUSED)
    pid, other = owner(), owner()
    presence.track(TOPIC, "ann", {"n": 0}, pid=pid)
    for n in range(1, 10):
        presence.update(TOPIC, "ann", {"n": n}, pid=pid)
    with pytest.raises(TooManyCalls) as caught:
        presence.update(TOPIC, "ann", {"n": 10}, pid=pid)
    assert (caught.value.caller, caught.value.rate) == (pid, 10)
    presence.track(TOPIC, "bob", pid=other)
    assert presence.snapshot(TOPIC)["ann"][0]["n"] == 9
    assert presence.statistics()["calls_refused"] == 1
    assert [each["error"].caller for each in refused] == [pid]
    await trio.sleep(0.1)
    presence.update(TOPIC, "ann", {"n": 11}, pid=pid)
    with pytest.raises(TooManyCalls):
        presence.update(TOPIC, "ann", {"n": 12}, pid=pid)
    presence.untrack(TOPIC, "ann", pid=pid)


async def test_there_can_be_no_rate_limit(runtime: Runtime) -> None:
    presence = Presence(max_calls_per_second=float("inf"))
    await alone(presence)
    pid = owner()
    presence.track(TOPIC, "ann", pid=pid)
    for n in range(1_000):
        presence.update(TOPIC, "ann", {"n": n}, pid=pid)


async def test_callers_that_are_quiet_take_no_memory(runtime: Runtime) -> None:
    presence = Presence(heartbeat=1.0)
    await alone(presence)
    for n in range(50):
        presence.track(TOPIC, n, pid=owner())
    assert presence._tracking is not None
    buckets = presence._tracking.roster._buckets
    assert len(buckets) == 50
    await trio.sleep(2.5)
    assert len(buckets) == 0


# Clients

online = Presence(max_calls_per_second=20)
counted = Presence(name="counted", counted=lambda topic: topic.startswith("big:"))
PRESENCES = {"online": online, "counted": counted}


class RoomChannel(Channel):
    async def join(self, topic: str, payload: Any) -> None:
        self.presence = PRESENCES[payload.get("presence", "online")]
        self.user = payload.get("user", "anon")
        send(current_pid(), "after join")

    async def handle_info(self, message: Any) -> None:
        if message == "after join":
            self.presence.track(self, self.user, {"device": "phone"})
            await self.presence.push_state(self)

    @handle_in("type")
    async def type(self, payload: Any) -> PushReply:
        try:
            self.presence.update(self, self.user, lambda meta: {**meta, "n": payload["n"]})
        except TooManyCalls:
            return PushReply({"reason": "too fast"}, status="error")
        return PushReply({})

    @handle_in("untrack")
    async def untrack(self, payload: Any) -> None:
        self.presence.untrack(self, self.user)


class UserSocket(Socket):
    channels = {"*": RoomChannel}


endpoint = Endpoint(sockets={"/socket": UserSocket}, presences=[online, counted])


async def test_a_client_gets_everybody_and_then_the_changes() -> None:
    async with open_channel_test(endpoint) as case:
        ann, bob = await case.connect(), await case.connect()
        _, room = await ann.join(TOPIC, {"user": "ann"})
        one = {"metas": [{"device": "phone", "phx_ref": ANYTHING}]}
        assert await room.assert_push("presence_state") == {"ann": one}
        await room.assert_push("presence_diff", {"joins": {"ann": one}, "leaves": {}})
        _, other = await bob.join(TOPIC, {"user": "bob"})
        assert await other.assert_push("presence_state") == {"ann": one, "bob": one}
        await room.assert_push("presence_diff", {"joins": {"bob": one}, "leaves": {}})
        await other.close()
        await room.assert_push("presence_diff", {"joins": {}, "leaves": {"bob": one}})


async def test_a_channel_that_untracks_itself_leaves_and_stays_joined() -> None:
    async with open_channel_test(endpoint) as case:
        client = await case.connect()
        _, room = await client.join(TOPIC, {"user": "ann"})
        await room.assert_push("presence_diff")
        room.push("untrack")
        await room.assert_push("presence_diff", lambda diff: list(diff["leaves"]) == ["ann"])
        await room.refute_push("phx_close")


async def test_the_rate_limit_is_for_all_channels_of_a_client_together() -> None:
    async with open_channel_test(endpoint) as case:
        ann, bob = await case.connect(), await case.connect()
        rooms = [(await ann.join(f"room:{n}", {"user": "ann"}))[1] for n in range(2)]
        _, other = await bob.join("room:0", {"user": "bob"})
        answers = [
            await room.receive_reply(room.push("type", {"n": n}))
            for n in range(10)
            for room in rooms
        ]
        assert [answer.status for answer in answers].count("ok") == 18
        await other.assert_reply(other.push("type", {"n": 1}), "ok")


async def test_a_topic_that_is_counted_has_a_state_and_diffs_of_bounded_size() -> None:
    async with open_channel_test(endpoint) as case:
        sizes = []
        for n in range(5):
            client = await case.connect()
            payload = {"user": f"user {n}", "presence": "counted"}
            _, room = await client.join("big:1", payload)
            assert await room.assert_push("presence_state") == {}
            diff = await room.assert_push("presence_diff")
            assert diff == {"joins": {}, "leaves": {}, "count": n + 1}
            sizes.append(diff["count"])
            await trio.sleep(0.2)
        assert len(await counted.list("big:1")) == 5


async def test_the_presences_of_an_endpoint_are_in_its_tree_and_stop_after_its_channels() -> None:
    async with open_channel_test(endpoint) as case:
        client = await case.connect()
        await client.join(TOPIC, {"user": "ann"})
        tree = render(case.pid)
        assert tree.index("presence Presence") < tree.index("UserSocket")
        for name in ("presence counted", "tracker", "announcer"):
            assert name in tree
    assert online.statistics() == {}


# Reads


async def test_a_snapshot_never_changes_and_works_in_every_thread(runtime: Runtime) -> None:
    presence = Presence()
    await alone(presence)
    presence.track(TOPIC, "ann", pid=owner())
    found = await trio.to_thread.run_sync(lambda: presence.snapshot(TOPIC))
    presence.track(TOPIC, "bob", pid=owner())
    assert list(found) == ["ann"]
    assert presence.snapshot("nowhere").get("ann") == ()


async def test_other_calls_of_another_thread_are_refused(runtime: Runtime) -> None:
    presence = Presence()
    await alone(presence)
    pid = owner()
    errors: list[BaseException] = []

    def work() -> None:
        for call in (
            lambda: presence.track(TOPIC, "ann", pid=pid),
            lambda: presence.update(TOPIC, "ann", {}, pid=pid),
            lambda: presence.untrack(TOPIC, "ann", pid=pid),
            lambda: presence.untrack_all(pid=pid),
        ):
            try:
                call()
            except WrongThread as error:
                errors.append(error)

    await trio.to_thread.run_sync(work)
    assert len(errors) == 4
    assert presence.statistics()["presences"] == 0


async def test_get_by_key_returns_the_metas_of_one_key(runtime: Runtime) -> None:
    presence = Presence()
    await alone(presence)
    refs = [presence.track(TOPIC, 7, {"n": n}, pid=owner()) for n in range(2)]
    presence.track(TOPIC, "8", pid=owner())
    metas = [{"n": n, "phx_ref": ref} for n, ref in enumerate(refs)]
    assert await presence.get_by_key(TOPIC, 7) == {"metas": metas}
    assert await presence.get_by_key(TOPIC, "nobody") is None


class Named(Presence):
    """A presence that adds names."""

    async def fetch(self, topic: str, presences: Presences) -> Presences:
        return {
            key: {**entry, "name": key.upper(), "topic": topic} for key, entry in presences.items()
        }


async def test_fetch_adds_to_what_readers_and_clients_get(runtime: Runtime) -> None:
    presence = Named()
    pubsub = await alone(presence)
    heard = await listener(pubsub)
    ref = presence.track(TOPIC, "ann", pid=owner())
    entry = {"metas": [{"phx_ref": ref}], "name": "ANN", "topic": TOPIC}
    assert await presence.list(TOPIC) == {"ann": entry}
    assert await presence.get_by_key(TOPIC, "ann") == entry
    await trio.sleep(1.0)
    assert payloads(heard, "presence_diff") == [{"joins": {"ann": entry}, "leaves": {}}]
    assert presence.snapshot(TOPIC)["ann"] == ({"phx_ref": ref},)


class Broken(Presence):
    """A presence whose fetch does what its `act` says."""

    act: Any = None

    async def fetch(self, topic: str, presences: Presences) -> Presences:
        if self.act == "hang":
            await trio.sleep_forever()
        if isinstance(self.act, Exception):
            raise self.act
        return presences if self.act is None else self.act


@pytest.mark.parametrize(
    ("act", "error"),
    [
        (ValueError("no database"), ValueError),
        ("hang", trio.TooSlowError),
        ([], Exception),
        ({"ann": {}}, Exception),
        ({"ann": {"metas": [{}]}}, Exception),
        ({"eve": {"metas": []}}, Exception),
    ],
    ids=["raises", "hangs", "a list", "no metas", "no ref", "another key"],
)
async def test_a_reader_gets_the_failure_of_fetch(
    runtime: Runtime, act: Any, error: type[Exception]
) -> None:
    presence = Broken()
    await alone(presence)
    presence.track(TOPIC, "ann", pid=owner())
    presence.act = act
    with trio.fail_after(6.0), pytest.raises(error):
        await presence.list(TOPIC)


async def test_a_diff_is_delivered_by_the_dispatcher_of_the_presence(runtime: Runtime) -> None:
    delivered: list[tuple[int, str]] = []

    def dispatcher(subscriptions: Any, sender: Pid | None, message: Any) -> None:
        found = list(subscriptions)
        assert all(isinstance(each, Subscription) for each in found)
        delivered.append((len(found), message.event))

    presence = Presence(dispatcher=dispatcher)
    pubsub = await alone(presence)
    heard = await listener(pubsub)
    presence.track(TOPIC, "ann", pid=owner())
    await trio.sleep(1.0)
    assert delivered == [(1, "presence_diff")]
    assert heard.messages == []


# Starting


async def test_a_presence_that_does_not_run_says_how_to_start_it(runtime: Runtime) -> None:
    presence = Presence()
    with pytest.raises(InvalidOperation, match=r"not running; write Endpoint\(presences="):
        presence.track(TOPIC, "ann", pid=owner())
    with pytest.raises(InvalidOperation, match="not running"):
        await presence.list(TOPIC)
    assert len(presence.snapshot(TOPIC)) == 0
    assert presence.statistics() == {}


async def test_a_child_spec_runs_a_presence_without_an_endpoint(runtime: Runtime) -> None:
    presence = Presence(name="here")
    spec = presence.child_spec(PubSub())
    assert (spec.id, spec.type) == ("presence here", "supervisor")
    supervisor = await Supervisor.start_link([spec])
    presence.track(TOPIC, "ann", pid=owner())
    await stop(supervisor)
    with pytest.raises(InvalidOperation):
        presence.track(TOPIC, "ann", pid=owner())


async def test_a_presence_runs_once_at_a_time_and_can_start_again(runtime: Runtime) -> None:
    presence = Presence()
    first = Endpoint(sockets={}, presences=[presence])
    pid = await first.start_link(port=None)
    second = Endpoint(sockets={}, presences=[presence])
    with pytest.raises(StartError, match="is running already; make another one"):
        await second.start_link(port=None)
    await stop(pid)
    await second.start_link(port=None)
    presence.track(TOPIC, "ann", pid=owner())


async def test_of_two_starts_at_the_same_time_one_succeeds(runtime: Runtime) -> None:
    class Slow(Presence):
        async def init(self) -> Any:
            await trio.sleep(1.0)

    presence, pubsub, started = Slow(), PubSub(), list[bool]()

    async def start() -> None:
        try:
            await Supervisor.start_link([presence.child_spec(pubsub)])
        except StartError:
            started.append(False)
        else:
            started.append(True)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(start)
        nursery.start_soon(start)
    assert sorted(started) == [False, True]
    presence.track(TOPIC, "ann", pid=owner())


async def test_two_presences_share_a_pubsub_under_different_names(runtime: Runtime) -> None:
    pubsub = PubSub()
    one, other = Presence(), Presence(name="other")
    await Supervisor.start_link([one.child_spec(pubsub), other.child_spec(pubsub)])
    one.track(TOPIC, "ann", pid=owner())
    other.track(TOPIC, "bob", pid=owner())
    assert (list(one.snapshot(TOPIC)), list(other.snapshot(TOPIC))) == (["ann"], ["bob"])
    with pytest.raises(StartError, match="another presence with the name 'Presence' runs"):
        await Supervisor.start_link([Presence().child_spec(pubsub)])


async def test_two_endpoints_can_have_a_presence_each(runtime: Runtime) -> None:
    presences = Presence(), Presence()
    for presence in presences:
        await Endpoint(sockets={}, presences=[presence]).start_link(port=None)
    presences[0].track(TOPIC, "ann", pid=owner())
    assert [len(each.snapshot(TOPIC)) for each in presences] == [1, 0]


async def test_everybody_alive_stays_present_if_the_supervisor_of_a_presence_restarts(
    runtime: Runtime,
) -> None:
    presence, pubsub = Presence(), PubSub()
    spec = presence.child_spec(pubsub)
    supervisor = await Supervisor.start_link([spec])
    heard = await listener(pubsub)
    ann, bob = owner(), owner()
    presence.track(TOPIC, "ann", pid=ann)
    presence.track(TOPIC, "bob", pid=bob)
    await trio.sleep(1.0)
    kill(await child_of(supervisor, spec.id))
    kill(bob)
    await trio.sleep(1.0)
    assert list(presence.snapshot(TOPIC)) == ["ann"]
    # Bob left while the announcer ended. So clients get this change as a diff, or as a whole state.
    assert diffs(heard.messages) in (
        [(["ann", "bob"], []), ([], ["bob"])],
        [(["ann", "bob"], [])],
    )
    assert Client().hear(heard.messages).metas == truth(presence) != {}
    kill(ann)
    await trio.sleep(1.0)
    assert diffs(heard.messages)[-1] == ([], ["ann"])
    assert Client().hear(heard.messages).metas == truth(presence) == {}


async def test_a_new_runtime_begins_with_nobody() -> None:
    async with open_channel_test(endpoint) as case:
        client = await case.connect()
        await client.join(TOPIC, {"user": "ann"})
        await settle()
        assert online.statistics()["presences"] == 1
    async with open_channel_test(endpoint):
        assert online.statistics()["presences"] == 0


class NoNews(Presence):
    async def init(self) -> Any:
        raise LookupError("no state")

    async def handle_metas(
        self, topic: str, diff: Mapping[str, Presences], presences: Any, state: Any
    ) -> Any:
        return state


async def test_a_presence_whose_init_fails_does_not_start(runtime: Runtime) -> None:
    with pytest.raises(StartError, match="no state"):
        await alone(NoNews())


# Options


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("name", ""),
        ("leave_grace", -1),
        ("leave_grace", float("inf")),
        ("interval", True),
        ("heartbeat", 0),
        ("down_period", 2.9),
        ("permdown_period", 30.0),
        ("callback_timeout", 0),
        ("max_fetches", 0),
        ("counted_from", 0),
        ("max_calls_per_second", 0.5),
        ("max_meta_bytes", MOST_META_BYTES + 1),
        ("max_sizes", [10, 5]),
    ],
)
def test_an_invalid_option_is_refused(option: str, value: Any) -> None:
    with pytest.raises(InvalidOption) as caught:
        Presence(**{"max_delta_sizes" if option == "max_sizes" else option: value})
    assert caught.value.option == option


def test_down_periods_are_checked_against_each_other() -> None:
    with pytest.raises(InvalidOption) as refused:
        Presence(heartbeat=2.0, down_period=3.9)
    assert refused.value.option == "down_period"
    Presence(heartbeat=2.0, down_period=4.0, permdown_period=4.1)


def test_a_permanent_down_period_is_longer_than_a_down_period() -> None:
    with pytest.raises(InvalidOption) as refused:
        Presence(down_period=30.0, permdown_period=30.0)
    assert refused.value.option == "permdown_period"


def test_a_callback_that_is_not_async_is_refused() -> None:
    class Blocking(Presence):
        def fetch(self, topic: str, presences: Presences) -> Presences:  # type: ignore[override]
            return presences

    with pytest.raises(
        InvalidArgument, match=r"Blocking.fetch is not async; write `async def fetch`"
    ):
        Blocking()


def test_a_presence_is_known_by_the_name_of_its_class_unless_it_has_another() -> None:
    assert Named().name == "Named"
    assert repr(Presence(name="here")) == "<presence here>"


def test_a_presence_can_be_made_outside_of_a_runtime_and_of_the_main_thread() -> None:
    made: list[Presence] = []
    thread = threading.Thread(target=lambda: made.append(Presence()))
    thread.start()
    thread.join()
    assert made

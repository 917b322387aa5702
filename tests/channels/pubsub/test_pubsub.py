"""PubSub: a message to a topic reaches all present subscribers, in order, and no former ones."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

import actors
from actors import (
    Down,
    InvalidArgument,
    NotAProcess,
    Pid,
    Runtime,
    current_pid,
    kill,
    monitor,
    receive,
    send,
    spawn,
    wait_exit,
)
from actors._kernel.runtime import record_of
from channels import Broadcast, EncodeError, PubSub
from channels.pubsub.adapter import Encoded, LocalAdapter
from channels.pubsub.local import Subscription
from tests.channels.support import Mailbox, settle


async def subscriber(pubsub: PubSub, *topics: str) -> Mailbox:
    """A process that has subscribed to topics, and keeps what it gets."""
    mailbox = Mailbox()
    await mailbox.start(*(lambda topic=topic: pubsub.subscribe(topic) for topic in topics))
    return mailbox


async def test_a_broadcast_reaches_the_subscribers_of_its_topic_in_order(runtime: Runtime) -> None:
    pubsub = PubSub()
    one, both, other = [await subscriber(pubsub, *topics) for topics in ("a", "ab", "b")]
    for n in range(3):
        pubsub.broadcast("a", n)
    pubsub.broadcast("b", "b")
    pubsub.broadcast("c", "c")
    await settle()
    assert (one.messages, both.messages, other.messages) == ([0, 1, 2], [0, 1, 2, "b"], ["b"])


async def test_subscribing_twice_means_everything_twice(runtime: Runtime) -> None:
    pubsub = PubSub()
    twice = await subscriber(pubsub, "a", "a")
    pubsub.broadcast("a", 1)
    await settle()
    assert twice.messages == [1, 1]
    assert pubsub.subscribers("a") == (twice.pid, twice.pid)


async def test_unsubscribing_drops_all_of_ones_own_and_only_those(runtime: Runtime) -> None:
    pubsub = PubSub()
    other = await subscriber(pubsub, "a")
    mailbox = Mailbox()
    await mailbox.start(
        lambda: pubsub.subscribe("a"),
        lambda: pubsub.subscribe("a"),
        lambda: pubsub.subscribe("b"),
        lambda: pubsub.unsubscribe("a"),
        lambda: pubsub.unsubscribe("never"),
    )
    pubsub.broadcast("a", 1)
    pubsub.broadcast("b", 2)
    await settle()
    assert (mailbox.messages, other.messages) == ([2], [1])


async def test_a_sender_is_left_out_whatever_it_has_subscribed(runtime: Runtime) -> None:
    pubsub = PubSub()
    one, other = await subscriber(pubsub, "a", "a"), await subscriber(pubsub, "a")
    pubsub.broadcast("a", 1, sender=one.pid)
    pubsub.local_broadcast("a", 2, sender=other.pid)
    await settle()
    assert (one.messages, other.messages) == ([2, 2], [1])


async def test_when_the_end_of_a_subscriber_is_known_it_is_subscribed_no_more(
    runtime: Runtime,
) -> None:
    pubsub = PubSub()
    seen: list[Any] = []

    async def short() -> None:
        pubsub.subscribe("a")
        await receive()

    async def watch(pid: Pid) -> None:
        monitor(pid)
        assert isinstance(await receive(), Down)
        seen.append(pubsub.subscribers("a"))

    pid = spawn(short)
    await settle()
    assert pubsub.subscribers("a") == (pid,)
    spawn(watch, pid)
    await settle()
    kill(pid)
    await settle()
    assert seen == [()]
    assert pubsub.statistics() == {"topics": 0, "subscriptions": 0}


@pytest.mark.parametrize("end", ["crash", "kill", "return"])
@pytest.mark.parametrize("unsubscribed", ["", "a", "b", "c", "ab"])
async def test_the_end_of_a_process_drops_its_subscriptions_to_all_topics(
    runtime: Runtime, end: str, unsubscribed: str
) -> None:
    pubsub, other = PubSub(), PubSub()
    stays = await subscriber(pubsub, "a", "b", "c")

    async def short() -> None:
        for topic in "abca":
            pubsub.subscribe(topic)
        other.subscribe("b")
        for topic in unsubscribed:
            pubsub.unsubscribe(topic)
        await receive()
        if end == "crash":
            raise ValueError

    pid = spawn(short)
    await settle()
    for topic in "abc":
        assert (pid in pubsub.subscribers(topic)) is (topic not in unsubscribed)
    if end == "kill":
        kill(pid)
    else:
        send(pid, "end")
    await wait_exit(pid)
    for topic in "abc":
        assert pubsub.subscribers(topic) == (stays.pid,)
        pubsub.broadcast(topic, topic)
    await settle()
    assert pubsub.statistics() == {"topics": 3, "subscriptions": 3}
    assert other.statistics() == {"topics": 0, "subscriptions": 0}
    # Nothing was sent to the process that has ended.
    assert runtime.statistics()["dead_letters"] == 0
    assert stays.messages == ["a", "b", "c"]


async def test_coming_and_going_a_thousand_times_leaves_nothing_in_the_process(
    runtime: Runtime,
) -> None:
    pubsub = PubSub()
    cleanups: list[object] = []

    async def restless() -> None:
        for _ in range(1000):
            pubsub.subscribe("a")
            pubsub.unsubscribe("a")
        process = record_of(current_pid())
        assert process is not None
        cleanups.append(process.cleanups)

    spawn(restless)
    await settle()
    # One clean-up is a pair, and several are a dict.
    assert isinstance(cleanups[0], tuple)


async def test_only_processes_subscribe_but_any_task_broadcasts(runtime: Runtime) -> None:
    pubsub = PubSub()
    with pytest.raises(NotAProcess):
        pubsub.subscribe("a")
    pubsub.broadcast("a", 1)


async def test_a_broadcast_goes_to_other_nodes_first_and_a_local_one_does_not(
    runtime: Runtime,
) -> None:
    sent: list[Any] = []

    class Cable(LocalAdapter):
        name = "cable"

        def broadcast(self, encoded: Encoded) -> None:
            sent.append((encoded.topic, encoded.message(), list(mailbox.messages)))
            if encoded.message() == "lost":
                raise OSError("no cable")

    pubsub = PubSub(Cable())
    await pubsub.start_link()
    mailbox = await subscriber(pubsub, "a")
    pubsub.broadcast("a", 1)
    pubsub.local_broadcast("a", 2)
    # A broadcast that fails for other nodes is not delivered here either, so the caller can try again.
    with pytest.raises(OSError, match="no cable"):
        pubsub.broadcast("a", "lost")
    await settle()
    assert mailbox.messages == [1, 2]
    assert [each[:2] for each in sent] == [("a", 1), ("a", "lost")]


def test_a_node_alone_is_called_local() -> None:
    assert PubSub().node_name == "local"


async def test_a_dispatcher_gets_the_subscriptions_and_its_errors_are_the_broadcasters(
    runtime: Runtime,
) -> None:
    pubsub = PubSub()
    calls: list[Any] = []
    mailbox = Mailbox()
    await mailbox.start(lambda: pubsub.subscribe("a", metadata="meta"))

    def dispatch(found: Iterable[Subscription], sender: Pid | None, message: Any) -> None:
        calls.append(([(each.pid, each.metadata) for each in found], sender, message))
        raise RuntimeError("dispatcher")

    with pytest.raises(RuntimeError, match="dispatcher"):
        pubsub.broadcast("a", 1, dispatcher=dispatch)
    # Without subscribers there is nothing to dispatch.
    pubsub.broadcast("b", 1, dispatcher=dispatch)
    assert calls == [([(mailbox.pid, "meta")], None, 1)]


@pytest.mark.parametrize("method", ["broadcast", "local_broadcast"])
async def test_on_a_node_alone_a_dispatcher_gets_any_value_for_processes(
    runtime: Runtime, method: str
) -> None:
    pubsub = PubSub()
    await subscriber(pubsub, "a")
    calls: list[Any] = []
    value = object()

    def dispatch(found: Iterable[Subscription], sender: Pid | None, message: Any) -> None:
        calls.append(message)

    getattr(pubsub, method)("a", value, dispatcher=dispatch)
    assert calls == [value]


@pytest.mark.parametrize("method", ["broadcast", "local_broadcast"])
@pytest.mark.parametrize("payload", [[1], {"a": object()}], ids=["no object", "not JSON"])
@pytest.mark.parametrize("subscribed", [True, False])
async def test_a_dispatcher_gets_no_broadcast_whose_payload_is_not_a_json_object(
    runtime: Runtime, method: str, payload: Any, subscribed: bool
) -> None:
    pubsub = PubSub()
    calls: list[Any] = []
    if subscribed:
        await subscriber(pubsub, "a")
    with pytest.raises(EncodeError):
        getattr(pubsub, method)(
            "a", Broadcast("a", "e", payload), dispatcher=lambda *call: calls.append(call)
        )
    assert calls == []


async def test_one_pubsub_may_outlive_runtimes() -> None:
    pubsub = PubSub()
    for _ in range(2):
        async with actors.open_runtime(log=False):
            mailbox = await subscriber(pubsub, "a")
            pubsub.broadcast("a", Broadcast("a", "e", {}))
            await settle()
            assert mailbox.messages == [Broadcast("a", "e", {})]
        assert pubsub.subscribers("a") == ()


@pytest.mark.parametrize(
    ("adapter", "problem"),
    [
        (5, "of type int"),
        ("redis://:secret@db", "of type str"),
        (LocalAdapter, r"write LocalAdapter\(\.\.\.\)"),
    ],
)
def test_what_is_no_adapter_is_refused_and_not_shown(adapter: Any, problem: str) -> None:
    with pytest.raises(InvalidArgument, match=problem) as made:
        PubSub(adapter)
    with pytest.raises(InvalidArgument, match=problem):
        PubSub().use(adapter)
    assert "secret" not in f"{made.value} {made.value!r}"

"""One contract for every adapter of PubSub: who gets a message, how often, in which order, and what is lost."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from attrs import define, field, frozen
from trio.testing import wait_all_tasks_blocked

from actors import Pid, open_runtime, stop
from channels import Binary, Broadcast, EncodeError, PubSub
from channels.pubsub.adapter import Adapter
from channels.pubsub.envelope import MessageTooLarge
from channels.pubsub.local import Fastlane
from channels.pubsub.redis.adapter import RedisAdapter
from channels.pubsub.redis.server import RedisServer
from channels.pubsub.workers.adapter import WorkersAdapter
from channels.serializers.serializer import Codec
from channels.serializers.v1 import V1
from channels.serializers.v2 import V2
from channels.testing import JoinedNodes
from supervision import Supervisor
from tests.channels.pubsub.redis.resp_server import RespServer
from tests.channels.support import Mailbox
from tests.patience import until

# Some adapters run over real sockets, which a virtual clock would run away from.
REAL_CLOCK = True

NAMES = ("a", "b", "c")


class Cluster:
    """Three nodes in one runtime, each with its own PubSub.

    Args:
        adapter: makes the adapter of a node.
    """

    def __init__(self, adapter: Callable[..., Adapter]) -> None:
        self.adapter = adapter
        self.nodes: dict[str, PubSub] = {}
        self._supervisors: dict[str, Pid] = {}

    async def start(self, name: str, **options: Any) -> PubSub:
        pubsub = self.nodes[name] = PubSub(self.adapter(name, **options))
        children = [pubsub.child_spec()]
        self._supervisors[name] = await Supervisor.start_link(children, label=f"node {name}")
        return pubsub

    async def stop(self, name: str) -> None:
        await stop(self._supervisors.pop(name))

    async def subscriber(self, name: str, *topics: str) -> Mailbox:
        mailbox, pubsub = Mailbox(), self.nodes[name]
        await mailbox.start(*(lambda topic=topic: pubsub.subscribe(topic) for topic in topics))
        return mailbox

    async def all_heard(self, mailboxes: list[Mailbox], mark: Any = "mark") -> None:
        """Wait until each mailbox has got a mark that was sent behind everything else."""
        await until(lambda: all(mark in mailbox.messages for mailbox in mailboxes))

    async def joined(self) -> None:
        """Wait until every node has heard of every other one."""
        others = len(self.nodes) - 1
        await until(lambda: all(len(each.nodes()) == others for each in self.nodes.values()))


@frozen
class Kind:
    """A kind of adapter."""

    name: str
    network: Callable[[], AbstractAsyncContextManager[Callable[..., Adapter]]] = field(repr=False)


@asynccontextmanager
async def in_memory() -> AsyncIterator[Callable[..., Adapter]]:
    yield JoinedNodes(heartbeat=0.05).adapter


@asynccontextmanager
async def redis_in_memory() -> AsyncIterator[Callable[..., Adapter]]:
    """Nodes on a server in this process. tests/integration/test_redis_contract.py has a real one."""

    def adapter(name: str, **options: Any) -> Adapter:
        return RedisAdapter(
            RedisServer("redis://db", connect=server.connect),
            node_name=name,
            heartbeat=0.05,
            **options,
        )

    async with trio.open_nursery() as nursery:
        server = RespServer(nursery)
        yield adapter
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def linked() -> AsyncIterator[Callable[..., Adapter]]:
    """Workers in this process, over the sockets that connect them between processes."""
    others: list[WorkersAdapter] = []

    def adapter(name: str, **options: Any) -> Adapter:
        pairs = [socket.socketpair() for _ in others]
        for other, (theirs, ours) in zip(others, pairs, strict=True):
            opened.enter_context(theirs)
            opened.enter_context(ours)
            other.connect(theirs)
        ends = [ours for _, ours in pairs]
        others.append(WorkersAdapter(ends, node_name=name, heartbeat=0.05, **options))
        return others[-1]

    with ExitStack() as opened:
        yield adapter


KINDS = [
    Kind("joined", in_memory),
    Kind("redis", redis_in_memory),
    Kind("workers", linked),
]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
async def cluster(request: Any) -> AsyncIterator[Cluster]:
    async with request.param.network() as adapter, open_runtime():
        cluster = Cluster(adapter)
        for name in NAMES:
            await cluster.start(name)
        await cluster.joined()
        yield cluster


async def test_a_broadcast_reaches_every_node_once_and_the_senders_too(cluster: Cluster) -> None:
    mailboxes = [await cluster.subscriber(name, "t") for name in NAMES]
    cluster.nodes["a"].broadcast("t", {"n": 1})
    cluster.nodes["a"].broadcast("t", "mark")
    await cluster.all_heard(mailboxes)
    for mailbox in mailboxes:
        assert mailbox.messages == [{"n": 1}, "mark"]


async def test_the_messages_of_a_sender_arrive_in_order(cluster: Cluster) -> None:
    mailboxes = [await cluster.subscriber(name, "t") for name in NAMES]
    for n in range(200):
        cluster.nodes["a"].broadcast("t", n)
        cluster.nodes["b"].broadcast("t", -n - 1)
    for name in "ab":
        cluster.nodes[name].broadcast("t", f"mark {name}")
    for name in "ab":
        await cluster.all_heard(mailboxes, f"mark {name}")
    for mailbox in mailboxes:
        numbers = [each for each in mailbox.messages if isinstance(each, int)]
        assert [each for each in numbers if each >= 0] == list(range(200))
        assert [-each - 1 for each in numbers if each < 0] == list(range(200))


@pytest.mark.parametrize(
    "message",
    [
        None,
        ["a", 1, 1.5, True, {"b": None}],
        Broadcast("t", "event", {"body": "é\n\u2028"}),
        Broadcast("t", "photo", Binary(bytes(range(256)))),
        Broadcast("t", "position", {"x": 1}, "bus \u2028"),
        Broadcast("t", "frame", Binary(b"\n"), "binary"),
    ],
    ids=["none", "json", "event", "binary", "value", "binary value"],
)
async def test_a_message_arrives_unchanged(cluster: Cluster, message: Any) -> None:
    there = await cluster.subscriber("b", "t")
    cluster.nodes["a"].broadcast("t", message)
    cluster.nodes["a"].broadcast("t", "mark")
    await cluster.all_heard([there])
    assert there.messages == [message, "mark"]


async def test_other_topics_are_not_delivered(cluster: Cluster) -> None:
    there = await cluster.subscriber("b", "t")
    for topic in ("other", "t2", "", "T"):
        cluster.nodes["a"].broadcast(topic, topic)
    cluster.nodes["a"].broadcast("t", "mark")
    await cluster.all_heard([there])
    assert there.messages == ["mark"]


async def test_a_local_broadcast_stays_here(cluster: Cluster) -> None:
    here, there = [await cluster.subscriber(name, "t") for name in "ab"]
    cluster.nodes["a"].local_broadcast("t", "here")
    cluster.nodes["a"].broadcast("t", "mark")
    await cluster.all_heard([here, there])
    assert (here.messages, there.messages) == (["here", "mark"], ["mark"])


async def test_a_direct_broadcast_reaches_only_its_node(cluster: Cluster) -> None:
    mailboxes = [await cluster.subscriber(name, "t") for name in NAMES]
    cluster.nodes["a"].direct_broadcast("b", "t", "for b")
    cluster.nodes["a"].direct_broadcast("a", "t", "for a")
    cluster.nodes["a"].direct_broadcast("nobody", "t", "for nobody")
    cluster.nodes["a"].direct_broadcast("b", "t", "mark b")
    await cluster.all_heard([mailboxes[1]], "mark b")
    cluster.nodes["a"].broadcast("t", "mark")
    await cluster.all_heard(mailboxes)
    assert [mailbox.messages for mailbox in mailboxes] == [
        ["for a", "mark"],
        ["for b", "mark b", "mark"],
        ["mark"],
    ]


async def test_the_sender_is_left_out_here_and_exists_nowhere_else(cluster: Cluster) -> None:
    here, there = [await cluster.subscriber(name, "t") for name in "ab"]
    cluster.nodes["a"].broadcast("t", "others", sender=here.pid)
    cluster.nodes["a"].broadcast("t", "mark")
    await cluster.all_heard([here, there])
    assert (here.messages, there.messages) == (["mark"], ["others", "mark"])


async def test_a_message_that_cannot_travel_reaches_nobody(cluster: Cluster) -> None:
    here, there = [await cluster.subscriber(name, "t") for name in "ab"]
    with pytest.raises(EncodeError):
        cluster.nodes["a"].broadcast("t", object())
    with pytest.raises(MessageTooLarge):
        cluster.nodes["a"].broadcast("t", "x" * 2_000_000)
    cluster.nodes["a"].broadcast("t", "mark")
    await cluster.all_heard([here, there])
    assert here.messages == there.messages == ["mark"]
    assert cluster.nodes["b"].statistics()["lost"] == 0


async def test_broadcasts_of_another_thread_arrive_in_order(cluster: Cluster) -> None:
    there = await cluster.subscriber("b", "t")

    def work() -> None:
        for n in range(50):
            cluster.nodes["a"].broadcast("t", n)
        cluster.nodes["a"].broadcast("t", "mark")

    await trio.to_thread.run_sync(work)
    await cluster.all_heard([there])
    assert there.messages == [*range(50), "mark"]


async def test_nothing_is_lost_or_repeated_between_healthy_nodes(cluster: Cluster) -> None:
    mailboxes = [await cluster.subscriber(name, "t") for name in NAMES]
    for n in range(300):
        for name in NAMES:
            cluster.nodes[name].broadcast("t", n)
    for name in NAMES:
        cluster.nodes[name].broadcast("t", f"mark {name}")
    for name in NAMES:
        await cluster.all_heard(mailboxes, f"mark {name}")
    for name in NAMES:
        counters = cluster.nodes[name].statistics()["adapter"]
        assert (counters["sent"], counters["received"]) == (301, 602)
        assert counters["lost"] == counters["repeated"] == counters["malformed"] == 0


async def test_each_node_knows_the_others_by_name_and_incarnation(cluster: Cluster) -> None:
    nodes = {name: pubsub.node for name, pubsub in cluster.nodes.items()}
    for name, pubsub in cluster.nodes.items():
        others = {each for other, each in nodes.items() if other != name}
        assert set(pubsub.nodes()) == others
        assert pubsub.node_name == name


async def test_a_node_that_stops_says_goodbye(cluster: Cluster) -> None:
    late = await cluster.start("late")
    await cluster.joined()
    await cluster.stop("late")
    assert not late.is_running
    del cluster.nodes["late"]
    await cluster.joined()


async def test_a_broadcast_after_the_stop_goes_nowhere_and_raises_nothing(
    cluster: Cluster,
) -> None:
    there = await cluster.subscriber("b", "t")
    await cluster.start("late")
    await cluster.joined()
    await cluster.stop("late")
    cluster.nodes["late"].broadcast("t", "too late")
    cluster.nodes["late"].direct_broadcast("b", "t", "too late")
    cluster.nodes["a"].broadcast("t", "mark")
    await cluster.all_heard([there])
    assert there.messages == ["mark"]


# The payloads of broadcasts: the same rule for every adapter, and for a node without one.

REFUSED = [
    ({"photo": Binary(b"x")}, 'payload["photo"] is a Binary, which can only be the whole payload'),
    ({"rows": [{"n": 1}, {"photo": Binary(b"x")}]}, 'payload["rows"][1]["photo"] is a Binary'),
    ({"odd": object()}, 'payload["odd"] is of type object, which JSON cannot express'),
    ([1, 2], "the payload is of type list, not a JSON object"),
    ("text", "the payload is of type str, not a JSON object"),
    (None, "the payload is of type NoneType, not a JSON object"),
]


@pytest.fixture(params=[Kind("local", in_memory), *KINDS], ids=lambda kind: kind.name)
async def pubsub(request: Any) -> AsyncIterator[PubSub]:
    """The PubSub of a node: without an adapter, or with one."""
    async with request.param.network() as adapter, open_runtime():
        if request.param.name == "local":
            yield PubSub()
            return
        cluster = Cluster(adapter)
        yield await cluster.start("a")


@define
class Point:
    x: int


class NoJson(V2):
    """A wire format that can express every payload."""

    copies_json = False

    def encode_broadcast(self, topic: str, event: str, payload: Any) -> bytes:
        return repr(payload).encode()


@pytest.mark.parametrize("client", [None, V1(), V2(), NoJson()], ids=["none", "V1", "V2", "own"])
@pytest.mark.parametrize("listens", [False, True], ids=["nobody", "process"])
@pytest.mark.parametrize(("payload", "problem"), REFUSED)
async def test_a_payload_that_json_cannot_express_is_refused_whoever_listens(
    pubsub: PubSub, client: Any, listens: bool, payload: Any, problem: str
) -> None:
    process, joined = Mailbox(), Mailbox()
    written: list[bytes] = []
    out: Any = SimpleNamespace(put=written.append)
    if client is not None:
        lane = Fastlane(out, Codec(client, bytes), frozenset())
        await joined.start(lambda: pubsub.subscribe("t", metadata=lane))
    if listens:
        await process.start(lambda: pubsub.subscribe("t"))
    for send in (pubsub.broadcast, pubsub.local_broadcast):
        with pytest.raises(EncodeError) as caught:
            send("t", Broadcast("t", "e", payload))
        assert problem in str(caught.value)
        with pytest.raises(EncodeError):
            await trio.to_thread.run_sync(send, "t", Broadcast("t", "e", payload))
    await wait_all_tasks_blocked()
    assert (written, process.messages, joined.messages) == ([], [], [])


@pytest.mark.parametrize(
    "payload", [{"n": 1}, Point(1), Binary(b"x")], ids=["dict", "record", "binary"]
)
async def test_an_object_and_a_binary_are_payloads_with_every_adapter(
    pubsub: PubSub, payload: Any
) -> None:
    process = Mailbox()
    await process.start(lambda: pubsub.subscribe("t"))
    pubsub.broadcast("t", Broadcast("t", "e", payload))
    await wait_all_tasks_blocked()
    assert process.messages == [Broadcast("t", "e", payload)]


async def test_every_client_whose_format_can_express_a_broadcast_gets_it(pubsub: PubSub) -> None:
    written: list[bytes] = []
    out: Any = SimpleNamespace(put=written.append)
    for serializer in (V2(), V1(), V2()):
        lane = Fastlane(out, Codec(serializer, bytes), frozenset())
        await Mailbox().start(partial(pubsub.subscribe, "t", metadata=lane))
    with pytest.raises(EncodeError) as refused:
        pubsub.broadcast("t", Broadcast("t", "e", Binary(b"x")))
    assert refused.value.kind == "broadcast"
    assert len(written) == 2

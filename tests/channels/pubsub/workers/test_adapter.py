"""The adapter of a worker, beyond the contract of all adapters: its links to the other workers, and their bounds."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from actors import InvalidOption, Pid, Runtime, receive, spawn, stop
from channels import PubSub
from channels.pubsub.workers.adapter import WorkersAdapter
from channels.pubsub.workers.frames import cut, frame, unframe
from channels.telemetry import PUBSUB_DROPPED
from supervision import Supervisor

# Over real sockets, which a virtual clock would run away from.
REAL_CLOCK = True

LIMIT = 50_000


class Worker:
    """Another worker: the test reads and writes its end of the link."""

    def __init__(self) -> None:
        self.sock, self.theirs = socket.socketpair()
        self.sock.setblocking(False)
        self._arrived = b""

    def frames(self) -> list[tuple[str, bytes]]:
        """Return the frames that have arrived since the last call."""
        while True:
            try:
                chunk = self.sock.recv(65536)
            except BlockingIOError:
                break
            if not chunk:
                break
            self._arrived += chunk
        ends = cut(self._arrived)
        found = list(unframe(self._arrived, ends))
        self._arrived = self._arrived[ends[-1] :] if ends else self._arrived
        return found

    def sent(self) -> list[bytes]:
        """Return the envelopes of these frames."""
        return [envelope for _, envelope in self.frames()]

    def bodies(self) -> list[bytes]:
        """Return the bodies of the messages in these frames. Declarations and heartbeats have none."""
        return [body for each in self.sent() for _, line, body in [each.partition(b"\n")] if line]


class Node:
    """A worker with links to some others."""

    def __init__(self, runtime: Runtime, others: int) -> None:
        self.others = [Worker() for _ in range(others)]
        self.adapter = WorkersAdapter(
            [each.theirs for each in self.others], node_name="w", max_waiting_bytes=LIMIT
        )
        self.pubsub = PubSub(self.adapter)
        self.problems: list[str] = []
        self.supervisor: Pid
        runtime.telemetry.attach(PUBSUB_DROPPED, self._note)

    def _note(self, event: Any, measured: Mapping[str, Any], about: Mapping[str, Any]) -> None:
        self.problems.append(about["problem"])

    async def start(self) -> None:
        self.supervisor = await Supervisor.start_link([self.pubsub.child_spec()])

    def connect(self) -> Worker:
        """Start one more worker."""
        self.others.append(Worker())
        self.adapter.connect(self.others[-1].theirs)
        return self.others[-1]

    def counter(self, name: str) -> int:
        counters: dict[str, int] = self.pubsub.statistics()["adapter"]
        return counters[name]

    def close(self) -> None:
        for each in self.others:
            each.sock.close()
            each.theirs.close()


@pytest.fixture
async def node(runtime: Runtime) -> AsyncIterator[Node]:
    node = Node(runtime, others=2)
    await node.start()
    await wait_all_tasks_blocked()
    yield node
    node.close()


def envelope(number: int, text: str) -> bytes:
    return f'[1,"x","i",{number},"t",null]\n"{text}"'.encode()


async def hear(node: Node) -> list[Any]:
    """Subscribe a process to the topic of `envelope`, and return the list of what it hears."""
    heard: list[Any] = []

    async def listen() -> None:
        node.pubsub.subscribe("t")
        while True:
            heard.append(await receive())

    spawn(listen)
    await wait_all_tasks_blocked()
    return heard


async def test_messages_of_one_turn_leave_in_order_and_together_behind_the_declaration(
    node: Node,
) -> None:
    for n in range(3):
        node.pubsub.broadcast("t", n)
    await wait_all_tasks_blocked()
    for other in node.others:
        frames = other.frames()
        assert frames[0] == ("@w", b""), "the declaration of its lane"
        assert [each.rpartition(b"\n")[2] for _, each in frames[-3:]] == [b"0", b"1", b"2"]


async def test_what_waits_for_a_worker_that_does_not_read_is_bounded_and_the_others_lose_nothing(
    node: Node,
) -> None:
    stuck, reader = node.others
    text = "x" * 1000
    count = 2000
    heard = 0
    for _ in range(count):
        node.pubsub.broadcast("t", text)
        await trio.lowlevel.checkpoint()
        heard += len(reader.bodies())
    # Nothing waits for the reader any more.
    await wait_all_tasks_blocked()
    dropped = node.counter("dropped")
    assert LIMIT - 2000 < node.counter("waiting_bytes") <= LIMIT
    assert dropped == len(node.problems) > 0
    assert heard + len(reader.bodies()) == count
    # It reads again: it gets whole frames, those before the gap.
    arrived = 0
    while arrived < count - dropped:
        arrived += len(stuck.bodies())
        await trio.lowlevel.checkpoint()
    await wait_all_tasks_blocked()
    assert node.counter("waiting_bytes") == 0
    node.pubsub.broadcast("t", "again")
    await wait_all_tasks_blocked()
    assert stuck.bodies() == reader.bodies() == [b'"again"']


async def test_a_worker_that_ends_while_messages_wait_for_it_is_forgotten(node: Node) -> None:
    stuck, reader = node.others
    while not node.problems:
        node.pubsub.broadcast("t", "x" * 10_000)
        await trio.lowlevel.checkpoint()
        reader.bodies()
    stuck.sock.close()
    await wait_all_tasks_blocked()
    assert node.counter("waiting_bytes") == 0
    dropped = node.counter("dropped")
    node.pubsub.broadcast("t", "hello")
    await wait_all_tasks_blocked()
    assert reader.bodies()[-1:] == [b'"hello"']
    assert node.counter("dropped") == dropped
    assert stuck.theirs.fileno() == -1, "the adapter closes its end"


async def test_the_head_of_a_frame_counts_towards_the_limit(node: Node) -> None:
    # The broadcasts happen in one turn, so the adapter sends nothing in between.
    node.others[1].sock.close()
    await wait_all_tasks_blocked()
    node.pubsub.broadcast("t", "x" * 40_000)
    waiting = node.counter("waiting_bytes")
    room = LIMIT - waiting - (waiting - 40_000)
    node.pubsub.broadcast("t", "x" * (room + 1))
    assert node.counter("dropped") == 1
    node.pubsub.broadcast("t", "x" * room)
    assert (node.counter("dropped"), node.counter("waiting_bytes")) == (1, LIMIT)


async def test_the_goodbye_is_the_last_that_a_node_sends(node: Node) -> None:
    node.pubsub.broadcast("t", "last message")
    await stop(node.supervisor)
    for other in node.others:
        *_, message, goodbye = other.sent()
        assert b"last message" in message
        assert b"goodbye" in goodbye


async def test_a_worker_that_starts_later_is_heard_and_hears(node: Node) -> None:
    heard = await hear(node)
    late = node.connect()
    late.sock.send(frame("@late") + frame("0", envelope(1, "hello")))
    await wait_all_tasks_blocked()
    assert heard == ["hello"]
    node.pubsub.direct_broadcast("late", "t", "for the late one")
    node.pubsub.broadcast("t", "for all")
    await wait_all_tasks_blocked()
    assert late.bodies() == [b'"for the late one"', b'"for all"']
    assert [other.bodies() for other in node.others[:2]] == [[b'"for all"']] * 2


async def test_a_worker_without_others_sends_nothing_and_counts_nothing(runtime: Runtime) -> None:
    node = Node(runtime, others=0)
    await node.start()
    node.pubsub.broadcast("t", "to nobody")
    node.pubsub.direct_broadcast("gone", "t", "to nobody")
    await wait_all_tasks_blocked()
    assert (node.counter("dropped"), node.counter("waiting_bytes")) == (0, 0)


async def test_a_lane_belongs_to_the_worker_that_declared_it_last(node: Node) -> None:
    before, after = node.others
    for each in (before, after):
        each.sock.send(frame("@same"))
        await wait_all_tasks_blocked()
    node.pubsub.direct_broadcast("same", "t", 1)
    before.sock.close()
    await wait_all_tasks_blocked()
    node.pubsub.direct_broadcast("same", "t", 2)
    await wait_all_tasks_blocked()
    assert after.bodies() == [b"1", b"2"]


async def test_a_message_that_arrives_in_parts_is_delivered_when_it_is_whole(node: Node) -> None:
    heard = await hear(node)
    data = frame("0", envelope(1, "first")) + frame("0", envelope(2, "second"))
    cut_at = len(data) - 3
    node.others[0].sock.send(data[:cut_at])
    await wait_all_tasks_blocked()
    assert heard == ["first"]
    node.others[0].sock.send(data[cut_at:])
    await wait_all_tasks_blocked()
    assert heard == ["first", "second"]


async def test_bytes_that_are_no_frame_end_the_link_of_their_sender_only(node: Node) -> None:
    stranger, other = node.others
    stranger.sock.send(b"\xff" * 100)
    await wait_all_tasks_blocked()
    assert stranger.theirs.fileno() == -1
    node.pubsub.broadcast("t", "hello")
    await wait_all_tasks_blocked()
    assert other.bodies() == [b'"hello"']
    assert node.problems == []


@pytest.mark.parametrize(
    "options",
    [
        {"heartbeat": 0},
        {"node_timeout": -1.0},
        {"node_timeout": 5.0, "heartbeat": 5.0},
        {"max_waiting_bytes": 0},
        {"max_bytes": 1.5},
        {"max_bytes": 2**24},
        {"node_name": "n" * 255},
    ],
)
def test_an_option_that_cannot_be_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidOption):
        WorkersAdapter(**options)


def test_a_worker_is_named_by_its_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASHTREE_WORKER", "3")
    assert WorkersAdapter().node.name == "worker.3"

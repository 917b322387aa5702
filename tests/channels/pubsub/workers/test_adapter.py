"""The adapter of a worker, beyond the contract of all adapters: its bounds, and the end of its parent."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from actors import InvalidOption, Pid, Runtime, stop
from channels import PubSub
from channels.pubsub.workers.adapter import WorkersAdapter
from channels.pubsub.workers.frames import cut, unframe
from channels.telemetry import PUBSUB_DROPPED
from supervision import Supervisor

# Over real sockets, which a virtual clock would run away from.
REAL_CLOCK = True

LIMIT = 50_000


class Node:
    """A worker without a hub: the test reads what it sends."""

    def __init__(self, runtime: Runtime) -> None:
        self.hub, self.theirs = socket.socketpair()
        self.hub.setblocking(False)
        self.adapter = WorkersAdapter(self.theirs, node_name="w", max_waiting_bytes=LIMIT)
        self.pubsub = PubSub(self.adapter)
        self.problems: list[str] = []
        self._arrived = b""
        self.supervisor: Pid
        runtime.telemetry.attach(PUBSUB_DROPPED, self._note)

    def _note(self, event: Any, measured: Mapping[str, Any], about: Mapping[str, Any]) -> None:
        self.problems.append(about["problem"])

    async def start(self) -> None:
        self.supervisor = await Supervisor.start_link([self.pubsub.child_spec()])

    def sent(self) -> list[bytes]:
        """Return the envelopes that have come to the hub since the last call."""
        while True:
            try:
                chunk = self.hub.recv(65536)
            except BlockingIOError:
                break
            if not chunk:
                break
            self._arrived += chunk
        found = cut(self._arrived)
        envelopes = [envelope for _, envelope in unframe(self._arrived, found.ends)]
        self._arrived = self._arrived[found.end :]
        return envelopes

    def close(self) -> None:
        self.hub.close()
        self.theirs.close()


@pytest.fixture
async def node(runtime: Runtime) -> AsyncIterator[Node]:
    node = Node(runtime)
    await node.start()
    await wait_all_tasks_blocked()
    yield node
    node.close()


async def test_messages_of_one_turn_leave_in_order_behind_the_declaration(node: Node) -> None:
    for n in range(3):
        node.pubsub.broadcast("t", n)
    await wait_all_tasks_blocked()
    sent = node.sent()
    assert sent[0] == b"", "the declaration of its lane"
    assert [each.rpartition(b"\n")[2] for each in sent[-3:]] == [b"0", b"1", b"2"]


async def test_what_waits_for_a_hub_that_does_not_read_is_bounded_and_the_rest_is_counted(
    node: Node,
) -> None:
    text = "x" * 1000
    count = 2000
    for _ in range(count):
        node.pubsub.broadcast("t", text)
        await trio.lowlevel.checkpoint()
    counters = node.pubsub.statistics()["adapter"]
    assert LIMIT - 2000 < counters["waiting_bytes"] <= LIMIT
    assert counters["dropped"] == len(node.problems) > 0
    arrived = 0
    while arrived < count - counters["dropped"]:
        arrived += len([each for each in node.sent() if text.encode() in each])
        await trio.lowlevel.checkpoint()
    await wait_all_tasks_blocked()
    assert node.pubsub.statistics()["adapter"]["waiting_bytes"] == 0


async def test_the_head_of_a_frame_counts_towards_the_limit(node: Node) -> None:
    # The broadcasts happen in one turn, so the adapter sends nothing in between.
    node.pubsub.broadcast("t", "x" * 40_000)
    waiting = node.pubsub.statistics()["adapter"]["waiting_bytes"]
    room = LIMIT - waiting - (waiting - 40_000)
    node.pubsub.broadcast("t", "x" * (room + 1))
    assert node.pubsub.statistics()["adapter"]["dropped"] == 1
    node.pubsub.broadcast("t", "x" * room)
    counters = node.pubsub.statistics()["adapter"]
    assert (counters["dropped"], counters["waiting_bytes"]) == (1, LIMIT)


async def test_the_goodbye_is_the_last_that_a_node_sends(node: Node) -> None:
    node.pubsub.broadcast("t", "last message")
    await stop(node.supervisor)
    *_, message, goodbye = node.sent()
    assert b"last message" in message
    assert b"goodbye" in goodbye


async def test_without_its_parent_a_worker_goes_on_alone_and_counts_what_it_cannot_send(
    node: Node,
) -> None:
    node.hub.close()
    await wait_all_tasks_blocked()
    node.pubsub.broadcast("t", "to nobody")
    await wait_all_tasks_blocked()
    assert node.problems == ["the parent of the workers has ended"]
    assert node.pubsub.statistics()["adapter"]["dropped"] == 1
    assert node.pubsub.is_running


async def test_bytes_that_are_no_frame_separate_the_worker_from_its_hub(node: Node) -> None:
    node.hub.send(b"\xff" * 100)
    await wait_all_tasks_blocked()
    node.pubsub.broadcast("t", "to nobody")
    assert node.problems


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
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(InvalidOption):
        WorkersAdapter(theirs, **options)


def test_a_worker_is_named_by_its_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASHTREE_WORKER", "3")
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert WorkersAdapter(theirs).node.name == "worker.3"

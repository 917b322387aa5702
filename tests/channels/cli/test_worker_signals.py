"""The signals of a worker: those that it sends to itself, and those of other processes."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator

import pytest

from channels import Endpoint
from channels.cli.worker import _Worker
from channels.pubsub.workers.control import ControlLine
from channels.pubsub.workers.places import PlaceSockets


@pytest.fixture
def received() -> Iterator[list[int]]:
    """The signals that reach the handler which was there before the worker."""
    received: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [
        signal.signal(number, lambda signum, _: received.append(signum)) for number in numbers
    ]
    yield received
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


async def test_a_worker_whose_listener_is_restarted_counts_each_signal_once(
    received: list[int],
) -> None:
    ours, theirs = socket.socketpair()
    line = ControlLine(ours)
    worker = _Worker(Endpoint(sockets={}), line, PlaceSockets([]), PlaceSockets([]))
    worker._note_signals()
    worker._note_signals()
    # The parent asks this worker to stop, so the worker sends the signal to itself.
    worker._stop_together(signal.SIGTERM)
    assert received == [signal.SIGTERM]
    assert not worker._has_signal
    signal.raise_signal(signal.SIGTERM)
    assert received == [signal.SIGTERM, signal.SIGTERM]
    assert worker._has_signal
    line.close()
    theirs.close()

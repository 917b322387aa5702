"""The parent of workers, without processes: events that come together."""

from __future__ import annotations

import signal
import socket
from collections.abc import Sequence
from copy import copy
from functools import partial
from pathlib import Path

import pytest
import trio

from channels.pubsub.workers.control import ControlLine
from channels.pubsub.workers.parent import WorkersSettings, _Parent, _Process, _Sockets, run_parent
from channels.pubsub.workers.plan import Action, End, Finish, Kill
from channels.transports.listener import ListenError


class EndedParent(_Parent):
    """A parent whose workers end at once."""

    def __init__(self) -> None:
        settings = WorkersSettings(command=["worker"], host="127.0.0.1", port=0, workers=1)
        super().__init__(settings, [_Sockets([])], 0, "", lambda *_: None)
        self.begun = self.plan.begin(trio.current_time())

    async def _live(self, process: _Process) -> End:
        return End(-signal.SIGKILL)

    async def end_worker(self) -> None:
        (worker,) = self.plan.workers()
        process = self.processes[worker] = _Process(worker)
        await self._run_worker(process)

    async def follow(self) -> Sequence[Action]:
        actions = await self._next()
        async with trio.open_nursery() as nursery:
            for action in actions:
                if not isinstance(action, Finish):
                    self._carry_out(action, nursery)
        return actions


async def test_a_worker_may_end_before_the_parent_has_handled_a_signal() -> None:
    parent = EndedParent()
    await parent._put.send(partial(parent.plan.stop, signal.SIGTERM))
    await parent.end_worker()
    await parent.follow()
    assert Finish(0) in await parent.follow()
    assert parent.processes == {}


async def test_a_worker_may_end_at_the_very_time_at_which_it_is_killed() -> None:
    parent = EndedParent()
    (worker,) = parent.plan.workers()
    await parent.end_worker()
    worker.deadline = trio.current_time()
    actions = parent.plan.tick(trio.current_time())
    assert Kill(worker) in actions
    async with trio.open_nursery() as nursery:
        for action in actions:
            parent._carry_out(action, nursery)


async def test_a_port_in_use_is_reported_although_the_health_socket_cannot_be_used(
    tmp_path: Path,
) -> None:
    path = tmp_path / "health.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other, socket.socket() as taken:
        other.bind(str(path))
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = WorkersSettings(
            command=["worker"],
            host="127.0.0.1",
            port=taken.getsockname()[1],
            workers=1,
            health_socket=path,
        )
        with pytest.raises(ListenError, match="in use"):
            await run_parent(settings, on_serving=lambda *_: None)


async def test_a_place_whose_host_does_not_read_its_messages_is_closed() -> None:
    settings = WorkersSettings(command=["worker"], host="127.0.0.1", port=0, workers=2)
    with socket.socket() as own, socket.socket() as place:
        parent = _Parent(settings, [_Sockets([own]), _Sockets([place])], 0, "", lambda *_: None)
        now = trio.current_time()
        parent.plan.begin(now)
        # The plan starts the second worker when the first one is ready.
        for _ in range(2):
            worker = list(parent.plan.workers())[-1]
            parent.processes[worker] = _Process(worker)
            parent.plan.ready(worker, now, stop_seconds=1.0)
        host, ending = parent.plan.workers()
        ours, theirs = socket.socketpair()
        line = parent.processes[host].control = ControlLine(ours)
        while line.send({"type": "report"}):
            pass
        parent.plan.stop(signal.SIGTERM, now)
        async with trio.open_nursery() as nursery:
            for action in parent.plan.ended(ending, End(-signal.SIGKILL), now):
                parent._carry_out(action, nursery)
        assert own.fileno() >= 0
        assert place.fileno() == -1
        line.close()
        theirs.close()


async def test_a_new_worker_gets_a_socket_to_each_other_one_that_reads_its_messages() -> None:
    settings = WorkersSettings(command=["worker"], host="127.0.0.1", port=0, workers=3)
    parent = _Parent(settings, [_Sockets([])] * 3, 0, "", lambda *_: None)
    lines: list[ControlLine] = []
    parent.plan.begin(trio.current_time())
    for worker in [*parent.plan.workers(), *map(copy, [*parent.plan.workers()] * 2)]:
        ours, theirs = socket.socketpair()
        parent.processes[worker] = _Process(worker, control=ControlLine(ours))
        lines.append(ControlLine(theirs))
    new, reader, deaf = parent.processes.values()
    assert deaf.control is not None
    while deaf.control.send({"type": "report"}):
        pass
    to_reader, to_deaf = parent._introduce(new)
    with to_reader, to_deaf:
        assert to_deaf.recv(1) == b"", "a closed socket, which the new worker forgets"
        messages = lines[1].messages()
        assert await anext(messages) == {"type": "peer"}
        await messages.aclose()  # type: ignore[attr-defined]
        (theirs,) = lines[1].take_sockets(1)
        with theirs:
            theirs.send(b"hello")
            assert to_reader.recv(10) == b"hello"
    for line in (*lines, *(each.control for each in (new, reader, deaf))):
        assert line is not None
        line.close()

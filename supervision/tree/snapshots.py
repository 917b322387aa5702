"""Functions that read all processes of a runtime without blocking the event loop.

The snapshot reads the process table, in slices of `SLICE` processes. Other tasks run between two slices. So the
snapshot does not show a single moment: each record is correct for the moment when it was read.

The snapshot asks only busy servers for an answer, because a process that waits for its next message is not stuck.
"""

from __future__ import annotations

from itertools import chain
from typing import Any, Final

import trio
from attrs import define, field

from actors.errors import CallExit, CallTimeout
from actors.introspection import current_function, is_server
from actors.refs import Pid
from actors.runtime import Runtime, current_runtime
from actors.servers.gen_server import system_call
from supervision._requests import each_child_of, kind_of
from supervision.child_spec import RESTARTING, ChildInfo
from supervision.tree.records import ProcessHealth, ProcessView, TreeSnapshot, brief

__all__ = ["MAX_ASKED", "SLICE", "snapshot"]

SLICE: Final = 50
"""The number of processes that a snapshot reads before other tasks run. A slice takes about a millisecond."""

MAX_ASKED: Final = 256
"""The largest number of servers that one snapshot asks. Each question is one more message for a busy server."""


async def snapshot(*, deadline: float = 0.5, ask: bool = True) -> TreeSnapshot:
    """Return the tree of all processes of the current runtime.

        taken = await snapshot()
        print(taken.to_text())

    In the tree, a process is below the process that started it. For supervisors, the tree also has the ids and restarts
    of their children, and the children that are not running.

    Args:
        deadline: seconds that each busy server has for its answer. The snapshot asks all these servers at the same
            time.
        ask: With False the snapshot asks no server, so no process is `silent`.

    Returns:
        The snapshot. Its attribute `silent` has the servers that did not answer.

    Raises:
        RuntimeClosed: the caller belongs to no runtime.

    Not guaranteed: processes that start during the snapshot may be missing. A process that ends during the snapshot
    may be in it.
    """
    runtime = current_runtime()
    reader = _Reader(runtime)
    await reader.read()
    silent, asked, not_asked = await _ask_all(reader.busy, deadline) if ask else ((), 0, 0)
    return TreeSnapshot(
        roots=await reader.build(frozenset(silent)),
        time=trio.current_time(),
        asked=asked,
        silent=silent,
        not_asked=not_asked,
    )


@define
class _Reader:
    """One pass over the process table, and its results."""

    runtime: Runtime
    infos: dict[Pid, dict[str, Any]] = field(factory=dict)
    children: dict[Pid, ChildInfo] = field(factory=dict)
    absent: dict[Pid, list[ChildInfo]] = field(factory=dict)
    busy: list[Pid] = field(factory=list)

    async def read(self) -> None:
        runtime = self.runtime
        for number, pid in enumerate(runtime.processes()):
            if number % SLICE == SLICE - 1:
                await trio.lowlevel.checkpoint()
            info = runtime.process_info(pid)
            if info is None:
                continue
            info["function"] = current_function(pid)
            info["kind"] = kind_of(pid)
            self.infos[pid] = info
            if is_server(pid) and _is_busy(info):
                self.busy.append(pid)
            if info["kind"] is not None:
                await self._read_children(pid)

    async def _read_children(self, supervisor: Pid) -> None:
        for number, child in enumerate(each_child_of(supervisor)):
            if number % SLICE == SLICE - 1:
                await trio.lowlevel.checkpoint()
            if not isinstance(child.pid, Pid):
                self.absent.setdefault(supervisor, []).append(child)
            elif child.id is not None or child.restarts:
                self.children[child.pid] = child

    async def build(self, silent: frozenset[Pid]) -> tuple[ProcessView, ...]:
        """Make the records, newest first, so that the records of children exist before their parent's record."""
        below: dict[Pid, list[ProcessView]] = {}
        roots: list[ProcessView] = []
        for number, (pid, info) in enumerate(reversed(list(self.infos.items()))):
            if number % SLICE == SLICE - 1:
                await trio.lowlevel.checkpoint()
            own = below.pop(pid, [])
            own.reverse()
            own.extend(_absent(child) for child in reversed(self.absent.get(pid, ())))
            view = self._view(pid, info, tuple(own), pid in silent)
            parent = self._parent_of(info)
            if parent is None:
                roots.append(view)
            else:
                below.setdefault(parent, []).append(view)
        return tuple(reversed(roots))

    def _parent_of(self, info: dict[str, Any]) -> Pid | None:
        """Return the nearest ancestor in the snapshot; None if there is no such ancestor."""
        candidates = chain((info["parent"],), info["ancestors"])
        return next((pid for pid in candidates if pid in self.infos), None)

    def _started(self, pid: Pid, peer: Pid) -> bool:
        return peer in self.infos and self.infos[peer]["parent"] is pid

    def _view(
        self, pid: Pid, info: dict[str, Any], below: tuple[ProcessView, ...], silent: bool
    ) -> ProcessView:
        child = self.children.get(pid)
        parent = info["parent"]
        return ProcessView(
            pid=pid,
            id=None if child is None else child.id,
            label=brief(info["label"]),
            names=() if info["name"] is None else (info["name"],),
            kind=info["kind"],
            mailbox=info["queue_length"],
            restarts=0 if child is None else child.restarts,
            age=info["age"],
            health="silent" if silent else _health(info),
            function=info["function"],
            links=tuple(
                peer
                for peer in info["links"]
                if peer is not parent and not self._started(pid, peer)
            ),
            monitors=info["monitors"],
            children=below,
        )


def _is_busy(info: dict[str, Any]) -> bool:
    status: str = info["status"]
    length: int = info["queue_length"]
    return status == "running" or (status == "waiting" and length > 0)


def _health(info: dict[str, Any]) -> ProcessHealth:
    status = info["status"]
    if status == "exiting":
        return "exiting"
    if status == "suspended":
        return "suspended"
    return "busy" if _is_busy(info) else "idle"


def _absent(child: ChildInfo) -> ProcessView:
    return ProcessView(
        pid=None,
        id=child.id,
        label=child.type,
        names=(),
        kind=None,
        mailbox=0,
        restarts=child.restarts,
        age=None,
        health="restarting" if child.pid == RESTARTING else "stopped",
        function=None,
        links=(),
        monitors=(),
        children=(),
    )


async def _ask_all(servers: list[Pid], deadline: float) -> tuple[tuple[Pid, ...], int, int]:
    """Ask servers at the same time. Return the silent servers, and the numbers of asked and not asked servers."""
    mine = servers[:MAX_ASKED]
    answers: dict[Pid, bool] = {}

    async def ask(pid: Pid) -> None:
        answers[pid] = await _answers(pid, deadline)

    async with trio.open_nursery() as nursery:
        for pid in mine:
            nursery.start_soon(ask, pid)
    silent = tuple(pid for pid in mine if not answers[pid])
    return silent, len(mine), len(servers) - len(mine)


async def _answers(pid: Pid, deadline: float) -> bool:
    """Return True if a server answers in time. A server that has ended needs no answer."""
    try:
        await system_call(pid, lambda loop: None, timeout=deadline)
    except CallExit as error:
        return not isinstance(error, CallTimeout)
    return True

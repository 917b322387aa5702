"""Partition supervisors: several copies of one child, each for its share of the keys.

    await PartitionSupervisor.start_link(child_spec(Cache), name="caches", partitions=8)
    await call(partition("caches", user_id), "profile")

A process that everybody needs is a bottleneck, and one table that everybody locks is, too. Where the work can be told
apart by a key, a copy for each part of the keys does the same work without either. One key always leads to the same
copy, for as long as the number of partitions does not change.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import Any

from attrs import evolve

from actors.errors import StartIgnored
from actors.process import current_pid
from actors.refs import Pid
from actors.servers.gen_server import Sender
from actors.servers.results import Reply
from supervision._core.deadlock import ask
from supervision.backoff import Backoff
from supervision.child_spec import ChildSpec, RestartType, Supervised, child_spec
from supervision.errors import BadSupervisorOption, ChildNotFound, SupervisionError
from supervision.messages import ResizePartitions
from supervision.partitions.partition import Table, keep, require
from supervision.strategy import Strategy
from supervision.supervisor import Supervisor

__all__ = ["PartitionSupervisor"]

WithArguments = Callable[[tuple[Any, ...], int], tuple[Any, ...]]


class PartitionSupervisor(Supervisor):
    """A supervisor of copies of one child, whose ids are the numbers of the partitions, from 0.

    `which_children` and `count_children` are those of `Supervisor`. After `PartitionSupervisor` of Elixir; what is
    different is the default number of partitions, which is only there the number of schedulers, and the hash.
    """

    @classmethod
    async def start_link(  # type: ignore[override] # it has one child, many times
        cls,
        child: Supervised,
        *,
        name: object,
        partitions: int | None = None,
        with_arguments: WithArguments | None = None,
        strategy: Strategy = "one_for_one",
        max_restarts: float = 3,
        max_seconds: float = 5.0,
        backoff: Backoff | None = None,
        label: str | None = None,
        timeout: float = float("inf"),
    ) -> Pid:
        """Start the copies, linked, through their supervisor, to the current process if there is one.

            await PartitionSupervisor.start_link(
                child_spec(DynamicSupervisor),
                name="rooms",
                partitions=4,
                with_arguments=lambda args, number: (*args, number),
            )

        Args:
            child: a spec, or a class with `start_link`. Its id is not looked at, and its start must not give the
                copies one and the same name.
            name: of the supervisor, for `partition`.
            partitions: how many, from 1. By default the number of CPU cores; where runs are to be repeatable, on
                whatever machine, say how many.
            with_arguments: called with the arguments of the spec and the number of a partition, gives the arguments
                of that partition.
            strategy: as for `Supervisor`.
            max_restarts: as for `Supervisor`.
            max_seconds: as for `Supervisor`.
            backoff: as for `Supervisor`.
            label: how messages about the supervisor call it.
            timeout: seconds that the start of all together may take.

        Raises:
            BadSupervisorOption: an option cannot be.
            BadChildSpec, StartError, AlreadyStarted: as for `Supervisor`.
        """
        specs = _partitioned(child, name, partitions, with_arguments)
        return await super().start_link(
            specs,
            strategy=strategy,
            max_restarts=max_restarts,
            max_seconds=max_seconds,
            backoff=backoff,
            name=name,
            label=label,
            timeout=timeout,
        )

    @classmethod
    async def start(  # type: ignore[override] # it has one child, many times
        cls,
        child: Supervised,
        *,
        name: object,
        partitions: int | None = None,
        with_arguments: WithArguments | None = None,
        strategy: Strategy = "one_for_one",
        max_restarts: float = 3,
        max_seconds: float = 5.0,
        backoff: Backoff | None = None,
        label: str | None = None,
        timeout: float = float("inf"),
    ) -> Pid:
        """Like `start_link`, without the link."""
        specs = _partitioned(child, name, partitions, with_arguments)
        return await super().start(
            specs,
            strategy=strategy,
            max_restarts=max_restarts,
            max_seconds=max_seconds,
            backoff=backoff,
            name=name,
            label=label,
            timeout=timeout,
        )

    @classmethod
    def child_spec(  # type: ignore[override] # it has one child, many times
        cls,
        child: Supervised,
        *,
        name: object,
        id: Any = None,
        restart: RestartType = "permanent",
        significant: bool = False,
        **options: Any,
    ) -> ChildSpec:
        """Describe a partition supervisor as a child of another supervisor.

            PartitionSupervisor.child_spec(Cache, name="caches", partitions=8)

        Args:
            child: as for `start_link`.
            name: as for `start_link`.
            id: by default the name.
            restart: as in `ChildSpec`.
            significant: as in `ChildSpec`.
            options: as for `start_link`.
        """
        _partitioned(child, name, options.get("partitions"), options.get("with_arguments"))
        return ChildSpec(
            name if id is None else id,
            cls.start_link,
            (child,),
            {"name": name, **options},
            restart=restart,
            type="supervisor",
            significant=significant,
        )

    @staticmethod
    def partitions(supervisor: object) -> int:
        """How many partitions there are now.

        Raises:
            NoProcess: there is no such partition supervisor.
        """
        return require(supervisor).size

    @staticmethod
    async def resize(supervisor: object, partitions: int) -> int:
        """Change the number of partitions: stop those at the end, or start them again.

        Most keys lead to other copies than before. When there are to be fewer, no key leads to those that stop from
        the beginning; when there are to be more, keys lead to each of the new ones as soon as it has started. So a
        call made meanwhile finds a running copy. Resizes that are asked for at the same time are done one after
        another, and one whose caller is cancelled is still done.

        Args:
            supervisor: a pid or a name.
            partitions: from 0 to as many as it was started with.

        Returns:
            How many there were before.

        Raises:
            BadSupervisorOption: more than it was started with, or fewer than none.
            NoProcess: there is no such partition supervisor.
            ChildStartFailed: one could not be started again; it and those after it are not running.
            SupervisorDeadlock: the caller is a child of the supervisor that it is waiting for.
        """
        _check_count(partitions, least=0, most=len(require(supervisor).pids))
        before: int = await ask(supervisor, ResizePartitions(partitions))
        return before

    # The process

    async def handle_call(self, request: Any, sender: Sender) -> Reply:
        if type(request) is not ResizePartitions:
            return await super().handle_call(request, sender)
        try:
            return Reply(await self._resize(request.partitions))
        except SupervisionError as refusal:
            return Reply(refusal)

    async def _resize(self, partitions: int) -> int:
        table = require(current_pid())
        before = table.size
        # Fewer: first nobody is sent there any more, then they stop. More: the other way round.
        table.size = min(before, partitions)
        table.wanted = partitions
        try:
            for number in range(before - 1, partitions - 1, -1):
                try:
                    await self._stop_partition(number)
                except Exception:
                    # It has not stopped, and those before it have not either: their keys lead to them again.
                    table.size = number + 1
                    raise
            for number in range(before, partitions):
                await self._start_again(number)
                table.size = number + 1
        finally:
            table.wanted = table.size
        return before

    async def _stop_partition(self, number: int) -> None:
        try:
            await self.state.terminate_child(number)
        except ChildNotFound:
            # A temporary one that had ended by itself. Its supervisor has forgotten it.
            pass

    async def _start_again(self, number: int) -> None:
        try:
            await self.state.restart_child(number)
        except ChildNotFound:
            # A temporary one is forgotten when it has stopped.
            await self.state.start_child(self.state.spec_at_start(number))


def _partitioned(
    child: Supervised, name: object, partitions: int | None, with_arguments: WithArguments | None
) -> list[ChildSpec]:
    """The specs of all partitions, which share a table."""
    if name is None:
        raise BadSupervisorOption(
            "its partitions are found through it; write a name", option="name", value=name
        )
    if with_arguments is not None and not callable(with_arguments):
        raise BadSupervisorOption(
            "write a function of the arguments and the number of a partition, that returns a tuple",
            option="with_arguments",
            value=with_arguments,
        )
    count = (os.cpu_count() or 1) if partitions is None else partitions
    _check_count(count, least=1)
    spec, table = child_spec(child), Table(count)
    return [
        evolve(
            spec,
            id=number,
            start=_start_partition,
            args=(table, number, spec, _arguments(spec, number, with_arguments)),
            kwargs={},
        )
        for number in range(count)
    ]


def _arguments(
    spec: ChildSpec, number: int, with_arguments: WithArguments | None
) -> tuple[Any, ...]:
    if with_arguments is None:
        return spec.args
    args: Any = with_arguments(spec.args, number)
    if not isinstance(args, list | tuple):
        raise BadSupervisorOption(
            f"it returned {args!r} for partition {number}; it must return a tuple of arguments",
            option="with_arguments",
            value=with_arguments,
        )
    return tuple(args)


async def _start_partition(
    table: Table, number: int, spec: ChildSpec, args: tuple[Any, ...]
) -> Pid:
    keep(table)
    if number >= table.wanted:
        # A restart of the whole group starts those that were stopped, too; here these are none of the group.
        raise StartIgnored
    started: Awaitable[Pid] | Pid = spec.start(*args, **spec.kwargs)
    pid = await started if isawaitable(started) else started
    assert isinstance(pid, Pid)
    table.pids[number] = pid
    return pid


def _check_count(count: object, *, least: int, most: int | None = None) -> None:
    if (
        not isinstance(count, int)
        or isinstance(count, bool)
        or count < least
        or (most is not None and count > most)
    ):
        limit = "" if most is None else f" to {most}, with which it was started"
        raise BadSupervisorOption(
            f"write a number of partitions, from {least}{limit}", option="partitions", value=count
        )

"""Partition supervisors, which run several copies of one child and divide the keys among the copies.

    await PartitionSupervisor.start_link(child_spec(Cache), name="caches", partitions=8)
    await call(partition("caches", user_id), "profile")

One process that all others call is a bottleneck. If each request has a key, several copies of the process can share the
work. A key belongs to the same copy in every run of every program and on every machine, as long as the number of
partitions stays the same.
"""

from __future__ import annotations

import math
import os
import re
import zlib
from collections.abc import Awaitable, Callable
from enum import Enum
from inspect import isawaitable
from typing import Any, final

from attrs import evolve, frozen

from actors.addresses import Via
from actors.arguments import check_number
from actors.errors import InvalidArgument, InvalidOption, NoProcess, StartIgnored
from actors.process import current_pid, is_alive
from actors.refs import Pid, Ref
from actors.runtime import Runtime, current_runtime
from supervision._requests import ask, publish, published
from supervision.backoff import Backoff
from supervision.child_spec import ChildSpec, RestartType, Supervised, child_spec
from supervision.errors import ChildNotFound, NoPartitions
from supervision.messages import ResizePartitions
from supervision.strategy import DEFAULT_MAX_RESTARTS, DEFAULT_MAX_SECONDS, Strategy
from supervision.supervisor import Supervisor

__all__ = [
    "PartitionSupervisor",
    "PartitionVia",
    "partition",
    "partition_of",
    "which_partition",
]


class Table:
    """The pids of one supervisor's partitions. Only the supervisor's process changes the table.

    Attributes:
        size: The number of partitions in use, at most the number at the start. Keys belong to partitions 0 to
            `size - 1`.
        wanted: The number of partitions that may run. It is larger than `size` only while a resize starts partitions.
    """

    __slots__ = ("pids", "size", "wanted")

    def __init__(self, size: int) -> None:
        self.size = size
        self.wanted = size
        self.pids: list[Pid | None] = [None] * size


def partition_of(key: object, count: int) -> int:
    """Return the number of the partition that a key belongs to, from 0 to `count - 1`.

        partition_of(7, 4)              # 3
        partition_of("lobby", 4)        # the same in every run of every program

    For an integer, the number is its absolute value modulo `count`. For any other key, the number is a CRC-32 of the
    key's content, modulo `count`. The function does not use Python's `hash`, which differs from run to run for strings.

    Args:
        key: Any value with a repr that is the same in each run.
        count: The number of partitions, 1 or more.

    Raises:
        InvalidArgument: The repr of the key contains a memory address.
    """
    if isinstance(key, int):
        return abs(int(key)) % count
    return zlib.crc32(_bytes_of(key)) % count


_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def _bytes_of(key: object) -> bytes:
    if isinstance(key, str):
        return b"s" + key.encode(errors="surrogatepass")
    if isinstance(key, bytes):
        return b"b" + key
    if isinstance(key, tuple):
        return b"t" + b"".join(b"%d:%s" % (len(part), part) for part in map(_bytes_of, key))
    if isinstance(key, Enum):
        return f"e{type(key).__qualname__}.{key.name}".encode()
    if isinstance(key, Pid | Ref):
        return b"p%d" % key.number
    text = repr(key)
    if type(key).__repr__ is object.__repr__ or _ADDRESS.search(text):
        raise InvalidArgument(
            None,
            key,
            f"{key!r} cannot be a partition key: its repr contains a memory address, which differs from run to run; "
            "use a number, a string, a tuple of these, or an object whose repr shows its value",
        )
    return b"r" + text.encode(errors="surrogatepass")


@final
@frozen(slots=True)
class PartitionVia(Via):
    """The address of the partition that a key belongs to. `partition` makes it."""

    supervisor: object
    key: Any

    def whereis(self, runtime: Runtime) -> Pid | None:
        """Return the pid of the partition; None if it is not running."""
        table = published(Table, self.supervisor, runtime)
        if table is None or table.size == 0:
            return None
        pid = table.pids[partition_of(self.key, table.size)]
        return pid if pid is not None and is_alive(pid) else None


def partition(supervisor: object, key: Any) -> PartitionVia:
    """Return an address for the partition of a key, for use in place of a pid or a name.

        cast(partition("counters", user_id), "seen")

    Args:
        supervisor: The name of a partition supervisor. A pid works too, until a restart of the supervisor.
        key: Any hashable value that `partition_of` takes.

    Every use looks the partition up, so the address also reaches a restarted copy. You cannot start a process under
    this address.

    Raises:
        InvalidArgument: The repr of the key contains a memory address.
    """
    partition_of(key, 1)  # make a bad key raise here, and not later in a send
    return PartitionVia(supervisor, key)


def which_partition(supervisor: object, key: Any) -> Pid:
    """Return the pid behind `partition(supervisor, key)` at this moment.

    Args:
        supervisor: The pid or the name of the partition supervisor.
        key: Any value, as for `partition_of`.

    Raises:
        NoProcess: The partition supervisor or the partition is not running.
        NoPartitions: The supervisor was resized to 0.
        InvalidArgument: The repr of the key contains a memory address.
    """
    table = require(supervisor)
    if table.size == 0:
        raise NoPartitions(supervisor)
    pid = table.pids[partition_of(key, table.size)]
    if pid is None or not is_alive(pid):
        raise NoProcess(partition(supervisor, key), "which_partition", 0)
    return pid


def require(supervisor: object) -> Table:
    """Return the table of a partition supervisor, or raise NoProcess."""
    table = published(Table, supervisor, current_runtime())
    if table is None:
        raise NoProcess(supervisor, "partitions", 0)
    return table


WithArguments = Callable[[tuple[Any, ...], int], tuple[Any, ...]]


class PartitionSupervisor(Supervisor):
    """A supervisor of several copies of one child. Their ids are the numbers of the partitions, from 0.

    Source: Elixir's `PartitionSupervisor`. The hash of the keys and the default of `partitions` are different here.
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
        max_restarts: float = DEFAULT_MAX_RESTARTS,
        max_seconds: float = DEFAULT_MAX_SECONDS,
        backoff: Backoff | None = None,
        label: str | None = None,
        timeout: float = float("inf"),
    ) -> Pid:
        """Start a supervisor and the copies, linked to the current process if there is one.

            await PartitionSupervisor.start_link(
                child_spec(DynamicSupervisor),
                name="rooms",
                partitions=4,
                with_arguments=lambda args, number: (*args, number),
            )

        Args:
            child: A spec, or a class with `start_link`. The supervisor ignores the id of the spec. The spec must not
                give the same name to all copies.
            name: Registered name of the supervisor, for `partition`.
            partitions: Number of copies, 1 or more. The default is the number of CPU cores. Write a number if keys must
                belong to the same copies on all machines.
            with_arguments: A function that takes the arguments of the spec and the number of a partition, and returns
                the arguments for that partition.
            strategy: As for `Supervisor`.
            max_restarts: As for `Supervisor`.
            max_seconds: As for `Supervisor`.
            backoff: As for `Supervisor`.
            label: Name of the supervisor in messages.
            timeout: Seconds that the start of all copies together may take.

        Returns:
            The pid of the supervisor, after every copy has started.

        Raises:
            InvalidOption: An option has an invalid value.
            InvalidChildSpec, StartError, AlreadyStarted: As for `Supervisor`.
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
        max_restarts: float = DEFAULT_MAX_RESTARTS,
        max_seconds: float = DEFAULT_MAX_SECONDS,
        backoff: Backoff | None = None,
        label: str | None = None,
        timeout: float = float("inf"),
    ) -> Pid:
        """Start a supervisor as `start_link` does, without the link."""
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
            child: As for `start_link`.
            name: As for `start_link`.
            id: By default the name.
            restart: As in `ChildSpec`.
            significant: As in `ChildSpec`.
            options: As for `start_link`.

        Returns:
            The spec.
        """
        _partitioned(child, name, options.get("partitions"), options.get("with_arguments"))
        return cls._describe(
            (child,),
            {"name": name, **options},
            id=name if id is None else id,
            restart=restart,
            significant=significant,
        )

    @staticmethod
    def partitions(supervisor: object) -> int:
        """Return the number of partitions.

        Args:
            supervisor: A pid or a name.

        Raises:
            NoProcess: The partition supervisor is not running.
        """
        return require(supervisor).size

    @staticmethod
    async def resize(supervisor: object, partitions: int) -> int:
        """Change the number of partitions, by stopping the last partitions or starting them again.

        After a resize most keys belong to other copies. The supervisor takes the keys from a partition before it stops
        that partition, and assigns keys to a partition only after its start. So a call during a resize finds a running
        copy. The supervisor handles one resize after another, and completes a resize even if its caller was cancelled.

        Args:
            supervisor: A pid or a name.
            partitions: From 0 to the number at the start of the supervisor.

        Returns:
            The number of partitions before the resize.

        Raises:
            InvalidOption: `partitions` is outside this range.
            NoProcess: The partition supervisor is not running.
            ChildStartFailed: A partition did not start. That partition and all later partitions are not running.
            SupervisorDeadlock: The supervisor waits for the caller, which is one of its children.
        """
        _check_count(partitions, least=0, most=len(require(supervisor).pids))
        before: int = await ask(supervisor, ResizePartitions(partitions))
        return before

    # The process

    async def _answer(self, request: Any) -> Any:
        if type(request) is ResizePartitions:
            return await self._resize(request.partitions)
        return await super()._answer(request)

    async def _resize(self, partitions: int) -> int:
        table = require(current_pid())
        before = table.size
        # Take the keys from a partition before its stop, and assign keys to a partition only after its start.
        table.size = min(before, partitions)
        table.wanted = partitions
        try:
            for number in range(before - 1, partitions - 1, -1):
                try:
                    await self._stop_partition(number)
                except Exception:
                    # The partitions 0 to `number` still run, so assign keys to them again.
                    table.size = number + 1
                    raise
            for number in range(before, partitions):
                if await self._start_again(number) is None:
                    # The init of the partition returned Ignore, so assign no keys to this partition or later ones.
                    break
                table.size = number + 1
        finally:
            table.wanted = table.size
        return before

    async def _stop_partition(self, number: int) -> None:
        try:
            await self.state.terminate_child(number)
        except ChildNotFound:
            # The partition was temporary and had ended, so the supervisor has forgotten it.
            pass

    async def _start_again(self, number: int) -> Pid | None:
        try:
            return await self.state.restart_child(number)
        except ChildNotFound:
            # The supervisor forgets a temporary partition when it stops it, so start it as a new child.
            return await self.state.start_child(self.state.spec_at_start(number))


def _partitioned(
    child: Supervised, name: object, partitions: int | None, with_arguments: WithArguments | None
) -> list[ChildSpec]:
    """Return the specs of all partitions, which share one table."""
    if name is None:
        raise InvalidOption(
            "PartitionSupervisor",
            "name",
            name,
            "a name, because partition() finds the copies by the name of the supervisor",
        )
    if with_arguments is not None and not callable(with_arguments):
        raise InvalidOption(
            "PartitionSupervisor",
            "with_arguments",
            with_arguments,
            "a function of the arguments and the number of a partition that returns a tuple",
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
        raise InvalidOption(
            "PartitionSupervisor",
            "with_arguments",
            with_arguments,
            f"a function that returns a tuple of arguments; it returned {args!r} for partition {number}",
        )
    return tuple(args)


async def _start_partition(
    table: Table, number: int, spec: ChildSpec, args: tuple[Any, ...]
) -> Pid:
    publish(table)
    if number >= table.wanted:
        # A resize has stopped this partition. A restart of the whole group would start it again.
        raise StartIgnored
    started: Awaitable[Pid] | Pid = spec.start(*args, **spec.kwargs)
    pid = await started if isawaitable(started) else started
    assert isinstance(pid, Pid)
    table.pids[number] = pid
    return pid


def _check_count(count: object, *, least: int, most: int | None = None) -> None:
    limit = "" if most is None else f" to {most}, the number at the start of the supervisor"
    check_number(
        "PartitionSupervisor",
        "partitions",
        count,
        f"a number of partitions from {least}{limit}",
        least=least,
        most=math.inf if most is None else most,
        whole=True,
    )

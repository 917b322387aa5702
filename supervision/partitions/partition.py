"""Which partition a key belongs to, and the address that leads there.

    cast(partition("counters", user_id), "seen")

A key leads to the same partition in every run of every program, on whatever machine, as long as there are as many.
"""

from __future__ import annotations

import re
import zlib
from enum import Enum
from typing import Any, Final, final

from attrs import frozen

from actors.addresses import Via
from actors.errors import NoProcess
from actors.process import current_pid, is_alive, on_exit
from actors.refs import Pid, Ref
from actors.runtime import Runtime, current_runtime
from supervision.errors import SupervisionError

__all__ = [
    "BadPartitionKey",
    "NoPartitions",
    "Partition",
    "Table",
    "forget",
    "keep",
    "partition",
    "partition_of",
    "require",
    "which_partition",
]


class NoPartitions(SupervisionError):
    """The partition supervisor was resized to nothing, so no key leads anywhere.

    Field: `supervisor`.
    """

    def __init__(self, supervisor: object) -> None:
        super().__init__(
            f"{supervisor!r} has no partitions at present; PartitionSupervisor.resize brings them back"
        )
        self.supervisor = supervisor


class BadPartitionKey(SupervisionError, TypeError):
    """A key that would lead to another partition in every run of the program.

    Field: `key`.
    """

    def __init__(self, key: object) -> None:
        super().__init__(
            f"{key!r} cannot be a key: what is known of it is its place in memory; use a number, a string, "
            "a tuple of such, or an object whose repr says what it is"
        )
        self.key = key


class Table:
    """Where the partitions of one supervisor are. Written in its process alone."""

    __slots__ = ("pids", "size", "wanted")

    def __init__(self, size: int) -> None:
        # How many keys are spread over; never more than there were at the start.
        self.size = size
        # How many may start. Larger than the size only while the supervisor starts those that are missing.
        self.wanted = size
        self.pids: list[Pid | None] = [None] * size


# Only living supervisors are in here: `on_exit` takes them out.
_tables: Final[dict[Pid, Table]] = {}


def partition_of(key: object, count: int) -> int:
    """The number of the partition, of so many, that a key belongs to.

        partition_of(7, 4)              # 3
        partition_of("lobby", 4)        # the same in every run of every program

    Whole numbers are taken by their absolute value, modulo `count`; anything else by a CRC-32 of what it is. Not
    Python's `hash`, which is another one in each run for strings.

    Raises:
        BadPartitionKey: see there.
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
        raise BadPartitionKey(key)
    return b"r" + text.encode(errors="surrogatepass")


@final
@frozen(slots=True)
class Partition(Via):
    """The address of whatever partition a key belongs to; made by `partition`."""

    supervisor: object
    key: Any

    def whereis(self, runtime: Runtime) -> Pid | None:
        """Where the key leads now; None if nowhere."""
        table = find(self.supervisor, runtime)
        if table is None or table.size == 0:
            return None
        pid = table.pids[partition_of(self.key, table.size)]
        return pid if pid is not None and is_alive(pid) else None


def partition(supervisor: object, key: Any) -> Partition:
    """An address for the partition of a key, that may stand wherever a pid or a name may.

        cast(partition("counters", user_id), "seen")

    Args:
        supervisor: the name of a partition supervisor; a pid is good until that is restarted.
        key: any hashable value that `partition_of` takes.

    It is looked up whenever it is used, so it also reaches a copy that has been restarted. It cannot be given to a
    process as its name.

    Raises:
        BadPartitionKey: see there.
    """
    partition_of(key, 1)  # for what it raises, which would be out of place in the middle of a send
    return Partition(supervisor, key)


def which_partition(supervisor: object, key: Any) -> Pid:
    """The pid behind `partition(supervisor, key)` now.

    Raises:
        NoProcess: there is no such partition supervisor, or the partition is not running at this moment.
        NoPartitions: it has been resized to nothing.
        BadPartitionKey: see there.
    """
    table = require(supervisor)
    if table.size == 0:
        raise NoPartitions(supervisor)
    pid = table.pids[partition_of(key, table.size)]
    if pid is None or not is_alive(pid):
        raise NoProcess(partition(supervisor, key), "which_partition", 0)
    return pid


def find(supervisor: object, runtime: Runtime) -> Table | None:
    """The table of a partition supervisor, if it is one and alive."""
    process = runtime.resolve(supervisor)
    return None if process is None else _tables.get(process.pid)


def require(supervisor: object) -> Table:
    """The table of a partition supervisor, or NoProcess."""
    table = find(supervisor, current_runtime())
    if table is None:
        raise NoProcess(supervisor, "partitions", 0)
    return table


def keep(table: Table) -> None:
    """Let keys find their way through a table, for as long as the current process, a supervisor, lives."""
    supervisor = current_pid()
    if supervisor not in _tables:
        on_exit(lambda: forget(supervisor))
        _tables[supervisor] = table


def forget(supervisor: Pid) -> None:
    """A supervisor has ended, or will never run again."""
    _tables.pop(supervisor, None)

r"""The disk of a simulated machine, which loses and tears unsynced writes when the machine loses its power. *pure*.

    journal = node.disk.open("journal", "a")
    journal.write(b"one line\n")
    journal.fsync()                           # the line survives a power failure from now on
    node.disk.rename("journal", "journal.old")
    node.disk.sync_directory()                # and so does the new name

A write first changes the page cache, which a killed process leaves behind. `lose_power` keeps what was synced, and a
random part of the rest, in units of 512 bytes. The operations raise the `OSError` that a real disk raises.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, Protocol, TypeAlias

from supervision.laboratory.chaos.faults.kinds import DiskError, DiskFault, FlipBit, LoseWrite
from supervision.laboratory.entropy import Chance

__all__ = ["Disk", "DiskMode", "MachineDown", "VirtualFile"]

DiskMode: TypeAlias = Literal["ordered", "any"]

SECTOR: Final = 512


class MachineDown(BaseException):
    """The node that runs this code is dead. Programs do not catch it, because no code of a dead node runs."""


class Owner(Protocol):
    """The process that opens files: an incarnation of a node."""

    @property
    def is_over(self) -> bool:
        """True once the process has ended."""


class _Nobody:
    """The owner of the files of a disk that belongs to no world."""

    is_over = False


class _Inode:
    """A file without its name: the content in the page cache, and the content on the disk."""

    def __init__(self) -> None:
        self.content = bytearray()
        self.stored = bytearray()
        # The sectors that the next fsync writes. A dict keeps their order, so that a seed decides a run.
        self.dirty: dict[int, None] = {}

    def mark(self, start: int, end: int) -> None:
        """Note that bytes changed in the page cache."""
        self.dirty.update(dict.fromkeys(range(start // SECTOR, -(-end // SECTOR))))

    def store(self, sectors: Sequence[int]) -> None:
        """Write the size and some sectors to the disk."""
        size = len(self.content)
        del self.stored[size:]
        self.stored.extend(bytes(size - len(self.stored)))
        for sector in sectors:
            part = slice(sector * SECTOR, (sector + 1) * SECTOR)
            self.stored[part] = self.content[part]


class VirtualFile:
    """An open file of a `Disk`. `Disk.open` creates it.

    Attributes:
        path: the path with which the program opened it.
    """

    def __init__(self, disk: Disk, path: str, inode: _Inode, *, writable: bool) -> None:
        self.path = path
        self.inode = inode
        self._disk = disk
        self._writable = writable
        self._owner = disk.owner()
        self._power = disk.power_cycles
        self._is_closed = False

    @property
    def is_stale(self) -> bool:
        """True if the file is closed, or if the process that opened it is dead."""
        lost = self._power != self._disk.power_cycles
        return self._is_closed or lost or self._owner.is_over

    @property
    def size(self) -> int:
        """The size of the file in bytes."""
        return len(self.inode.content)

    def read(self, size: int = -1, at: int = 0) -> bytes:
        """Read bytes.

        Args:
            size: the most bytes to read; -1 reads to the end.
            at: the position of the first byte.

        Returns:
            The bytes.

        Raises:
            OSError: the file is closed, or a fault of the disk applies.
        """
        faults = self._begin("read")
        end = self.size if size < 0 else min(self.size, at + size)
        self._flip(faults, at, end)
        return bytes(self.inode.content[at:end])

    def write(self, data: bytes, at: int | None = None) -> None:
        """Write bytes into the page cache.

        Args:
            data: the bytes.
            at: the position of the first byte; None appends the bytes.

        Raises:
            OSError: the disk is full, the file is closed or read-only, or a fault of the disk applies.
        """
        inode = self.inode
        start = self.size if at is None else at
        end = start + len(data)
        faults = self._begin("write", size=len(data), at=start)
        first = min(start, self.size)
        inode.content.extend(bytes(max(0, end - self.size)))
        inode.content[start:end] = data
        if not any(isinstance(each, LoseWrite) for each in faults):
            inode.mark(first, end)
        self._flip(faults, start, end)

    def truncate(self, size: int = 0) -> None:
        """Change the size of the file. Zeros fill a longer file.

        Args:
            size: the new size in bytes.

        Raises:
            OSError: the disk is full, the file is closed or read-only, or a fault of the disk applies.
        """
        self._begin("truncate", size=size)
        content = self.inode.content
        del content[size:]
        self.inode.mark(len(content), size)
        content.extend(bytes(size - len(content)))

    def fsync(self) -> None:
        """Write the content and the size to the disk. In the mode `any`, this does not write the name of the file.

        Raises:
            OSError: the file is closed, or a fault of the disk applies. As in Linux, a failed call leaves no dirty
                page, so the next call succeeds although the disk has lost data.
        """
        inode = self.inode
        try:
            self._begin("fsync")
        except OSError:
            if not self.is_stale:
                inode.store([each for each in inode.dirty if self._disk.random.random() < 0.5])
                inode.dirty.clear()
            raise
        inode.store(list(inode.dirty))
        inode.dirty.clear()
        if self._disk.mode == "ordered":
            self._disk.commit()

    def close(self) -> None:
        """Close the file. This does not sync it."""
        self._is_closed = True

    def _begin(self, operation: str, **fields: Any) -> Sequence[DiskFault]:
        self._disk.check_alive()
        if self.is_stale or not (self._writable or operation in ("read", "fsync")):
            raise _error(errno.EBADF, self.path)
        return self._disk.begin(operation, self.path, **fields)

    def _flip(self, faults: Sequence[DiskFault], start: int, end: int) -> None:
        for fault in faults:
            if isinstance(fault, FlipBit) and end > start:
                place = self._disk.random.randrange(start, end)
                bit = 1 << self._disk.random.randrange(8)
                for content in (self.inode.content, self.inode.stored):
                    if place < len(content):
                        content[place] ^= bit


class Disk(dict[Any, Any]):
    """The disk of a machine: files, and a dict of Python values.

    The dict is for programs that need no honest disk: each assignment survives every failure. The files behave as those
    of a real disk.

    Args:
        random: decides what a power failure loses.
        mode: "ordered" keeps the order of changes of directories, and an `fsync` also commits the earlier ones, as in
            ext4. With "any", each unsynced change survives or not, as POSIX permits.

    Attributes:
        power_cycles: the number of power failures so far.
    """

    def __init__(self, random: Chance, mode: DiskMode = "ordered") -> None:
        super().__init__()
        self.random = random
        self.mode: DiskMode = mode
        self.power_cycles = 0
        # The world sets these: the process that runs now, the faults of an operation, and the trace.
        self.owner: Callable[[], Owner] = _Nobody
        self.on_operation: Callable[[str, str], Sequence[DiskFault]] | None = None
        self.record: Callable[[str, dict[str, Any]], object] = lambda kind, fields: None
        self._names: dict[str, _Inode] = {}
        self._stored_names: dict[str, _Inode] = {}
        # Unsynced changes of directories. Each maps names to files, or to None for a name that is gone.
        self._changes: list[dict[str, _Inode | None]] = []

    def open(self, path: str, mode: Literal["r", "r+", "a", "w", "x"] = "r") -> VirtualFile:
        """Open a file.

        Args:
            path: the path. A folder needs no creation.
            mode: "r" reads; "r+" also writes; "a" creates a missing file, "w" also empties an existing one; "x" creates
                a file that must not exist. A write has a position of its own in every mode.

        Returns:
            The open file.

        Raises:
            OSError: the file does not exist, or exists with "x"; or a fault of the disk applies.
        """
        self.check_alive()
        self.begin("open", path)
        inode = self._names.get(path)
        if inode is None:
            if mode in ("r", "r+"):
                raise _error(errno.ENOENT, path)
            inode = _Inode()
            self._change({path: inode})
        elif mode == "x":
            raise _error(errno.EEXIST, path)
        file = VirtualFile(self, path, inode, writable=mode != "r")
        if mode == "w" and file.size:
            file.truncate()
        return file

    def open_unnamed(self) -> VirtualFile:
        """Return a new file without a name, as programs use it for temporary data."""
        return VirtualFile(self, "", _Inode(), writable=True)

    def rename(self, old: str, new: str) -> None:
        """Give a file another name, and replace the file that has this name. This is atomic.

        Args:
            old: the present path.
            new: the new path.

        Raises:
            OSError: the file does not exist, or a fault of the disk applies.
        """
        self.check_alive()
        self.begin("rename", old, to=new)
        self._change({old: None, new: self._inode(old)})

    def unlink(self, path: str) -> None:
        """Remove the name of a file.

        Args:
            path: the path of the file.

        Raises:
            OSError: the file does not exist, or a fault of the disk applies.
        """
        self.check_alive()
        self.begin("unlink", path)
        self._inode(path)
        self._change({path: None})

    def sync_directory(self, path: str = "") -> None:
        """Write the names in a directory to the disk.

        Args:
            path: the directory: "data" for the file "data/journal", empty for the file "journal".

        Raises:
            OSError: a fault of the disk applies.
        """
        self.check_alive()
        self.begin("sync_directory", path)
        self.commit(None if self.mode == "ordered" else path)

    def exists(self, path: str) -> bool:
        """Return True if a file has this name.

        Args:
            path: the path of the file.
        """
        return path in self._names

    def size_of(self, path: str) -> int:
        """Return the size of a file in bytes.

        Args:
            path: the path of the file.

        Raises:
            OSError: the file does not exist.
        """
        return len(self._inode(path).content)

    def paths(self) -> list[str]:
        """Return the paths of all files, sorted."""
        return sorted(self._names)

    def lose_power(self) -> None:
        """Lose what was not synced, or a random part of it. All open files are closed.

        `world.nodes.kill(name, power=True)` calls this for the disk of the node.
        """
        self.power_cycles += 1
        before, random = self._names, self.random
        count = random.randint(0, len(self._changes))
        for number, change in enumerate(self._changes):
            if number < count if self.mode == "ordered" else random.random() < 0.5:
                _apply(change, self._stored_names)
        self._changes.clear()
        self._names = dict(self._stored_names)
        lost = [f"the name {path}" for path in before if self._names.get(path) is not before[path]]
        lost += [f"the removal of {path}" for path in self._names if path not in before]
        for path, inode in self._names.items():
            content = inode.content
            self._lose(inode)
            if content != inode.content:
                lost.append(f"a part of {path}")
        self.record("disk_lost", {"lost": lost})

    # For open files and the world

    def check_alive(self) -> None:
        """Raise MachineDown if the node that runs now is dead."""
        if self.owner().is_over:
            raise MachineDown

    def begin(self, operation: str, path: str, **fields: Any) -> Sequence[DiskFault]:
        """Apply the faults of an operation, and record it.

        Args:
            operation: one of the operations of disks that `On` accepts.
            path: the path of the file.
            **fields: further fields of the event in the trace.

        Returns:
            The faults that change the effect of the operation.

        Raises:
            OSError: a fault makes the operation fail.
        """
        faults = () if self.on_operation is None else self.on_operation(operation, path)
        # A fault may have cut the power.
        self.check_alive()
        if operation not in ("open", "read"):
            self.record("disk", {"operation": operation, "path": path, **fields})
        for fault in faults:
            if isinstance(fault, DiskError):
                raise _error(getattr(errno, fault.error), path)
        return faults

    def commit(self, directory: str | None = None) -> None:
        """Write the unsynced changes of a directory to the disk.

        Args:
            directory: the directory; None writes the changes of all directories.
        """
        rest = []
        for change in self._changes:
            if directory is None or directory in {path.rpartition("/")[0] for path in change}:
                _apply(change, self._stored_names)
            else:
                rest.append(change)
        self._changes = rest

    def _inode(self, path: str) -> _Inode:
        inode = self._names.get(path)
        if inode is None:
            raise _error(errno.ENOENT, path)
        return inode

    def _change(self, change: dict[str, _Inode | None]) -> None:
        _apply(change, self._names)
        self._changes.append(change)

    def _lose(self, inode: _Inode) -> None:
        """Replace the content by what the disk has after a power failure."""
        old, new, random = inode.stored, inode.content, self.random
        size, ordered = random.choice((len(old), len(new))), self.mode == "ordered"
        if ordered and len(new) > len(old):
            # The file system writes new data before the new size. So the file may also end at any sector between.
            ends = range(len(old) - len(old) % SECTOR + SECTOR, len(new), SECTOR)
            size = random.choice((size, random.choice(ends))) if ends else size
        result = old[:size]
        missing = size - len(result)
        result += bytes(missing) if ordered else random.choice((bytes, random.randbytes))(missing)
        for sector in inode.dirty:
            start, end = sector * SECTOR, min(size, len(new), (sector + 1) * SECTOR)
            is_new = ordered and end > len(old)
            if start < end and (is_new or random.random() < 0.5):
                result[start:end] = new[start:end]
        inode.content, inode.stored = result, bytearray(result)
        inode.dirty.clear()


def _apply(change: dict[str, _Inode | None], names: dict[str, _Inode]) -> None:
    for path, inode in change.items():
        if inode is None:
            names.pop(path, None)
        else:
            names[path] = inode


def _error(number: int, path: str) -> OSError:
    return OSError(number, os.strerror(number), path)

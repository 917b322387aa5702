"""SQLite on the disk of a simulated machine, through a VFS in the library that `sqlite3` has loaded.

The first connection within a run makes this VFS the default one of the library, and the end of the run restores the old
default. So `sqlite3.connect("history.db")` opens a file of `Disk`, with every write, sync and lock of SQLite, also in
WAL mode. In other threads, the library works as before.

The structures and callbacks live as long as the interpreter, because SQLite keeps pointers to them. A connection that
outlives its node gets an I/O error, and the end of the run closes it.
"""

from __future__ import annotations

import ctypes
import errno
import sqlite3
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from ctypes import CFUNCTYPE, c_char_p, c_int, c_int64, c_void_p
from typing import Any, ClassVar, Final

from attrs import define, field

from supervision.laboratory.entropy import Chance
from supervision.laboratory.simulation.world.disk import Disk, MachineDown, VirtualFile

__all__ = ["SQLiteFiles"]

# Result codes and flags of sqlite3.h.
_OK, _BUSY, _IOERR, _NOTFOUND, _FULL, _CANTOPEN = 0, 5, 10, 12, 13, 14
_SHORT_READ, _DELETE_NOENT = _IOERR | 2 << 8, _IOERR | 23 << 8
_READONLY, _CREATE, _DELETE_ON_CLOSE = 0x1, 0x4, 0x8
# A rollback journal, a super-journal and a WAL.
_JOURNALS = 0x800 | 0x4000 | 0x80000
_SHARED, _RESERVED, _PENDING = 1, 2, 3
_SHM_UNLOCK, _SHM_EXCLUSIVE = 0x1, 0x8
# As the VFS of Unix reports them. A sector keeps the bytes beside those that a write changes.
_SECTOR_SIZE, _POWERSAFE_OVERWRITE = 4096, 0x1000
# 1970-01-01 in milliseconds of the Julian calendar.
_EPOCH_MS: Final = 210_866_760_000_000

# The functions of `sqlite3_io_methods` and of `sqlite3_vfs`, in the order of sqlite3.h, with the types of their
# arguments. This VFS takes the functions without types from the real one.
_TYPES: Final = {"p": c_void_p, "s": c_char_p, "i": c_int, "q": c_int64}
_METHODS: Final = (
    *("close:p", "read:ppiq", "write:ppiq", "truncate:pq", "sync:pi", "file_size:pp", "lock:pi"),
    *("unlock:pi", "check_reserved_lock:pp", "file_control:pip", "sector_size:p"),
    *("device_characteristics:p", "shm_map:piiip", "shm_lock:piii", "shm_barrier:p"),
    "shm_unmap:pi",
)
_FUNCTIONS: Final = (
    *("open:pspip", "delete:psi", "access:psip", "full_pathname:psip", "dl_open", "dl_error"),
    *("dl_sym", "dl_close", "randomness:pip", "sleep:pi", "current_time", "get_last_error"),
    "current_time_int64:pp",
)


class _Methods(ctypes.Structure):
    """`sqlite3_io_methods`, version 2."""

    _fields_: ClassVar = [("version", c_int), ("functions", c_void_p * len(_METHODS))]


class _VFS(ctypes.Structure):
    """`sqlite3_vfs`, version 2."""

    _fields_: ClassVar = [
        *(("version", c_int), ("file_size", c_int), ("longest_path", c_int), ("next", c_void_p)),
        *(("name", c_char_p), ("data", c_void_p), ("functions", c_void_p * len(_FUNCTIONS))),
    ]


class _OpenFile:
    """The state of one `sqlite3_file`, a structure that begins with the address of its methods."""

    def __init__(self, disk: Disk, file: VirtualFile, flags: int, *, is_new: bool) -> None:
        self.disk = disk
        self.file = file
        self.is_deleted_on_close = bool(flags & _DELETE_ON_CLOSE)
        # The VFS of Unix syncs the directory with the first sync of a new journal.
        self.syncs_directory = is_new and bool(flags & _JOURNALS)
        self.level = self.shared = self.exclusive = 0
        self.memory: list[Any] = []


class _Library:
    """The library that `sqlite3` has loaded, and the VFS in it. There is one of them in an interpreter."""

    only: ClassVar[_Library | None] = None

    def __init__(self) -> None:
        # The program has imported it. The handle of this module also finds the functions of the library behind it.
        self.api: Any = ctypes.CDLL(getattr(sys.modules["_sqlite3"], "__file__", None))
        self.api.sqlite3_vfs_find.restype = c_void_p
        self.real = c_void_p(self.api.sqlite3_vfs_find(None))
        # The open files of this run, by the addresses of their structures.
        self.files: dict[int, _OpenFile] = {}
        # The shared memory of connections that earlier runs left open. They still have pointers to it.
        self.left: dict[int, Any] = {}
        self.run: SQLiteFiles | None = None
        self.thread = 0
        self._callbacks: list[Any] = []
        self.methods = _Methods(2)
        for place, function in enumerate(_METHODS):
            name, _, types = function.partition(":")
            self.methods.functions[place] = self._callback(types, self._method(name))
        self.vfs = _VFS.from_buffer_copy(
            (ctypes.c_char * ctypes.sizeof(_VFS)).from_address(self.real.value or 0)
        )
        self.vfs.version, self.vfs.name = 2, b"ashtree-simulation"
        for place, function in enumerate(_FUNCTIONS):
            name, _, types = function.partition(":")
            if types:
                real = _prototype(types)(self.vfs.functions[place])
                self.vfs.functions[place] = self._callback(types, self._function(name, real))

    def _callback(self, types: str, function: Callable[..., int]) -> int | None:
        callback = _prototype(types)(function)
        self._callbacks.append(callback)
        return ctypes.cast(callback, c_void_p).value

    def _method(self, name: str) -> Callable[..., int]:
        method = getattr(self, f"_{name}")

        def call(address: int, *args: Any) -> int:
            file = self.files.get(address)
            if file is None:
                return _IOERR
            try:
                return int(method(file, *args) or _OK)
            except MachineDown:
                return _IOERR
            except OSError as error:
                return _FULL if error.errno == errno.ENOSPC else _IOERR

        def close(address: int) -> int:
            call(address)
            self.files.pop(address, None)
            self.left.pop(address, None)
            return _OK

        return close if name == "close" else call

    def _function(self, name: str, real: Callable[..., int]) -> Callable[..., int]:
        """Return a function of the VFS, which leaves calls of other threads to the real one."""
        function = getattr(self, f"_{name}")

        def call(_: int, *args: Any) -> int:
            if self.run is None or threading.get_ident() != self.thread:
                return real(self.real, *args)
            try:
                return int(function(self.run, *args) or _OK)
            except MachineDown:
                return _CANTOPEN if name == "open" else _IOERR
            except OSError as error:
                missing = _DELETE_NOENT if error.errno == errno.ENOENT else _IOERR
                return _CANTOPEN if name == "open" else missing

        return call

    # The VFS

    def _open(
        self, run: SQLiteFiles, path: bytes | None, address: int, flags: int, out: int
    ) -> None:
        methods = c_void_p.from_address(address)
        # SQLite calls `close` only if the file has methods.
        methods.value = None
        disk, name = run.disk_here(), (path or b"").decode()
        is_new = not disk.exists(name)
        if path is None:
            file = disk.open_unnamed()
        elif flags & _CREATE:
            file = disk.open(name, "a")
        else:
            file = disk.open(name, "r" if flags & _READONLY else "r+")
        self.files[address] = _OpenFile(disk, file, flags, is_new=is_new)
        methods.value = ctypes.addressof(self.methods)
        if out:
            c_int.from_address(out).value = flags

    def _delete(self, run: SQLiteFiles, path: bytes, syncs: int) -> None:
        disk, name = run.disk_here(), path.decode()
        disk.unlink(name)
        if syncs:
            disk.sync_directory(name.rpartition("/")[0])

    def _access(self, run: SQLiteFiles, path: bytes, flags: int, out: int) -> None:
        disk, name = run.disk_here(), path.decode()
        # As the VFS of Unix does, count an empty file as missing.
        c_int.from_address(out).value = disk.exists(name) and disk.size_of(name) > 0

    def _full_pathname(self, run: SQLiteFiles, path: bytes, size: int, out: int) -> int:
        if len(path) >= size:
            return _CANTOPEN
        ctypes.memmove(out, path, len(path) + 1)
        return _OK

    def _randomness(self, run: SQLiteFiles, size: int, out: int) -> int:
        ctypes.memmove(out, run.random.randbytes(size), size)
        return size

    def _sleep(self, run: SQLiteFiles, microseconds: int) -> int:
        run.spend(microseconds / 1e6)
        return microseconds

    def _current_time_int64(self, run: SQLiteFiles, out: int) -> None:
        c_int64.from_address(out).value = int(_EPOCH_MS + run.now() * 1000)

    # Files

    def _close(self, file: _OpenFile) -> None:
        file.file.close()
        if file.is_deleted_on_close and file.file.path:
            file.disk.unlink(file.file.path)

    def _read(self, file: _OpenFile, out: int, size: int, at: int) -> int:
        data = file.file.read(size, at)
        ctypes.memmove(out, data.ljust(size, b"\0"), size)
        return _OK if len(data) == size else _SHORT_READ

    def _write(self, file: _OpenFile, data: int, size: int, at: int) -> None:
        file.file.write(ctypes.string_at(data, size), at)

    def _truncate(self, file: _OpenFile, size: int) -> None:
        file.file.truncate(size)

    def _sync(self, file: _OpenFile, flags: int) -> None:
        file.file.fsync()
        if file.syncs_directory:
            file.disk.sync_directory(file.file.path.rpartition("/")[0])
            file.syncs_directory = False

    def _file_size(self, file: _OpenFile, out: int) -> None:
        c_int64.from_address(out).value = file.file.size

    def _others(self, file: _OpenFile) -> list[_OpenFile]:
        """Return the other open files of living processes with the same content. The locks of the dead are gone."""
        inode = file.file.inode
        same = [each for each in self.files.values() if each.file.inode is inode]
        return [each for each in same if each is not file and not each.file.is_stale]

    def _lock(self, file: _OpenFile, level: int) -> int:
        if file.file.is_stale:
            # So a connection of a dead node, closed later, does not touch the new files.
            return _IOERR
        highest = max((each.level for each in self._others(file)), default=0)
        if level <= _RESERVED:
            is_free = highest < (_PENDING if level == _SHARED else _RESERVED)
        else:
            is_free = highest == 0
            if highest < _RESERVED:
                file.level = _PENDING
        if is_free:
            file.level = max(file.level, level)
        return _OK if is_free else _BUSY

    def _unlock(self, file: _OpenFile, level: int) -> None:
        file.level = min(file.level, level)

    def _check_reserved_lock(self, file: _OpenFile, out: int) -> None:
        levels = (each.level for each in (file, *self._others(file)))
        c_int.from_address(out).value = max(levels) >= _RESERVED

    def _file_control(self, file: _OpenFile, operation: int, argument: int) -> int:
        return _NOTFOUND

    def _sector_size(self, file: _OpenFile) -> int:
        return _SECTOR_SIZE

    def _device_characteristics(self, file: _OpenFile) -> int:
        return _POWERSAFE_OVERWRITE

    # The shared memory of WAL mode, which ends with the last process that uses it

    def _shm_map(self, file: _OpenFile, region: int, size: int, extends: int, out: int) -> None:
        if not file.memory:
            file.memory = next((each.memory for each in self._others(file) if each.memory), [])
        while extends and len(file.memory) <= region:
            file.memory.append(ctypes.create_string_buffer(size))
        mapped = region < len(file.memory)
        address = ctypes.addressof(file.memory[region]) if mapped else None
        c_void_p.from_address(out).value = address

    def _shm_lock(self, file: _OpenFile, offset: int, count: int, flags: int) -> int:
        wanted = (1 << count) - 1 << offset
        if flags & _SHM_UNLOCK:
            file.shared &= ~wanted
            file.exclusive &= ~wanted
            return _OK
        exclusively = bool(flags & _SHM_EXCLUSIVE)
        for each in self._others(file):
            if wanted & (each.exclusive | (each.shared if exclusively else 0)):
                return _BUSY
        if exclusively:
            file.exclusive |= wanted
        else:
            file.shared |= wanted
        return _OK

    def _shm_barrier(self, file: _OpenFile) -> None:
        """Do nothing, because all connections share one thread."""

    def _shm_unmap(self, file: _OpenFile, deletes: int) -> None:
        file.memory, file.shared, file.exclusive = [], 0, 0


def _prototype(types: str) -> Any:
    return CFUNCTYPE(c_int, *(_TYPES[each] for each in types))


@define(eq=False)
class SQLiteFiles:
    """The files of SQLite in one run.

    Args:
        random: the random numbers that SQLite asks for.
        disk_here: returns the disk of the code that runs now.
        now: returns the time of day, in seconds since the epoch.
        spend: lets virtual time pass for the code that runs now.
    """

    random: Chance
    disk_here: Callable[[], Disk]
    now: Callable[[], float]
    spend: Callable[[float], None]
    _connections: list[sqlite3.Connection] = field(factory=list, init=False)

    def keep(self, connection: sqlite3.Connection) -> None:
        """Take note of a new connection, which the end of the run closes if nobody has done so.

        The code of a killed node never closes its connections, and Python warns of each open one that it frees.
        """
        self._connections.append(connection)

    def open(self) -> str | None:
        """Make SQLite use the disks of this run, unless it does so already.

        Returns:
            Advice if this is impossible, because the module `sqlite3` hides its library; otherwise None.
        """
        try:
            library = _Library.only = _Library.only or _Library()
        except (AttributeError, OSError):
            return _STATIC
        if library.run is not self:
            library.run, library.thread = self, threading.get_ident()
            library.api.sqlite3_vfs_register(ctypes.byref(library.vfs), 1)
            # SQLite asks the default VFS for a new seed after this.
            library.api.sqlite3_randomness(0, None)
        return None

    def close(self) -> None:
        """Give SQLite its own files back."""
        library = _Library.only
        if library is not None and library.run is self:
            library.run = None
            library.left.update(
                (at, file.memory) for at, file in library.files.items() if file.memory
            )
            library.files.clear()
            library.api.sqlite3_vfs_register(library.real, 1)
            library.api.sqlite3_vfs_unregister(ctypes.byref(library.vfs))
            library.api.sqlite3_randomness(0, None)
        # The library knows none of the files any more, so these ends change no disk.
        for connection in self._connections:
            with suppress(sqlite3.Error):
                connection.close()
        self._connections.clear()


_STATIC: Final = (
    "this Python has SQLite inside its module sqlite3, where a simulation cannot replace the disk; use a Python whose "
    "sqlite3 loads the library of the system, such as Debian's, or give the program a fake database"
)

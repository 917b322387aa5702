"""SQLite on the disk of a simulated machine, through a VFS in the library that `sqlite3` has loaded.

The first connection within a run makes this VFS the default one of the library, and the end of the run restores the old
default. So `sqlite3.connect("history.db")` opens a file of `Disk`, with every write, sync and lock of SQLite, also in
WAL mode. In other threads, the library works as before.

The structures and callbacks live as long as the interpreter, because SQLite keeps pointers to them. A connection that
outlives its run, or its node, gets an I/O error.
"""

from __future__ import annotations

import ctypes
import errno
import sys
import threading
from collections.abc import Callable
from ctypes import CFUNCTYPE, POINTER, c_char_p, c_double, c_int, c_int64, c_void_p
from typing import Any, ClassVar, Final

from supervision.laboratory.entropy import Chance
from supervision.laboratory.simulation.world.disk import Disk, MachineDown, VirtualFile

__all__ = ["SQLiteFiles"]

# Result codes and flags of sqlite3.h.
_OK, _BUSY, _IOERR, _NOTFOUND, _FULL, _CANTOPEN = 0, 5, 10, 12, 13, 14
_SHORT_READ, _DELETE_NOENT, _CANNOT_MAP = _IOERR | 2 << 8, _IOERR | 23 << 8, _IOERR | 21 << 8
_READONLY, _CREATE, _DELETE_ON_CLOSE = 0x1, 0x4, 0x8
# A rollback journal, a super-journal and a WAL.
_JOURNALS = 0x800 | 0x4000 | 0x80000
_SHARED, _RESERVED, _PENDING, _EXCLUSIVE = 1, 2, 3, 4
_SHM_UNLOCK, _SHM_EXCLUSIVE, _SHM_LOCKS = 0x1, 0x8, 8
# As the default VFS of Unix reports them. A sector keeps the bytes beside those that a write changes.
_SECTOR_SIZE, _POWERSAFE_OVERWRITE = 4096, 0x1000
# 1970-01-01 in milliseconds of the Julian calendar.
_EPOCH_MS: Final = 210_866_760_000_000


class _Methods(ctypes.Structure):
    """`sqlite3_io_methods`."""


class _VFS(ctypes.Structure):
    """`sqlite3_vfs`, version 2."""


class _File(ctypes.Structure):
    """`sqlite3_file`. The address of the structure identifies an open file."""

    _fields_: ClassVar = [("methods", POINTER(_Methods))]


_F = POINTER(_File)
_TYPES: Final[dict[str, tuple[Any, ...]]] = {
    "xClose": (_F,),
    "xRead": (_F, c_void_p, c_int, c_int64),
    "xWrite": (_F, c_void_p, c_int, c_int64),
    "xTruncate": (_F, c_int64),
    "xSync": (_F, c_int),
    "xFileSize": (_F, POINTER(c_int64)),
    "xLock": (_F, c_int),
    "xUnlock": (_F, c_int),
    "xCheckReservedLock": (_F, POINTER(c_int)),
    "xFileControl": (_F, c_int, c_void_p),
    "xSectorSize": (_F,),
    "xDeviceCharacteristics": (_F,),
    "xShmMap": (_F, c_int, c_int, c_int, POINTER(c_void_p)),
    "xShmLock": (_F, c_int, c_int, c_int),
    "xShmBarrier": (_F,),
    "xShmUnmap": (_F, c_int),
}
_V = POINTER(_VFS)
_VFS_TYPES: Final[dict[str, tuple[Any, ...]]] = {
    "xOpen": (_V, c_char_p, c_void_p, c_int, POINTER(c_int)),
    "xDelete": (_V, c_char_p, c_int),
    "xAccess": (_V, c_char_p, c_int, POINTER(c_int)),
    "xFullPathname": (_V, c_char_p, c_int, c_void_p),
    "xDlOpen": (),
    "xDlError": (),
    "xDlSym": (),
    "xDlClose": (),
    "xRandomness": (_V, c_int, c_void_p),
    "xSleep": (_V, c_int),
    "xCurrentTime": (_V, POINTER(c_double)),
    "xGetLastError": (),
    "xCurrentTimeInt64": (_V, POINTER(c_int64)),
}
_Methods._fields_ = [
    ("iVersion", c_int),
    *((name, CFUNCTYPE(c_int, *types)) for name, types in _TYPES.items()),
]
_VFS._fields_ = [
    *(("iVersion", c_int), ("szOsFile", c_int), ("mxPathname", c_int), ("pNext", c_void_p)),
    *(("zName", c_char_p), ("pAppData", c_void_p)),
    *(
        (name, CFUNCTYPE(c_int, *types) if types else c_void_p)
        for name, types in _VFS_TYPES.items()
    ),
]


def _method_of(name: str) -> str:
    """Return the name of the method for a function of SQLite: `_shm_map` for `xShmMap`."""
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name[1:])


class _OpenFile:
    """The state of one `sqlite3_file`."""

    def __init__(self, disk: Disk, file: VirtualFile, flags: int, *, is_new: bool) -> None:
        self.disk = disk
        self.file = file
        self.is_deleted_on_close = bool(flags & _DELETE_ON_CLOSE)
        # The VFS of Unix syncs the directory with the first sync of a new journal.
        self.syncs_directory = is_new and bool(flags & _JOURNALS)
        self.level = 0
        self.shared = self.exclusive = 0
        self.memory: list[Any] | None = None


class _Library:
    """The library that `sqlite3` has loaded, and the VFS in it. There is one of them in an interpreter."""

    only: ClassVar[_Library | None] = None

    def __init__(self) -> None:
        # The program has imported it. The handle of this module also finds the functions of the library behind it.
        library: Any = ctypes.CDLL(getattr(sys.modules["_sqlite3"], "__file__", None))
        library.sqlite3_vfs_find.restype = _V
        self.library = library
        self.real = library.sqlite3_vfs_find(None)
        # The open files of this run, by the addresses of their structures.
        self.files: dict[int, _OpenFile] = {}
        # The shared memory of connections that earlier runs left open. They still have pointers to it.
        self.left: dict[int, Any] = {}
        self.world: SQLiteFiles | None = None
        self.thread = 0
        names = {name: CFUNCTYPE(c_int, *types) for name, types in _TYPES.items()}
        self.methods = _Methods(2, *(kind(self._guarded(name)) for name, kind in names.items()))
        real = self.real.contents
        self.vfs = _VFS(2, max(real.szOsFile, ctypes.sizeof(_File)), real.mxPathname)
        self.vfs.zName = b"ashtree-simulation"
        for name, types in _VFS_TYPES.items():
            kind = CFUNCTYPE(c_int, *types)
            setattr(self.vfs, name, kind(self._own(name)) if types else getattr(real, name))

    def _guarded(self, name: str) -> Callable[..., int]:
        method = getattr(self, _method_of(name))

        def call(pointer: Any, *args: Any) -> int:
            file = self.files.get(ctypes.addressof(pointer.contents))
            if file is None:
                return _IOERR
            try:
                return int(method(file, *args) or _OK)
            except MachineDown:
                return _IOERR
            except OSError as error:
                return _FULL if error.errno == errno.ENOSPC else _IOERR

        def close(pointer: Any) -> int:
            call(pointer)
            self.files.pop(ctypes.addressof(pointer.contents), None)
            self.left.pop(ctypes.addressof(pointer.contents), None)
            return _OK

        return close if name == "xClose" else call

    def _own(self, name: str) -> Callable[..., int]:
        """Return a function of the VFS, which leaves calls of other threads to the real one."""
        method, real = getattr(self, _method_of(name)), getattr(self.real.contents, name)

        def call(vfs: Any, *args: Any) -> int:
            if self.world is None or threading.get_ident() != self.thread:
                return int(real(self.real, *args))
            try:
                return int(method(self.world, *args) or _OK)
            except (MachineDown, OSError) as error:
                missing = getattr(error, "errno", None) == errno.ENOENT
                codes = {"xOpen": _CANTOPEN, "xDelete": _DELETE_NOENT if missing else _IOERR}
                return codes.get(name, _IOERR)

        return call

    # The VFS

    def _open(
        self, world: SQLiteFiles, path: bytes | None, address: int, flags: int, out: Any
    ) -> None:
        pointer = ctypes.cast(address, _F)
        # SQLite calls xClose only if the open file has methods.
        pointer.contents.methods = None
        disk = world.disk_here()
        name = "" if path is None else path.decode()
        is_new = not disk.exists(name)
        if path is None:
            file = disk.open_unnamed()
        elif flags & _CREATE:
            file = disk.open(name, "a")
        else:
            file = disk.open(name, "r" if flags & _READONLY else "r+")
        self.files[address] = _OpenFile(disk, file, flags, is_new=is_new)
        pointer.contents.methods = ctypes.pointer(self.methods)
        if out:
            out[0] = flags

    def _delete(self, world: SQLiteFiles, path: bytes, syncs: int) -> None:
        disk, name = world.disk_here(), path.decode()
        disk.unlink(name)
        if syncs:
            disk.sync_directory(name.rpartition("/")[0])

    def _access(self, world: SQLiteFiles, path: bytes, flags: int, out: Any) -> None:
        disk, name = world.disk_here(), path.decode()
        # As the VFS of Unix does, count an empty file as missing.
        out[0] = disk.exists(name) and bool(disk.size_of(name))

    def _full_pathname(self, world: SQLiteFiles, path: bytes, size: int, out: int) -> int:
        if len(path) >= size:
            return _CANTOPEN
        ctypes.memmove(out, path, len(path) + 1)
        return _OK

    def _randomness(self, world: SQLiteFiles, size: int, out: int) -> int:
        ctypes.memmove(out, world.random.randbytes(size), size)
        return size

    def _sleep(self, world: SQLiteFiles, microseconds: int) -> int:
        world.spend(microseconds / 1e6)
        return microseconds

    def _current_time(self, world: SQLiteFiles, out: Any) -> None:
        out[0] = (_EPOCH_MS + world.now() * 1000) / 86_400_000

    def _current_time_int64(self, world: SQLiteFiles, out: Any) -> None:
        out[0] = int(_EPOCH_MS + world.now() * 1000)

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

    def _file_size(self, file: _OpenFile, out: Any) -> None:
        out[0] = file.file.size

    def _others(self, file: _OpenFile) -> list[_OpenFile]:
        """Return the other open files of living processes with the same content. The locks of the dead are gone."""
        inode = file.file.inode
        files = self.files.values()
        same = (each for each in files if each is not file and each.file.inode is inode)
        return [each for each in same if not each.file.is_stale]

    def _lock(self, file: _OpenFile, level: int) -> int:
        if file.file.is_stale:
            # So a connection of a dead node, closed later, does not touch the new files.
            return _IOERR
        highest = max((each.level for each in self._others(file)), default=0)
        if level <= file.level:
            return _OK
        if level == _SHARED:
            is_free = highest < _PENDING
        elif level == _RESERVED:
            is_free = highest < _RESERVED
        else:
            if highest < _RESERVED:
                file.level = _PENDING
            is_free = highest == 0
        if is_free:
            file.level = level
        return _OK if is_free else _BUSY

    def _unlock(self, file: _OpenFile, level: int) -> None:
        file.level = min(file.level, level)

    def _check_reserved_lock(self, file: _OpenFile, out: Any) -> None:
        out[0] = any(each.level >= _RESERVED for each in (file, *self._others(file)))

    def _file_control(self, file: _OpenFile, operation: int, argument: int) -> int:
        return _NOTFOUND

    def _sector_size(self, file: _OpenFile) -> int:
        return _SECTOR_SIZE

    def _device_characteristics(self, file: _OpenFile) -> int:
        return _POWERSAFE_OVERWRITE

    # The shared memory of WAL mode, which the last process takes with it

    def _shm_map(self, file: _OpenFile, region: int, size: int, extends: int, out: Any) -> int:
        if file.file.is_stale:
            return _CANNOT_MAP
        if file.memory is None:
            shared = (each.memory for each in self._others(file) if each.memory is not None)
            file.memory = next(shared, [])
        while extends and len(file.memory) <= region:
            file.memory.append(ctypes.create_string_buffer(size))
        mapped = region < len(file.memory)
        out[0] = ctypes.addressof(file.memory[region]) if mapped else None
        return _OK

    def _shm_lock(self, file: _OpenFile, offset: int, count: int, flags: int) -> int:
        wanted = (1 << count) - 1 << offset
        if flags & _SHM_UNLOCK:
            file.shared &= ~wanted
            file.exclusive &= ~wanted
            return _OK
        for each in self._others(file):
            if wanted & (each.exclusive | (each.shared if flags & _SHM_EXCLUSIVE else 0)):
                return _BUSY
        if flags & _SHM_EXCLUSIVE:
            file.exclusive |= wanted
        else:
            file.shared |= wanted
        return _OK

    def _shm_barrier(self, file: _OpenFile) -> None:
        """Do nothing, because all connections share one thread."""

    def _shm_unmap(self, file: _OpenFile, deletes: int) -> None:
        file.memory, file.shared, file.exclusive = None, 0, 0


class SQLiteFiles:
    """The files of SQLite in one run.

    Args:
        random: the random numbers that SQLite asks for.
        disk_here: returns the disk of the code that runs now.
        now: returns the time of day, in seconds since the epoch.
        spend: lets virtual time pass for the code that runs now.
    """

    def __init__(
        self,
        random: Chance,
        *,
        disk_here: Callable[[], Disk],
        now: Callable[[], float],
        spend: Callable[[float], None],
    ) -> None:
        self.random = random
        self.disk_here = disk_here
        self.now = now
        self.spend = spend

    def open(self) -> str | None:
        """Make SQLite use the disks of this run, unless it does so already.

        Returns:
            An advice if this is impossible, because the module `sqlite3` hides its library; otherwise None.
        """
        library = _Library.only
        if library is None:
            try:
                library = _Library.only = _Library()
            except (AttributeError, OSError):
                return _STATIC
        if library.world is not self:
            library.world, library.thread = self, threading.get_ident()
            library.library.sqlite3_vfs_register(ctypes.byref(library.vfs), 1)
            # SQLite asks the default VFS for a new seed after this.
            library.library.sqlite3_randomness(0, None)
        return None

    def close(self) -> None:
        """Give SQLite its own files back."""
        library = _Library.only
        if library is not None and library.world is self:
            library.world = None
            library.left.update(
                (address, file.memory) for address, file in library.files.items() if file.memory
            )
            library.files.clear()
            library.library.sqlite3_vfs_register(library.real, 1)
            library.library.sqlite3_vfs_unregister(ctypes.byref(library.vfs))
            library.library.sqlite3_randomness(0, None)


_STATIC: Final = (
    "this Python has SQLite inside its module sqlite3, where a simulation cannot replace the disk; use a Python whose "
    "sqlite3 loads the library of the system, such as Debian's, or give the program a fake database"
)

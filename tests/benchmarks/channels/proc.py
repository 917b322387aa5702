"""CPU and memory of processes and of the machine, from `/proc`. The parsers are pure."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from pathlib import Path

from attrs import frozen

__all__ = [
    "busy_seconds",
    "cpu_model",
    "cpu_seconds",
    "parse_cpu",
    "parse_kilobytes",
    "parse_stat",
    "processes",
    "resident",
    "slab",
]

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@frozen
class Stat:
    """The fields of `/proc/PID/stat` that the benchmark needs."""

    parent: int
    ticks: int


def parse_stat(text: str) -> Stat:
    """Return the parent, and the ticks in user and system mode. The program name may contain brackets."""
    fields = text.rpartition(")")[2].split()
    return Stat(parent=int(fields[1]), ticks=int(fields[11]) + int(fields[12]))


def parse_cpu(text: str) -> int:
    """Return the busy ticks of all cores together, from `/proc/stat`."""
    fields = [int(field) for field in text.partition("\n")[0].split()[1:]]
    # The fields are user, nice, system, idle, iowait, irq, softirq, steal; guests count as user time.
    return sum(fields[:8]) - fields[3] - fields[4]


def parse_kilobytes(text: str, key: str) -> int:
    """Return the bytes of one line of `/proc/meminfo` or `/proc/PID/status`, or 0 if the line is missing."""
    for line in text.splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    return 0


def processes(pid: int) -> list[int]:
    """Return a process and all its descendants."""
    found = [pid]
    for each in found:
        try:
            for thread in Path(f"/proc/{each}/task").iterdir():
                found += [int(child) for child in (thread / "children").read_text().split()]
        except OSError:
            continue  # the process has ended
    return found


def cpu_seconds(pids: Sequence[int]) -> float:
    """Return the seconds of CPU that the processes have used, in user and system mode."""
    ticks = 0
    for pid in pids:
        try:
            ticks += parse_stat(Path(f"/proc/{pid}/stat").read_text()).ticks
        except OSError:
            continue  # the process has ended
    return ticks / _TICKS


def busy_seconds() -> float:
    """Return the busy seconds of all cores together, since the machine started."""
    return parse_cpu(Path("/proc/stat").read_text()) / _TICKS


def resident(pids: Sequence[int]) -> int:
    """Return the resident bytes of the processes."""
    total = 0
    for pid in pids:
        try:
            total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
        except OSError:
            continue  # the process has ended
    return total


def slab() -> int:
    """Return the bytes of the kernel's own objects on the whole machine. Sockets are among these objects."""
    return parse_kilobytes(Path("/proc/meminfo").read_text(), "Slab")


def cpu_model() -> str:
    """Return the name of the processor."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()

"""What an injector needs of the world around the processes, if faults are to reach it.

A simulation has all of it. On a live system whoever has such things may give an injector an adapter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

__all__ = ["Breakable", "Connections", "NodeControl"]


class Breakable(Protocol):
    """One open connection. It may have a `pid` besides: that of the process that serves it, for the trace."""

    @property
    def name(self) -> str:
        """Who has connected to whom, and which of these connections it is: `phone->server#2`."""

    def reset(self) -> None:
        """Break it; both ends are told."""

    def hold(self) -> None:
        """Let nothing arrive, until `release`; nothing is lost."""

    def release(self) -> None:
        """End a `hold`."""

    def delay(self, seconds: float) -> None:
        """Let everything take so much longer from now on; less, if it is negative."""


class Connections(Protocol):
    """A network."""

    @property
    def connections(self) -> Sequence[Breakable]:
        """Those that are open, the oldest first."""

    def partition_oneway(self, source: str, target: str) -> None:
        """Let nothing pass from one host to another."""

    def heal(self, one: str | None = None, other: str | None = None) -> None:
        """End partitions between two hosts, or all of them."""


class NodeControl(Protocol):
    """Nodes that can be killed."""

    def names(self) -> Sequence[str]:
        """All nodes, up or down."""

    def is_up(self, name: str) -> bool:
        """Whether a node runs."""

    def kill(self, name: str) -> None:
        """Kill a node that is up, as `kill -9` does."""

    def boot(self, name: str) -> object:
        """Start a node that is down anew."""

    def skew(self, name: str, seconds: float) -> None:
        """Put a node's clock forward."""

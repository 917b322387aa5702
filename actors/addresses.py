"""Addresses that are neither pids nor names: something that knows how to find a process.

Wherever a pid or a name is taken (`send`, `call`, `cast`, `monitor`, `send_after`, `start_link(name=...)`), a `Via` may
stand in its place. `Registry.via` makes the one that most programs need.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from actors.refs import Pid
    from actors.runtime import Runtime

__all__ = ["Via"]


class Via:
    """An address that is looked up by code of your own. Subclass it; the instances must be hashable.

    class Leader(Via):
        def __init__(self, cluster):
            self.cluster = cluster

        def whereis(self, runtime):
            return self.cluster.leader

    await call(Leader(cluster), "write")

    `whereis` alone makes an address for messages. With `register` it can also be given as a name, to `start_link` and
    `actors.names.register`. Whoever keeps such a name also has to release it at the end of the process: see
    `actors.process.on_exit`.

    All methods are called in the middle of other operations: they must be quick, must not wait, and, except for
    `register`, must not raise. After the `via` tuples of Erlang; a `Via` is not asked to send, only to find.
    """

    __slots__ = ()

    forgiving: ClassVar[bool] = False
    """Whether a message to this address that finds nobody vanishes, as one to a pid does, instead of being an error."""

    def whereis(self, runtime: Runtime) -> Pid | None:
        """The process that this address leads to now; None if there is none, or it has ended."""
        raise NotImplementedError(f"{type(self).__name__} needs a method whereis(runtime)")

    def register(self, pid: Pid) -> Pid | None:
        """Make this address lead to a living process, which may be one that is just being spawned.

        Returns:
            None if it does now; otherwise the process that has the address, and nothing has changed.
        """
        raise TypeError(
            f"{self!r} is an address to send to and cannot be given to a process as its name; "
            "use a Registry.via or a plain name"
        )

    def unregister(self, runtime: Runtime) -> None:
        """Make this address lead nowhere. Nobody having it is no error."""
        raise TypeError(f"{self!r} is not a name that was given, so it cannot be taken away")

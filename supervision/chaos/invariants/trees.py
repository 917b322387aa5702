"""What is true of supervision trees: nobody is left over, nobody is there twice, and everything has its order."""

from __future__ import annotations

from typing import Any, ClassVar

from actors.exits import KILL, KILLED, NORMAL, Crash, ExitReason
from actors.refs import Pid
from supervision.chaos.invariants.supervisor_model import Kid, Shadow, Supervised

__all__ = ["Intensity", "NoOrphan", "OneIncarnation", "RestartOrder", "ShutdownOrder"]


class NoOrphan(Supervised):
    """No process that a supervisor has spawned lives on without it.

    One that was told of the end of its supervisor (by a link, or by an exit signal before) and traps exits may take
    `grace` seconds to clean up, and as long before that as a fault holds up itself or somebody below it, whom it may
    have to wait for; one that was not told is an orphan at once.
    """

    name: ClassVar[str] = "no_orphan"

    grace: ClassVar[float] = 60.0

    def __init__(self) -> None:
        super().__init__()
        # The living processes that each living supervisor has spawned, and whether an exit signal has reached them.
        self._spawned: dict[Pid, dict[Pid, None]] = {}
        self._parents: dict[Pid, Pid] = {}
        self._told: dict[Pid, None] = {}
        # Those whose supervisor has ended, and since when they could clean up; None while a fault holds them up.
        self._left: dict[Pid, tuple[Pid, float | None]] = {}

    def process_spawned(self, pid: Pid, parent: Pid, label: str) -> None:
        if parent in self.shadows:
            self._spawned.setdefault(parent, {})[pid] = None
            self._parents[pid] = parent

    def signal_sent(self, sender: Pid, receiver: Pid, reason: ExitReason, linked: bool) -> None:
        if receiver in self._parents and reason is not NORMAL:
            self._told[receiver] = None

    def process_exited(self, pid: Pid, reason: ExitReason) -> None:
        parent = self._parents.pop(pid, None)
        if parent is not None:
            self._told.pop(pid, None)
            self._left.pop(pid, None)
            self._spawned.get(parent, {}).pop(pid, None)
        left = self._spawned.pop(pid, None)
        if left:
            now = self.now()
            self._left.update((child, (pid, now)) for child in left)

    def at_rest(self) -> str | None:
        for pid, (supervisor, since) in self._left.items():
            if pid not in self._told:
                return f"{self.who(pid)} lives, was not told, and its supervisor {self.who(supervisor)} has ended"
            if self._is_held_up(pid):
                # It begins to clean up, or goes on with it, when that is let go: at the next rest at the latest.
                self._left[pid] = (supervisor, None)
            elif since is None:
                self._left[pid] = (supervisor, self.now())
            elif self.now() - since > self.grace:
                return (
                    f"{self.who(pid)} lives {self.now() - since:g} s after the end of its supervisor "
                    f"{self.who(supervisor)}, of which it was told"
                )
        return None

    def _is_held_up(self, pid: Pid) -> bool:
        return self.is_held(pid) or any(map(self._is_held_up, self._spawned.get(pid, ())))


class OneIncarnation(Supervised):
    """A child of a supervisor is one living process at most."""

    name: ClassVar[str] = "one_incarnation"

    def __init__(self) -> None:
        super().__init__()
        # For each supervisor, by the id that it was starting and the label: a start function may have helpers of its
        # own, but not two of the same kind.
        self._living: dict[tuple[Pid, Any, str], Pid] = {}
        self._keys: dict[Pid, tuple[Pid, Any, str]] = {}

    def process_spawned(self, pid: Pid, parent: Pid, label: str) -> None:
        shadow = self.shadows.get(parent)
        if shadow is None or shadow.starting is None:
            return
        key = (parent, shadow.starting.id, label)
        other = self._living.get(key)
        if other is not None:
            self._twice(shadow, shadow.starting.id, pid, other)
        self._living[key] = pid
        self._keys[pid] = key

    def process_exited(self, pid: Pid, reason: ExitReason) -> None:
        key = self._keys.pop(pid, None)
        if key is not None and self._living.get(key) is pid:
            del self._living[key]

    def runs(self, shadow: Shadow, kid: Kid, before: Pid | None) -> None:
        if before is not None and before is not kid.pid:
            self._twice(shadow, kid.id, kid.pid, before)

    def _twice(self, shadow: Shadow, id: Any, pid: Pid | None, other: Pid) -> None:
        self.violated(
            f"{self.who(shadow.pid)} has started its child {id!r} as {self.who(pid)}, and {self.who(other)}, "
            "which is the same child, lives"
        )


class RestartOrder(Supervised):
    """Children are started in their order, and those restarted whom restart type and strategy say, in theirs."""

    name: ClassVar[str] = "restart_order"

    def starts(self, shadow: Shadow, id: Any) -> None:
        if shadow.gave_up:
            self.violated(f"{self.who(shadow.pid)} has given up, and starts a child{_named(id)}")
        elif shadow.doing == "terminate":
            self.violated(f"{self.who(shadow.pid)} is stopping, and starts a child{_named(id)}")
        elif shadow.doing == "other":
            self.violated(
                f"{self.who(shadow.pid)} starts a child{_named(id)} that nobody has asked for, and none has ended "
                f"that is to be started again: it handles {shadow.request!r}"
            )
        elif shadow.doing == "boot" and not shadow.dynamic:
            self._in_order(shadow, tuple(spec.id for spec in _specs(shadow)), "boots")
        elif shadow.doing in ("ended", "again") and shadow.pivot is not None:
            if not shadow.restarts():
                self.violated(
                    f"{self.who(shadow.pid)} starts a child{_named(id)}, because {shadow.pivot.id!r} has ended, with "
                    f"{shadow.reason!r}; that is {shadow.pivot.restart} and should not be started now"
                )
            elif shadow.failed:
                self.violated(
                    f"{self.who(shadow.pid)} goes on with{_named(id)} after a start that failed"
                )
            elif not shadow.dynamic:
                self._in_order(
                    shadow, shadow.group, f"restarts {shadow.pivot.id!r} ({shadow.strategy})"
                )

    def _in_order(self, shadow: Shadow, expected: tuple[Any, ...], what: str) -> None:
        if tuple(shadow.starts) != expected[: len(shadow.starts)]:
            self.violated(
                f"{self.who(shadow.pid)} {what} and starts {_listed(shadow.starts)}; the order is "
                f"{_listed(expected)}"
            )

    def is_done(self, shadow: Shadow, crashed: bool) -> None:
        # A pool does not say whose start it begins, so one whose child did not want to run looks like one that forgot.
        if crashed or shadow.doing != "ended" or shadow.dynamic or not shadow.restarts():
            return
        missing = shadow.group[len(shadow.starts) :]
        if missing and not shadow.failed and not shadow.gave_up and shadow.pivot is not None:
            self.violated(
                f"{self.who(shadow.pid)} has dealt with the end of {shadow.pivot.id!r} ({shadow.strategy}, "
                f"{shadow.pivot.restart}, {shadow.reason!r}) and has not started {_listed(missing)}"
            )


class ShutdownOrder(Supervised):
    """Children are stopped in the reverse of their order, each when those after it have ended.

    In a restart only those that the strategy says; in the end all of them, before their supervisor ends, unless that is
    killed or crashes.
    """

    name: ClassVar[str] = "shutdown_order"

    def stops(self, shadow: Shadow, kid: Kid) -> None:
        if shadow.dynamic or shadow.doing == "request":
            return
        ids = list(shadow.kids)
        position = ids.index(kid.id) if kid.id in shadow.kids else len(ids)
        later = [id for id in ids[position + 1 :] if shadow.kids[id].alive]
        pivot = shadow.pivot
        if later:
            self.violated(
                f"{self.who(shadow.pid)} tells {self.who(kid.pid)} to stop, while {later[-1]!r}, which was started "
                "after it, lives"
            )
        elif pivot is not None and not shadow.gave_up and not _is_stopped_with(shadow, kid, pivot):
            self.violated(
                f"{self.who(shadow.pid)} stops {kid.id!r} because {pivot.id!r} has ended; its strategy is "
                f"{shadow.strategy}, and the order {_listed(ids)}"
            )

    def ends(self, shadow: Shadow, reason: ExitReason) -> None:
        if reason is KILLED or reason is KILL or type(reason) is Crash:
            return
        left = [kid for kid in shadow.by_pid.values() if kid.alive]
        if left:
            self.violated(
                f"{self.who(shadow.pid)} has ended with {reason!r}, and its child {self.who(left[-1].last)} lives: "
                "it was not stopped before"
            )


class Intensity(Supervised):
    """A supervisor gives up at the restart that is one too many within its window: not before, and not after."""

    name: ClassVar[str] = "intensity"

    def __init__(self) -> None:
        super().__init__()
        # For each supervisor when it has tried to restart somebody.
        self._attempts: dict[Pid, list[float]] = {}

    def starts(self, shadow: Shadow, id: Any) -> None:
        if shadow.doing in ("ended", "again") and len(shadow.starts) == 1:
            self._count(shadow)

    def is_done(self, shadow: Shadow, crashed: bool) -> None:
        if crashed or not shadow.dynamic or shadow.starts or shadow.gave_up:
            return
        if shadow.restarts():
            # Its child did not want to run, and there was no process.
            self._count(shadow)

    def gives_up(self, shadow: Shadow) -> None:
        number, limit = len(self._recent(shadow)) + 1, shadow.setup.max_restarts
        if number <= limit or not shadow.restarts():
            self.violated(
                f"{self.who(shadow.pid)} gives up at restart {number} within {shadow.setup.max_seconds:g} s; "
                f"it may restart {limit} times"
            )

    def ends(self, shadow: Shadow, reason: ExitReason) -> None:
        self._attempts.pop(shadow.pid, None)

    def _count(self, shadow: Shadow) -> None:
        recent = self._attempts[shadow.pid] = [*self._recent(shadow), shadow.since]
        limit = shadow.setup.max_restarts
        if len(recent) > limit:
            self.violated(
                f"{self.who(shadow.pid)} restarts a child for the {len(recent)}. time within "
                f"{shadow.setup.max_seconds:g} s; it may do so {limit} times, and should have given up"
            )

    def _recent(self, shadow: Shadow) -> list[float]:
        window = shadow.setup.max_seconds
        return [at for at in self._attempts.get(shadow.pid, ()) if shadow.since - at <= window]


def _is_stopped_with(shadow: Shadow, kid: Kid, pivot: Kid) -> bool:
    """Whether a sibling is stopped when a child is restarted."""
    if shadow.strategy == "one_for_one":
        return False
    ids = list(shadow.kids)
    if shadow.strategy == "one_for_all" or pivot.id not in ids or kid.id not in ids:
        return True
    return ids.index(kid.id) > ids.index(pivot.id)


def _specs(shadow: Shadow) -> tuple[Any, ...]:
    return getattr(shadow.setup, "specs", ())


def _named(id: Any) -> str:
    return "" if id is None else f" {id!r}"


def _listed(ids: Any) -> str:
    return ", ".join(map(repr, ids)) or "nobody"

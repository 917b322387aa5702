"""A model of a supervisor with a fixed set of children, written from its documentation.

    model = Model(options, manners)
    model.run([Op(tick=4, verb="crash", id="a")], until=40)
    model.log           # the events of the supervisor and its children, each with its tick

The model knows the behaviour of each child at each start and at each stop. So it predicts every event of the
supervisor, in order and with its time. Times are whole ticks. A model raises `Ambiguous` if two independent events
happen at the same tick, because they may happen in any order.
"""

from __future__ import annotations

import heapq
from collections.abc import Generator
from typing import Any, TypeAlias

from attrs import define, field, frozen

__all__ = ["Ambiguous", "Child", "Line", "Manner", "Model", "Op", "Options", "Start"]

Line: TypeAlias = "tuple[int, tuple[Any, ...]]"

CLEAN = ("normal", "shutdown", "shutdown:detail")


class Ambiguous(Exception):
    """Two independent events happen at the same tick."""


@frozen
class Start:
    """The behaviour of a child at one of its starts.

    `kind` is "ok", "raise", "fail", "ignore", "stop" or "leave". With "leave", the start function exits before it
    starts a process. `ticks` is the time that the child's init takes.
    """

    kind: str = "ok"
    ticks: int = 0


@define(eq=False)
class Manner:
    """The behaviour and the spec of one child.

    `slow` is the time that `terminate` takes after the stop signal of the supervisor. It is None if `terminate` never
    ends. `shutdown` is "brutal_kill", a number of ticks, or None for no limit.
    """

    id: Any
    plain: bool = False
    restart: str = "permanent"
    shutdown: int | str | None = 10
    significant: bool = False
    supervisor: bool = False
    start_timeout: int | None = None
    named: bool = False
    traps: bool = False
    slow: int | None = 0
    breaks: bool = False
    # The reason with which `terminate` exits after a stop signal. None if `terminate` returns.
    leaves: str | None = None
    asks: bool = False
    # The id of a sibling that the child ends while it stops, and the way in which it does so.
    pushes: tuple[Any, str] | None = None
    # True if the start function waits after it has started the process. Otherwise the wait is in init.
    early: bool = False
    starts: list[Start] = field(factory=list)
    later: Start = field(factory=Start)

    def start(self, number: int) -> Start:
        """Return the behaviour of the child at its start `number`, counted from 0."""
        return self.starts[number] if number < len(self.starts) else self.later


@frozen(kw_only=True)
class Options:
    """The options of the supervisor. Times are in ticks."""

    strategy: str = "one_for_one"
    max_restarts: float = 3
    max_seconds: int = 10
    auto_shutdown: str = "never"
    max_children: float = float("inf")
    initial: int | None = None
    maximum: int = 0
    factor: int = 2
    reset_after: int | None = None


@define(eq=False)
class Op:
    """One action from outside: the end of a child, or a request to the supervisor."""

    tick: int
    verb: str
    id: Any = ""
    manner: Manner | None = None
    extra: tuple[Any, ...] = ()


@define(eq=False)
class Child:
    """The state of one child in its supervisor."""

    manner: Manner
    extra: tuple[Any, ...] = ()
    # The process as id#n. None if the supervisor knows no process. `ends` is the exit reason of a process whose end the
    # supervisor has not read yet.
    process: str | None = None
    last: str | None = None
    ready: bool = False
    ends: str | None = None
    retry: int | None = None
    restarts: int = 0
    delay: int = 0
    due: int | None = None

    @property
    def id(self) -> Any:
        return self.manner.id

    def comes_back(self, reason: str) -> bool:
        """Return True if the supervisor restarts the child after an end with this reason."""
        restart = self.manner.restart
        return restart == "permanent" or (restart == "transient" and reason not in CLEAN)

    @property
    def alive(self) -> bool:
        return self.process is not None and self.ends is None


class Model:
    """One supervisor.

    Attributes:
        log: each event so far, with its tick.
        answers: the answer to each request and the tick of the answer, by the number of the request.
        ended: the exit reason of the supervisor. None while it runs.
        refused: the reason of a failed start of the supervisor. None if the start succeeded.
    """

    def __init__(self, options: Options, manners: list[Manner]) -> None:
        self.options = options
        self.log: list[Line] = []
        self.answers: dict[int, tuple[int, Any]] = {}
        self.ended: str | None = None
        self.refused: str | None = None
        self.now = 0
        self.edges: set[str] = set()
        self._children: dict[Any, Child] = {}
        self._attempts: list[int] = []
        self._starts: dict[Any, int] = {}
        self._runs: dict[Any, int] = {}
        # Messages: (arrival, number, kind, argument).
        self._mail: list[tuple[int, int, str, Any]] = []
        self._number = 0
        self._busy: Generator[int, None, Any] | None = self._boot(manners)
        self._wake: int | None = 0
        self._stopped = False

    # Time

    def begin(self, now: int) -> None:
        """Set the tick at which the start of the supervisor begins."""
        self.now = self._wake = now

    def run(self, ops: list[tuple[int, Op]], until: int) -> None:
        """Carry out numbered operations and all their effects, up to a tick."""
        left = sorted(ops, key=lambda each: each[1].tick)
        while True:
            times = [each[1].tick for each in left[:1]]
            if self._wake is not None:
                times.append(self._wake)
            elif self._busy is None and self._mail and not self._stopped:
                times.append(max(self.now, self._mail[0][0]))
            if not times or min(times) > until:
                break
            self._refuse_ties(min(times), left[0][1].tick if left else None)
            self.now = min(times)
            if left and left[0][1].tick == self.now:
                self._act(*left.pop(0))
            else:
                self._step()
        self.now = until

    def _refuse_ties(self, now: int, op: int | None) -> None:
        """Raise `Ambiguous` if two of these happen at one tick: an operation, a step of the supervisor, a restart."""
        causes = [op == now, self._wake == now]
        if self.options.initial is not None:
            causes += [at == now for at, _, kind, _ in self._mail if kind == "again"]
        if sum(causes) > 1:
            raise Ambiguous

    @property
    def busy(self) -> bool:
        """True while the supervisor starts or stops a child, or has unread mail."""
        return self._wake is not None or any(at <= self.now for at, _, _, _ in self._mail)

    def _step(self) -> None:
        if self._busy is None:
            _, _, kind, argument = heapq.heappop(self._mail)
            self._busy = self._handle(kind, argument)
        self._wake = None
        try:
            self._wake = self.now + next(self._busy)
        except StopIteration:
            self._busy = None
            if self._stopped:
                self._over()

    def _over(self) -> None:
        for _, _, kind, argument in sorted(self._mail):
            if kind == "request":
                number, op = argument
                stopped = op.verb == "stop" and self.ended == "normal"
                self.answers[number] = (self.now, "stopped" if stopped else f"ended:{self.ended}")
        self._mail = []

    # From outside

    def _act(self, number: int, op: Op) -> None:
        child = self._children.get(op.id)
        match op.verb:
            case "crash" | "normal" | "shutdown" | "detail" | "kill" | "exit":
                if child is not None and child.alive and child.ready:
                    self._end_itself(child, op.verb)
            case "kill_top":
                if self.ended is None:
                    self.ended = "killed"
                    self._stopped, self._busy, self._wake = True, None, None
                    self._over()
            case _ if self.ended is not None:
                self.answers[number] = (self.now, "no process")
            case _:
                self._post(self.now, "request", (number, op))

    def _end_itself(self, child: Child, how: str) -> None:
        manner = child.manner
        reason = {
            "crash": "crash:ValueError",
            "normal": "normal",
            "shutdown": "shutdown",
            "detail": "shutdown:detail",
            "kill": "killed",
            "exit": "oops",
        }[how]
        if how == "exit" and manner.traps:
            return
        if not manner.plain and how not in ("kill", "exit"):
            self._say("terminate", child.id, reason)
        child.ends, child.ready = reason, False
        self._post(self.now, "exit", child)

    def _post(self, arrival: int, kind: str, argument: Any) -> None:
        self._number += 1
        heapq.heappush(self._mail, (arrival, self._number, kind, argument))

    def _say(self, *what: Any) -> None:
        self.log.append((self.now, what))

    # The supervisor

    def _boot(self, manners: list[Manner]) -> Generator[int, None, None]:
        for manner in manners:
            child = Child(manner)
            failed = yield from self._start_on_request(child)
            if failed not in (None, "ignore"):
                yield from self._stop_all()
                self.refused = f"shutdown:{manner.id}:{failed}"
                self.ended = self.refused
                self._stopped = True
                return

    def _handle(self, kind: str, argument: Any) -> Generator[int, None, None]:
        if kind == "exit":
            yield from self._exited(argument)
        elif kind == "again":
            child: Child = argument[0]
            token, reason = argument[1:]
            if self._children.get(child.id) is child and child.retry == token:
                yield from self._restart(child, reason, None)
        else:
            number, op = argument
            answer = yield from self._request(op)
            if op.verb == "stop":
                yield from self._finish("normal")
            self.answers[number] = (self.now, answer)

    def _exited(self, child: Child) -> Generator[int, None, None]:
        manner, reason, process = child.manner, child.ends, child.process
        assert reason is not None
        child.process = child.ends = None
        self._say("terminated", process, reason, False)
        if child.comes_back(reason):
            if self.options.initial is not None:
                yield from self._stop_group(child)
                self._later(child, reason)
                return
            yield from self._restart(child, reason, process)
            return
        if manner.restart == "temporary":
            del self._children[child.id]
        if not manner.significant or self.options.auto_shutdown == "never":
            return
        others = [
            other.id
            for other in self._children.values()
            if other is not child
            and other.manner.significant
            and (other.process is not None or other.retry is not None)
        ]
        if self.options.auto_shutdown == "any_significant" or not others:
            self.edges.add("auto_shutdown ended a supervisor")
            yield from self._finish("shutdown")
        else:
            self.edges.add("a significant child ended, and another one lived")

    def _later(self, child: Child, reason: str) -> None:
        wait, options = 0, self.options
        if options.initial is not None:
            reset = options.maximum if options.reset_after is None else options.reset_after
            ran = child.due is not None and self.now - child.due >= max(reset, 1)
            if child.delay == 0 or ran:
                if child.delay:
                    self.edges.add("a long run reset the delays of a child")
                child.delay = options.initial
            else:
                child.delay = min(child.delay * options.factor, options.maximum)
            wait = child.delay
            child.due = self.now + wait
        self._number += 1
        child.retry = self._number
        self._post(self.now + wait, "again", (child, child.retry, reason))

    def _restart(
        self, pivot: Child, reason: str, process: str | None
    ) -> Generator[int, None, None]:
        pivot.retry = None
        counted = self._count()
        if counted > self.options.max_restarts:
            self.edges.add("a supervisor gave up")
            self._say("gave_up", pivot.id, process, reason, counted)
            yield from self._finish("shutdown")
            return
        group = yield from self._stop_group(pivot)
        for child in group:
            failed = yield from self._launch(child)
            if failed is None:
                child.restarts += 1
                self._say("restarted", child.process, reason, counted)
            elif failed != "ignore":
                self.edges.add("a restart failed")
                self._say("start_failed", child.id, failed, True)
                self._later(child, failed)
                return

    def _count(self) -> int:
        """Count an attempt to restart, and return the attempts within the window."""
        options = self.options
        if options.max_restarts != float("inf"):
            recent = [t for t in self._attempts if self.now - t <= options.max_seconds]
            if any(self.now - t == options.max_seconds for t in recent):
                self.edges.add("a restart counted exactly at the end of the window")
            self._attempts = [*recent, self.now]
        return len(self._attempts)

    def _stop_group(self, pivot: Child) -> Generator[int, None, Any]:
        children = list(self._children.values())
        position = children.index(pivot)
        if self.options.strategy == "one_for_one":
            group = [pivot]
        elif self.options.strategy == "rest_for_one":
            group = children[position:]
        else:
            group = children
        for child in reversed(group):
            if child is not pivot:
                yield from self._stop(child)
        for child in group:
            if child is not pivot and child.manner.restart == "temporary":
                del self._children[child.id]
        return [child for child in group if child is pivot or child.manner.restart != "temporary"]

    def _stop_all(self) -> Generator[int, None, None]:
        for child in reversed(list(self._children.values())):
            yield from self._stop(child)

    def _finish(self, reason: str) -> Generator[int, None, None]:
        # Requests that arrive from now on get no answer.
        self._stopped = True
        yield from self._stop_all()
        self.ended = reason

    # One child

    def _start_on_request(self, child: Child) -> Generator[int, None, Any]:
        failed = yield from self._launch(child)
        if failed is None:
            self._say("started", child.process)
        elif failed != "ignore":
            self._say("start_failed", child.id, failed, False)
        if failed is None or (failed == "ignore" and child.manner.restart != "temporary"):
            self._children.setdefault(child.id, child)
        return failed

    def _launch(self, child: Child) -> Generator[int, None, Any]:
        manner = child.manner
        self._announce(manner.id)
        number = self._starts.get(manner.id, 0)
        start = manner.start(number)
        if start.kind == "leave":
            # The start function exits before it starts a process.
            self._starts[manner.id] = number + 1
            return "gone"
        if not manner.plain:
            self._starts[manner.id] = number + 1
            self._say("init", manner.id, number, *child.extra)
            if manner.asks:
                self._say("deadlock", manner.id, "start")
        limit = manner.start_timeout
        if limit is not None and start.ticks == limit:
            raise Ambiguous
        if limit is not None and start.ticks > limit:
            yield limit
            self.edges.add("a start took too long")
            return "timeout"
        if start.ticks:
            yield start.ticks
        if start.kind == "ignore":
            return "ignore"
        if start.kind != "ok":
            return {"raise": "crash:OSError", "fail": "busy", "stop": "shutdown:early"}[start.kind]
        run = self._runs[manner.id] = self._runs.get(manner.id, 0) + 1
        child.process, child.ready, child.ends = f"{manner.id}#{run}", True, None
        child.last = child.process
        return None

    def _announce(self, id: Any) -> None:
        """Record the event before the start of a child."""
        self._say("starting", id)

    def _stop(self, child: Child) -> Generator[int, None, None]:
        child.retry = None
        process = child.process
        if process is None:
            return
        manner = child.manner
        reason = child.ends
        if reason is not None:
            # The child has ended by itself. The supervisor reads the exit reason from its mailbox.
            self._mail = [each for each in self._mail if each[2] != "exit" or each[3] is not child]
            heapq.heapify(self._mail)
            self.edges.add("a supervisor stopped a child that had ended")
        else:
            child.ready = False
            reason = yield from self._unwind(manner, manner.id)
        child.process = child.ends = None
        self._say_stopped(manner, process, reason)

    def _say_stopped(self, manner: Manner, process: str, reason: str) -> None:
        expected = reason == "shutdown" or (manner.restart != "permanent" and reason in CLEAN)
        if not expected and not (manner.shutdown == "brutal_kill" and reason == "killed"):
            self._say("stop_failed", process, reason)
        self._say("terminated", process, reason, True)

    def _unwind(self, manner: Manner, waits_for: Any) -> Generator[int, None, Any]:
        if manner.shutdown == "brutal_kill":
            return "killed"
        if not manner.traps:
            return "shutdown"
        self._say("terminate", manner.id, "shutdown")
        if manner.asks:
            self._say("deadlock", waits_for, "stop")
        if manner.pushes is not None:
            id, how = manner.pushes
            sibling = self._children.get(id)
            if sibling is not None and sibling.alive and sibling.ready:
                self._end_itself(sibling, how)
        limit = manner.shutdown
        if isinstance(limit, int) and manner.slow == limit:
            raise Ambiguous
        if isinstance(limit, int) and (manner.slow is None or manner.slow > limit):
            yield limit
            self.edges.add("a supervisor killed a child that was slow to stop")
            return "killed"
        assert manner.slow is not None
        if manner.slow:
            yield manner.slow
        if manner.leaves is not None:
            return {"normal": "normal", "detail": "shutdown:detail", "other": "oops"}[manner.leaves]
        return "crash:OSError" if manner.breaks else "shutdown"

    # Requests

    def _request(self, op: Op) -> Generator[int, None, Any]:
        match op.verb:
            case "start":
                assert op.manner is not None
                return (yield from self._start_child(op.manner))
            case "which":
                return self.shown()
            case "count":
                return self.counted()
            case "stop":
                return "stopped"
        child = self._children.get(op.id)
        if child is None:
            return f"ChildNotFound:{op.id}"
        return (yield from self._request_about(child, op.verb))

    def _request_about(self, child: Child, verb: str) -> Generator[int, None, Any]:
        if verb == "spec":
            return child.id
        if verb == "terminate":
            if child.retry is not None:
                self.edges.add("a request cancelled a restart")
            yield from self._stop(child)
            if child.manner.restart == "temporary":
                del self._children[child.id]
            return None
        if child.retry is not None:
            return f"ChildRestarting:{child.id}"
        if child.process is not None:
            return f"ChildRunning:{child.id}:{child.process}"
        if verb == "delete":
            del self._children[child.id]
            return None
        failed = yield from self._start_on_request(child)
        return self._started(child, failed)

    def _start_child(self, manner: Manner) -> Generator[int, None, Any]:
        if manner.significant and self.options.auto_shutdown == "never":
            return f"InvalidChildSpec:{manner.id}"
        known = self._children.get(manner.id)
        if known is not None:
            if known.process is not None:
                return f"ChildAlreadyStarted:{manner.id}:{known.process}"
            return f"ChildAlreadyPresent:{manner.id}"
        if manner.id in self._runs:
            self.edges.add("a child got the id of an earlier child")
        child = Child(manner)
        failed = yield from self._start_on_request(child)
        return self._started(child, failed)

    def _started(self, child: Child, failed: str | None) -> str | None:
        if failed is None:
            return child.process
        if failed == "ignore":
            return None
        error = "ChildStartTimeout" if failed == "timeout" else "ChildStartFailed"
        return f"{error}:{child.id}:{failed}"

    # Observable state

    def in_order(self, lines: list[Line]) -> list[Line]:
        """Return events in a canonical order. Apply this to the real and to the expected events."""
        return lines

    def shown(self) -> list[tuple[Any, ...]]:
        """Return the expected result of `which_children`: id, process or status, type and restarts of each child."""
        return [
            (
                child.id,
                "restarting" if child.retry is not None else child.process,
                "supervisor" if child.manner.supervisor else "worker",
                child.restarts,
            )
            for child in reversed(self._children.values())
        ]

    def counted(self) -> tuple[int, int, int, int]:
        """Return the expected result of `count_children`: specs, active, supervisors, workers."""
        children = list(self._children.values())
        supervisors = sum(child.manner.supervisor for child in children)
        active = sum(child.alive and child.retry is None for child in children)
        return len(children), active, supervisors, len(children) - supervisors

    def living(self) -> list[str]:
        """Return the processes of the living children, in the order of their start."""
        return [str(each.process) for each in self._children.values() if each.alive]

    def known(self) -> list[Child]:
        """Return the children."""
        return list(self._children.values())

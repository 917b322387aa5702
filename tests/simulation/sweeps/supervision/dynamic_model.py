"""A model of a dynamic supervisor, written from its documentation."""

from __future__ import annotations

from collections.abc import Generator
from itertools import groupby
from typing import Any

from tests.simulation.sweeps.supervision.supervisor_model import Child, Line, Model, Op, Options

__all__ = ["DynamicModel"]


class DynamicModel(Model):
    """A dynamic supervisor. Its children have no ids, so the model uses the ids of their specs."""

    def __init__(self, options: Options) -> None:
        super().__init__(options, [])
        # The tick at which the supervisor begins to stop all children at the same time.
        self._stops_at: int | None = None

    def _announce(self, id: Any) -> None:
        """Record nothing, because a dynamic supervisor emits no event before a start."""

    def in_order(self, lines: list[Line]) -> list[Line]:
        # Children that stop at the same time may end in any order.
        at = self._stops_at
        if at is None:
            return lines
        ordered = [line for line in lines if line[0] < at]
        for _, moment in groupby((line for line in lines if line[0] >= at), lambda line: line[0]):
            ordered += sorted(moment, key=repr)
        return ordered

    def _act(self, number: int, op: Op) -> None:
        if op.manner is not None and op.manner.significant:
            # The caller gets this error before it sends the request.
            self.answers[number] = (self.now, f"InvalidChildSpec:{op.manner.id}")
        else:
            if op.verb in ("terminate", "stale") and op.id in self._runs:
                # The request has the current pid. A restart may replace this process before the supervisor handles it.
                run = 1 if op.verb == "stale" else self._runs[op.id]
                op = Op(op.tick, op.verb, op.id, extra=(f"{op.id}#{run}",))
            super()._act(number, op)

    def _exited(self, child: Child) -> Generator[int, None, None]:
        reason, process = child.ends, child.process
        assert reason is not None
        child.process = child.ends = None
        self._say("terminated", process, reason, False)
        if not child.comes_back(reason):
            del self._children[child.id]
        elif self.options.initial is not None:
            self._later(child, reason)
        else:
            yield from self._restart(child, reason, process)

    def _restart(
        self, pivot: Child, reason: str, process: str | None
    ) -> Generator[int, None, None]:
        counted = self._count()
        if counted > self.options.max_restarts:
            self.edges.add("a supervisor gave up")
            del self._children[pivot.id]
            self._say("gave_up", pivot.id, pivot.last, reason, counted)
            yield from self._finish("shutdown")
            return
        failed = yield from self._launch(pivot)
        if failed is None:
            pivot.retry = None
            pivot.restarts += 1
            # A restart makes the child the newest child.
            del self._children[pivot.id]
            self._children[pivot.id] = pivot
            self._say("restarted", pivot.process, reason, counted)
        elif failed == "ignore":
            del self._children[pivot.id]
        else:
            self.edges.add("a restart failed")
            self._say("start_failed", pivot.id, failed, True)
            self._later(pivot, failed)

    def _stop_all(self) -> Generator[int, None, None]:
        self._stops_at = began = self.now
        ends = []
        for child in self._children.values():
            if child.process is None:
                continue
            if child.alive:
                stopping = self._unwind(child.manner, None)
                ticks, reason = 0, ""
                try:
                    ticks = next(stopping)
                    next(stopping)
                except StopIteration as end:
                    reason = end.value
                child.ready = False
            else:
                ticks, reason = 0, str(child.ends)
                self.edges.add("a supervisor stopped a child that had ended")
            ends.append((began + ticks, child, reason))
        # The supervisor reports the ends only when all children have ended.
        last = max((at for at, _, _ in ends), default=began)
        if last > began:
            yield last - began
        for _, child, reason in ends:
            process, child.process, child.ends = child.process, None, None
            assert process is not None
            self._say_stopped(child.manner, process, reason)

    # Requests

    def _request(self, op: Op) -> Generator[int, None, Any]:
        match op.verb:
            case "start":
                return (yield from self._start_dynamic(op))
            case "which":
                return [(None, *each[1:]) for each in self.shown()]
            case "count":
                return self.counted()
            case "stop":
                return "stopped"
        child = self._children.get(op.id)
        process = op.extra[0] if op.extra else None
        if child is None or child.last != process:
            return f"ChildNotFound:{process}"
        if child.retry is not None:
            self.edges.add("a request cancelled a restart")
        yield from self._stop(child)
        del self._children[child.id]
        return None

    def _start_dynamic(self, op: Op) -> Generator[int, None, Any]:
        assert op.manner is not None
        if len(self._children) >= self.options.max_children:
            self.edges.add("a dynamic supervisor was full")
            return f"MaxChildren:{self.options.max_children}"
        child = Child(op.manner, op.extra)
        failed = yield from self._launch(child)
        if failed is None:
            self._children[child.id] = child
            self._say("started", child.process)
            return child.process
        if failed == "ignore":
            return "ignored"
        self._say("start_failed", child.id, failed, False)
        if failed == "timeout":
            return f"ChildStartTimeout:{child.id}:timeout"
        return f"StartError:None:{failed}"

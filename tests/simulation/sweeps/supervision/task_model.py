"""Models of tasks and of streams of tasks. They follow the documentation. Times are in ticks."""

from __future__ import annotations

import math
from typing import Any

from attrs import define, field, frozen

from tests.simulation.sweeps.supervision.supervisor_model import Ambiguous

__all__ = ["Job", "StreamModel", "StreamPlan", "TaskModel", "run_stream"]


@frozen
class Job:
    """The behaviour of one task: it takes `ticks`, and then returns `value`, crashes, or exits with "oops".

    A task with `stubborn` traps exits, and goes on after a stop signal.
    """

    value: Any
    ticks: int
    how: str = "ok"
    stubborn: bool = False

    @property
    def outcome(self) -> tuple[str, Any]:
        """The outcome of the task if nothing stops the task."""
        if self.how == "ok":
            return "ok", self.value
        return "exited", {"crash": "crash:ValueError", "exit": "oops"}[self.how]


@define(eq=False)
class TaskModel:
    """One task from the view of its owner. The task ends at the tick `ends` with `outcome`."""

    job: Job
    ends: int
    outcome: tuple[str, Any]
    linked: bool
    completed: bool = False
    taken: bool = False
    stays: bool = False

    def over(self, now: int) -> bool:
        return self.ends <= now

    def _ends_by(self, now: int, timeout: int) -> bool:
        if now < self.ends == now + timeout:
            raise Ambiguous
        return self.ends <= now + timeout

    def result(self, now: int, timeout: int) -> tuple[int, Any]:
        """Return the tick at which `result` returns, and its answer."""
        if self.taken:
            return now, ("exited", "noproc")
        self.taken = True
        if self._ends_by(now, timeout):
            return max(now, self.ends), self.outcome
        return now + timeout, "timeout"

    def yield_(self, now: int, timeout: int) -> tuple[int, Any]:
        """Return the tick at which `yield_` returns, and its answer."""
        if self.taken:
            return now, ("exited", "noproc")
        if self._ends_by(now, timeout):
            self.taken = True
            return max(now, self.ends), self.outcome
        return now + timeout, None

    def ignore(self, now: int) -> tuple[int, Any]:
        """Return the tick at which `ignore` returns, and its answer."""
        if self.over(now):
            return self.yield_(now, 0)
        self.taken, self.linked = True, False
        return now, None

    def forget(self, now: int) -> tuple[int, Any]:
        """Return the tick at which `forget` returns, and its answer."""
        there = not self.taken and not self.over(now)
        # A result that arrived before `forget` stays in the mailbox.
        self.stays = self.stays or (not self.taken and not there)
        self.taken = True
        return now, there

    def cancel(self, verb: str, now: int) -> None:
        """Apply the effect of cancelling the wait of an action. A cancelled `yield_` changes nothing."""
        if verb == "yield":
            return
        if verb == "shutdown":
            # The cancellation kills the task at once.
            self.linked = False
            if not self.over(now):
                self.ends, self.outcome = now, ("exited", "killed")
        self.taken = True

    def shutdown(self, now: int, limit: int | str) -> tuple[int, Any]:
        """Return the tick at which `shutdown` returns, and its answer."""
        if self.completed:
            return self.ignore(now)
        self.linked = False
        if self.over(now):
            return self.yield_(now, 0)
        taken, self.taken = self.taken, True
        if isinstance(limit, str):
            self.ends, self.outcome = now, ("exited", "killed")
            return now, None
        if not self.job.stubborn:
            self.ends, self.outcome = now, ("exited", "shutdown")
            return now, None
        if self._ends_by(now, limit):
            kind, value = self.outcome
            if taken and kind == "ok":
                return self.ends, ("exited", "normal")
            return self.ends, (kind, value)
        self.ends, self.outcome = now + limit, ("exited", "killed")
        return self.ends, self.outcome


def await_many(tasks: list[TaskModel], now: int, timeout: int) -> tuple[int, Any]:
    """Return the tick at which `await_many` returns, and its answer."""
    if any(task.taken for task in tasks):
        # The call does not wait. A task that has failed already comes first.
        failed = [task for task in tasks if not task.taken and task.over(now)]
        failed = [task for task in failed if task.outcome[0] != "ok"]
        first = min(failed, key=lambda each: each.ends, default=None)
        for task in tasks:
            task.taken = True
        return now, ("exited", "noproc") if first is None else first.outcome
    answer: tuple[int, Any] = (now, [task.job.value for task in tasks])
    # The caller has refused tasks that end at the same tick, because the order of their messages is open.
    for task in sorted(tasks, key=lambda each: each.ends):
        if not task._ends_by(now, timeout):
            answer = now + timeout, "timeout"
            break
        if task.outcome[0] != "ok":
            answer = max(now, task.ends), task.outcome
            break
        answer = max(now, task.ends), answer[1]
    for task in tasks:
        task.taken = True
    return answer


def yield_many(
    tasks: list[TaskModel], now: int, limit: int | None, timeout: int, on_timeout: str
) -> tuple[int, Any]:
    """Return the tick at which `yield_many` returns, and its answer."""
    outcomes: dict[int, Any] = {}
    for number, task in enumerate(tasks):
        if task.taken:
            outcomes[number] = ("exited", "noproc")
    lost = set(outcomes)
    wanted = len(tasks) if limit is None else limit
    at = now
    for number in sorted(range(len(tasks)), key=lambda each: tasks[each].ends):
        task = tasks[number]
        if number in lost:
            continue
        if len(outcomes) >= wanted:
            break
        if not task._ends_by(now, timeout):
            at = now + timeout
            break
        at = max(at, task.ends)
        outcomes[number] = task.outcome
        task.taken = True
    for number, task in enumerate(tasks):
        if on_timeout == "nothing" or (number in outcomes and task.over(at)):
            continue
        left = task.ignore(at) if on_timeout == "ignore" else task.shutdown(at, "brutal_kill")
        outcomes.setdefault(number, left[1])
    return at, [outcomes.get(number) for number in range(len(tasks))]


# Streams


@frozen(kw_only=True)
class StreamPlan:
    """A stream of tasks and its consumer. The consumer pauses after each outcome."""

    jobs: tuple[Job, ...]
    max_concurrency: int
    ordered: bool
    timeout: int
    on_timeout: str
    zips: bool
    pauses: tuple[int, ...]
    # The consumer leaves the block after this number of outcomes.
    leaves_after: int | None
    # The consumer cancels a wait for an outcome after `patience` ticks, and waits again after `rest` ticks.
    patience: int | None
    rest: int
    # The ticks after which the scope around the whole stream ends the loop. None for no scope.
    limit: int | None
    dies: bool
    """True if the crash of a task ends the consumer."""


@define
class StreamModel:
    """The expected run of a stream: outcomes and starts of tasks with their ticks, and the end of the loop."""

    outcomes: list[tuple[int, Any]] = field(factory=list)
    starts: list[tuple[int, Any]] = field(factory=list)
    end: str = "done"
    at: int = 0


@define(eq=False)
class _Run:
    position: int
    ends: int
    outcome: Any
    # True if the task runs longer than the timeout of the stream.
    late: bool
    # The tick at which the job of the task ends.
    over: int


class _Ended(Exception):
    """The consumer's loop over the outcomes has ended."""


class _Stream:
    """The state of a running stream."""

    def __init__(self, plan: StreamPlan, now: int) -> None:
        self.plan = plan
        self.now = now
        self.model = StreamModel()
        self.jobs = list(enumerate(plan.jobs))
        self.running: list[_Run] = []
        self.early: dict[int, Any] = {}
        self.ready: list[Any] = []
        self.position = 0
        # The ends of tasks that were too slow. With on_timeout="exit", these tasks go on.
        self.held: list[int] = []
        self.over = math.inf if plan.limit is None else now + plan.limit

    def advance(self, to: int) -> None:
        """Advance the time to a tick. End the loop if the scope of the stream is over first."""
        if self.now <= self.over <= to:
            if any(run.ends == self.over for run in self.running) or to == self.over:
                raise Ambiguous
            self.now = int(self.over)
            self.end("cancelled")
        self.now = to

    def end(self, how: str) -> None:
        self.model.end, self.model.at = how, self.now
        raise _Ended

    def start_more(self) -> None:
        plan = self.plan
        if self.now in self.held:
            raise Ambiguous
        held = sum(end > self.now for end in self.held)
        while self.jobs and len(self.running) + held < plan.max_concurrency:
            if self.held:
                # A task was too slow, so the stream may end before the new task takes its first step.
                raise Ambiguous
            number, job = self.jobs.pop(0)
            if job.ticks == plan.timeout:
                raise Ambiguous
            self.model.starts.append((self.now, job.value))
            late = job.ticks > plan.timeout
            outcome: Any = ("exited", "timeout") if late else job.outcome
            if outcome[0] == "exited" and plan.zips:
                outcome = (*outcome, job.value)
            ends = self.now + min(job.ticks, plan.timeout)
            self.running.append(_Run(number, ends, outcome, late, self.now + job.ticks))

    def settle(self) -> None:
        """Record the outcomes of the tasks that end now."""
        due = [run for run in self.running if run.ends == self.now]
        if len(due) > 1:
            raise Ambiguous
        for run in due:
            self.running.remove(run)
            if run.late and self.plan.on_timeout == "exit":
                self.held.append(run.over)
            elif self.plan.dies and run.outcome[0] == "exited" and not run.late:
                self.end(f"died:{run.outcome[1]}")
            elif self.held:
                # The consumer gets only the outcomes from before the timeout, and then the error.
                continue
            elif self.plan.ordered:
                self.early[run.position] = run.outcome
                while self.position in self.early:
                    self.ready.append(self.early.pop(self.position))
                    self.position += 1
            else:
                self.ready.append(run.outcome)

    def next(self) -> Any:
        """Return the next outcome. New tasks start only while the consumer waits for an outcome."""
        self.start_more()
        began = self.now
        while not self.ready:
            if self.held:
                self.end("timeout")
            if self.jobs and len(self.running) < self.plan.max_concurrency:
                self.start_more()
            if not self.running:
                self.end("done")
            first, patience = min(run.ends for run in self.running), self.plan.patience
            if patience is not None and began + patience <= first:
                if began + patience == first:
                    raise Ambiguous
                # The consumer cancels its wait, rests, and waits again.
                self.advance(began + patience)
                self.pause(self.plan.rest)
                return self.next()
            self.advance(first)
            self.settle()
        return self.ready.pop(0)

    def pause(self, ticks: int) -> None:
        """Let time pass in which the consumer does not wait for an outcome."""
        for left in range(ticks, 0, -1):
            self.advance(self.now + 1)
            if left == 1 and any(run.ends == self.now for run in self.running):
                raise Ambiguous
            self.settle()


def run_stream(plan: StreamPlan, now: int) -> StreamModel:
    """Return the expected run of a stream that begins at a tick."""
    stream = _Stream(plan, now)
    model = stream.model
    try:
        while True:
            outcome = stream.next()
            model.outcomes.append((stream.now, outcome))
            if len(model.outcomes) == plan.leaves_after:
                stream.end("left")
            stream.pause(plan.pauses[len(model.outcomes) % len(plan.pauses)])
    except _Ended:
        return model

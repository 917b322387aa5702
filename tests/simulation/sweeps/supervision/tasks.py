"""Random tasks and streams of tasks, compared with models."""

from __future__ import annotations

import copy
import math
from collections.abc import AsyncIterator, Iterator
from random import Random
from typing import Any

import trio
from attrs import evolve, frozen

from actors import (
    NORMAL,
    Down,
    Pid,
    current_pid,
    exit,
    is_alive,
    receive,
    spawn,
    trap_exits,
    wait_exit,
)
from actors.exits import Crash
from supervision import (
    Exited,
    Ok,
    Task,
    TaskExit,
    TaskReply,
    TaskSupervisor,
    TaskTimeout,
    async_stream,
    await_many,
    callers,
    yield_many,
)
from supervision.laboratory.chaos.errors import InvariantViolated
from supervision.laboratory.simulation.world.world import World
from tests.laws.scenarios import scenario
from tests.simulation.sweeps.supervision import task_model
from tests.simulation.sweeps.supervision.diary import TICK, now, short
from tests.simulation.sweeps.supervision.supervisor_model import Ambiguous
from tests.simulation.sweeps.supervision.task_model import (
    Job,
    StreamPlan,
    TaskModel,
    run_stream,
)

__all__ = ["streams", "tasks"]

ONE = ("result", "result", "yield", "yield", "yield", "shutdown", "shutdown", "ignore", "forget")


def a_job(stream: Random, value: Any) -> Job:
    how = stream.choice(("ok", "ok", "ok", "crash", "exit"))
    ticks = stream.choice((0, 1, 2, 3, 5, 8, 13, 21, 34))
    return Job(value, ticks, how, stream.random() < 0.2)


class Bench:
    """The common data of the tasks of one owner: their processes and their starts."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.running: dict[Any, Pid] = {}
        self.most = 0
        self.starts: list[tuple[int, Any]] = []

    async def work(self, job: Job, owner: Pid | None = None) -> Any:
        """Run a job as the function of a task. Also check `callers`."""
        if job.stubborn:
            trap_exits()
        if owner is not None:
            self.world.check(
                callers()[:1] == (owner,),
                f"the task {job.value} of {owner!r} has the callers {callers()!r}",
            )
            me, inner = current_pid(), await Task.async_(callers_here)
            self.world.check(
                inner == (me, owner),
                f"a task of the task {me!r} of {owner!r} has the callers {inner!r}",
            )
        self.running[job.value] = current_pid()
        self.starts.append((now(self.world), job.value))
        self.most = max(self.most, len(self.alive()))
        if job.ticks:
            await trio.sleep(job.ticks * TICK)
        if job.how == "crash":
            raise ValueError(job.value)
        if job.how == "exit":
            exit("oops")
        return job.value

    def alive(self) -> list[Any]:
        return sorted(value for value, pid in self.running.items() if is_alive(pid))


async def callers_here() -> tuple[Pid, ...]:
    return callers()


def shown(outcome: Any) -> Any:
    """Return an outcome in the notation of the models."""
    match outcome:
        case Ok(value):
            return "ok", value
        case Exited(reason, None):
            return "exited", short(reason)
        case Exited(reason, item):
            return "exited", short(reason), item.value
    return outcome


# Single tasks


@frozen(kw_only=True)
class Step:
    """One action of an owner on some of its tasks. Times are in ticks."""

    verb: str
    some: list[int]
    timeout: int
    limit: Any
    most: int | None
    on_timeout: Any
    # The ticks after which a scope cancels the action. None for no scope.
    patience: int | None

    def expected(self, tasks: list[TaskModel], at: int) -> tuple[int, Any]:
        """Return the tick and the answer that the model expects for the action. Update the models of the tasks."""
        if self.patience is None:
            return self.uncancelled(tasks, at)
        until, _ = self.uncancelled(copy.deepcopy(tasks), at)
        over = at + self.patience
        if until < over:
            return self.uncancelled(tasks, at)
        if until == over or any(each.ends == over for each in tasks):
            raise Ambiguous
        for task in tasks:
            task.cancel(self.verb, over)
        return over, "cancelled"

    def uncancelled(self, tasks: list[TaskModel], at: int) -> tuple[int, Any]:
        """Return the expected tick and answer of an action without a cancel scope."""
        if self.verb in ("await_many", "yield_many") and len({t.ends for t in tasks}) < len(tasks):
            raise Ambiguous
        match self.verb:
            case "result":
                return tasks[0].result(at, self.timeout)
            case "yield":
                return tasks[0].yield_(at, self.timeout)
            case "shutdown":
                return tasks[0].shutdown(at, self.limit)
            case "ignore":
                return tasks[0].ignore(at)
            case "forget":
                return tasks[0].forget(at)
            case "await_many":
                return task_model.await_many(tasks, at, self.timeout)
        return task_model.yield_many(tasks, at, self.most, self.timeout, self.on_timeout)

    async def carry_out(self, task: Task[Any]) -> Any:
        """Carry out the action on one task. Return the answer in the notation of the models."""
        match self.verb:
            case "result":
                return "ok", await task.result(timeout=self.timeout * TICK)
            case "yield":
                return shown(await task.yield_(timeout=self.timeout * TICK))
            case "shutdown":
                limit = self.limit
                return shown(await task.shutdown(limit if limit == "brutal_kill" else limit * TICK))
            case "ignore":
                return shown(await task.ignore())
        return task.forget()


class Owner:
    """A process that starts tasks and waits for them in random ways."""

    def __init__(self, world: World, stream: Random, number: int) -> None:
        self.world, self.stream, self.number = world, stream, number
        self.bench = Bench(world)
        self.traps = stream.random() < 0.8
        self.tasks: list[Task[Any]] = []
        self.models: list[TaskModel] = []
        self.done: list[str] = []
        self.leaves = stream.choice((NORMAL, "bye"))
        self.cancelled = self.given_up = False

    async def run(self) -> None:
        if self.traps:
            trap_exits()
        for number in range(self.stream.randint(1, 5)):
            await self.start(a_job(self.stream, f"t{number}"))
        if self.stream.random() < 0.15:
            await self.give_up_a_start()
        for _ in range(self.stream.randint(2, 8)):
            await self.step()
        await self.look_into_the_mailbox()
        if self.leaves is not NORMAL:
            exit(self.leaves)

    async def start(self, job: Job) -> None:
        stream, bench, me = self.stream, self.bench, current_pid()
        began = now(self.world)
        kind = stream.choice(("async", "async", "supervised", "nolink", "nolink", "completed"))
        linked = kind in ("async", "supervised")
        model = TaskModel(job, began + job.ticks, job.outcome, linked)
        if kind == "async":
            task = Task.async_(bench.work, job, me)
        elif kind == "supervised":
            task = await TaskSupervisor.async_("tasks", bench.work, job, me)
        elif kind == "nolink":
            task = await TaskSupervisor.async_nolink("tasks", bench.work, job, me)
        else:
            task = Task.completed(job.value)
            model = TaskModel(job, began, ("ok", job.value), False, completed=True)
        self.tasks.append(task)
        self.models.append(model)

    async def give_up_a_start(self) -> None:
        """Cancel the caller while the supervisor starts a task. The task must end without calling its function."""
        with trio.move_on_after(0):
            job = Job("given up", 0)
            _ = await TaskSupervisor.async_nolink("tasks", self.bench.work, job, current_pid())
        self.given_up = True

    def draw(self) -> Step:
        """Return a random step."""
        stream = self.stream
        some = stream.sample(range(len(self.tasks)), stream.randint(1, len(self.tasks)))
        several = stream.random() < 0.25
        verb = stream.choice(("await_many", "yield_many") if several else ONE)
        cancels = stream.random() < 0.25 and verb in ("result", "yield", "shutdown", "await_many")
        return Step(
            verb=verb,
            some=some if several else some[:1],
            timeout=stream.choice((0, 1, 3, 6, 12)),
            limit=stream.choice((1, 4, "brutal_kill")),
            most=stream.choice((None, 1, 2)),
            on_timeout=stream.choice(("nothing", "ignore", "kill_task")),
            patience=stream.choice((1, 2, 3, 5)) if cancels else None,
        )

    async def step(self) -> None:
        """Carry out one random step at a later tick, and compare its answer with the model."""
        await trio.sleep_until((now(self.world) + self.stream.choice((1, 1, 2, 4, 9))) * TICK)
        at, step = now(self.world), self.draw()
        self.check_running(at)
        ahead = copy.deepcopy(self.models)
        try:
            if any(each.ends == at for each in ahead):
                raise Ambiguous
            until, expected = step.expected([ahead[each] for each in step.some], at)
            dies = not self.traps and self.dies_by(until, ahead)
            if dies and dies[0] == until and self.ends_elsewhere(step, until, ahead):
                # The owner's death and the end of the step happen in the same tick. Either may come first.
                raise Ambiguous
        except Ambiguous:
            return
        self.models = ahead
        if dies:
            # The owner must end during this step, so the step must not return.
            expected = "the end of its owner"
        scope = "" if step.patience is None else f", cancelled after {step.patience * TICK:g} s"
        self.done.append(f"{at * TICK:g} s: {step.verb} of {step.some}{scope}")
        self.cancelled = self.cancelled or expected == "cancelled"
        got = await self.answer(step)
        self.world.check(
            (now(self.world), got) == (until, expected),
            f"{step} of {self.told(step.some)} returned {got} at {now(self.world) * TICK:g} s; expected {expected} at "
            f"{until * TICK:g} s; before: {'; '.join(self.done)}",
        )

    def check_running(self, at: int) -> None:
        """Check that exactly the expected tasks run now."""
        if any(model.ends == at for model in self.models) or self.dies_by(at) is not None:
            return
        expected = sorted(model.job.value for model in self.models if not model.over(at))
        self.world.check(
            self.bench.alive() == expected,
            f"at {at * TICK:g} s, the tasks {self.bench.alive()} live; expected {expected}; "
            f"{'; '.join(self.done)}: {self.told(list(range(len(self.models))))}",
        )

    async def answer(self, step: Step) -> Any:
        """Carry out a step, possibly in a cancel scope."""
        if step.patience is None:
            return await self.uncancelled(step)
        with trio.move_on_after(step.patience * TICK):
            return await self.uncancelled(step)
        return "cancelled"

    async def uncancelled(self, step: Step) -> Any:
        chosen = [self.tasks[each] for each in step.some]
        try:
            if step.verb == "await_many":
                return await await_many(chosen, timeout=step.timeout * TICK)
            if step.verb != "yield_many":
                return await step.carry_out(chosen[0])
            found = await yield_many(
                chosen,
                limit=math.inf if step.most is None else step.most,
                timeout=step.timeout * TICK,
                on_timeout=step.on_timeout,
            )
            self.world.check(
                [each for each, _ in found] == chosen, "yield_many returns the tasks in order"
            )
            return [shown(outcome) for _, outcome in found]
        except TaskTimeout:
            return "timeout"
        except TaskExit as error:
            return "exited", short(error.reason)

    def ends_elsewhere(self, step: Step, until: int, models: list[TaskModel]) -> bool:
        """Return True if a task that a step does not wait for ends at a tick."""
        return any(
            each.ends == until for index, each in enumerate(models) if index not in step.some
        )

    def dies_by(
        self, until: int, models: list[TaskModel] | None = None
    ) -> tuple[int, list[str]] | None:
        """Return the tick and the possible reasons of the owner's end if linked tasks crash up to a tick. Else None."""
        crashes = [
            (each.ends, each.outcome[1])
            for each in (self.models if models is None else models)
            if each.linked and each.outcome[0] != "ok" and each.ends <= until
        ]
        first = min(crashes, default=None)
        return None if first is None else (first[0], [why for at, why in crashes if at == first[0]])

    async def look_into_the_mailbox(self) -> None:
        """Check that no message arrived for a task whose result the owner has taken or discarded."""
        await trio.sleep_until((now(self.world) + 50) * TICK)
        refs = {task.ref for task in self.tasks}
        try:
            stray = await receive(lambda m: type(m) is Down and m.ref not in refs, timeout=0)
        except trio.TooSlowError:
            pass
        else:
            self.world.check(
                False,
                f"the mailbox of the owner has {stray!r}, which belongs to no task; {'; '.join(self.done)}",
            )
        taken = {
            task.ref: model.job.value
            for task, model in zip(self.tasks, self.models, strict=True)
            if model.taken and not model.stays
        }
        try:
            left = await receive(
                lambda m: type(m) in (TaskReply, Down) and m.ref in taken, timeout=0
            )
        except trio.TooSlowError:
            return
        self.world.check(
            False,
            f"the mailbox of the owner has {left!r} of the task {taken[left.ref]}, whose result was taken or "
            f"discarded; {'; '.join(self.done)}",
        )

    def told(self, numbers: list[int]) -> str:
        return ", ".join(
            f"task {number} ({model.job}, {'linked' if model.linked else 'not linked'})"
            for number, model in ((each, self.models[each]) for each in numbers)
        )

    def check_end(self, reason: str, at: int) -> None:
        """Check the end of the owner. Check that exactly the expected tasks outlive the owner."""
        death = None if self.traps else self.dies_by(at)
        expected = [short(self.leaves)] if death is None else death[1]
        self.world.check(
            reason in expected and (death is None or death[0] == at),
            f"the owner of {self.told(list(range(len(self.tasks))))} ended with {reason} at {at * TICK:g} s; expected "
            f"{' or '.join(expected)}{'' if death is None else f' at {death[0] * TICK:g} s'}",
        )
        follow = reason != "normal"
        alive = {
            model.job.value
            for model in self.models
            if not model.over(at) and not (follow and model.linked and not model.job.stubborn)
        }
        if any(model.ends == at for model in self.models):
            return
        self.world.check(
            set(self.bench.alive()) == alive,
            f"after the end of their owner with {reason}, the tasks {self.bench.alive()} live; expected "
            f"{sorted(alive)}: {self.told(list(range(len(self.tasks))))}",
        )


@scenario()
async def tasks(world: World) -> None:
    """Run random owners of tasks, one after another."""
    stream = world.random("tasks")
    await TaskSupervisor.start(name="tasks")
    for number in range(6):
        owner = Owner(world, stream, number)
        pid = spawn(owner.run)
        reason = await end_of(pid)
        owner.check_end(reason, now(world))
        world.sometimes("the crash of a task ended its owner", reason == "crash:ValueError")
        world.sometimes("a wait for a task was cancelled", owner.cancelled)
        world.sometimes("an owner ended with tasks that go on", bool(owner.bench.alive()))
        await trio.sleep_until((now(world) + 60) * TICK)
        started = [value for _, value in owner.bench.starts]
        world.check("given up" not in started, "a task ran its function after a cancelled start")
        world.sometimes("the start of a task was cancelled", owner.given_up)
        world.check(owner.bench.alive() == [], f"the tasks {owner.bench.alive()} never end")
        world.check(
            await TaskSupervisor.children("tasks") == [],
            "a task supervisor keeps a task that has ended",
        )


# Streams


def a_plan(stream: Random) -> StreamPlan:
    jobs = [a_job(stream, f"i{number}") for number in range(stream.randint(0, 8))]
    return StreamPlan(
        jobs=tuple(Job(job.value, job.ticks or 1, job.how) for job in jobs),
        max_concurrency=stream.choice((1, 2, 3, 10)),
        ordered=stream.random() < 0.5,
        timeout=stream.choice((10, 4, 6, 40)),
        on_timeout=stream.choice(("exit", "kill_task", "kill_task")),
        zips=stream.random() < 0.5,
        pauses=stream.choice(((0,), (0,), (1, 4), (7,))),
        leaves_after=stream.choice((None, None, None, 1, 3)),
        patience=stream.choice((None, None, 1, 2, 3)),
        rest=stream.choice((0, 1, 2, 4)),
        limit=stream.choice((None, None, None, 5, 9)),
        dies=stream.random() < 0.3,
    )


class Consumer:
    """A process that consumes one stream."""

    def __init__(self, world: World, plan: StreamPlan, kind: str) -> None:
        self.world, self.plan, self.kind = world, plan, kind
        self.bench = Bench(world)
        self.outcomes: list[tuple[int, Any]] = []
        self.end, self.at = "died", 0
        self.closed = False
        self.cancelled = False

    def items(self) -> Iterator[Job]:
        try:
            yield from self.plan.jobs
        finally:
            self.closed = True

    async def run(self) -> None:
        plan = self.plan
        if not plan.dies:
            trap_exits()
        options: dict[str, Any] = {
            "max_concurrency": plan.max_concurrency,
            "ordered": plan.ordered,
            "timeout": plan.timeout * TICK,
            "on_timeout": plan.on_timeout,
            "zip_input_on_exit": plan.zips,
        }
        if plan.timeout == 10 and plan.ordered:
            del options["timeout"], options["ordered"]
        if self.kind == "plain":
            opened = async_stream(self.bench.work, self.items(), **options)
        elif self.kind == "linked":
            opened = TaskSupervisor.async_stream("tasks", self.bench.work, self.items(), **options)
        else:
            opened = TaskSupervisor.async_stream_nolink(
                "tasks", self.bench.work, self.items(), **options
            )
        try:
            with trio.move_on_after(math.inf if plan.limit is None else plan.limit * TICK) as scope:
                async with opened as found:
                    await self.consume(found)
            if scope.cancelled_caught:
                self.end, self.at = "cancelled", now(self.world)
        except TaskTimeout:
            self.end, self.at = "timeout", now(self.world)
        self.world.check(
            self.bench.alive() == [] and self.closed,
            f"after the block of {plan}, the tasks {self.bench.alive()} live, and the items are "
            f"{'closed' if self.closed else 'open'}",
        )

    async def consume(self, found: AsyncIterator[Any]) -> None:
        plan = self.plan
        while True:
            try:
                outcome = await self.next(found)
            except StopAsyncIteration:
                self.end, self.at = "done", now(self.world)
                return
            self.outcomes.append((now(self.world), shown(outcome)))
            if len(self.outcomes) == plan.leaves_after:
                self.end, self.at = "left", now(self.world)
                return
            await trio.sleep(plan.pauses[len(self.outcomes) % len(plan.pauses)] * TICK)

    async def next(self, found: AsyncIterator[Any]) -> Any:
        """Wait for the next outcome. With `patience`, cancel the wait after this time, rest, and wait again."""
        if self.plan.patience is None:
            return await anext(found)
        while True:
            with trio.move_on_after(self.plan.patience * TICK):
                return await anext(found)
            self.cancelled = True
            await trio.sleep(self.plan.rest * TICK)


@scenario()
async def streams(world: World) -> None:
    """Run random streams with random consumers, one after another."""
    stream = world.random("streams")
    await TaskSupervisor.start(name="tasks")
    for _ in range(8):
        await trio.sleep_until((math.ceil(trio.current_time() / TICK) + 1) * TICK)
        kind = stream.choice(("plain", "linked", "nolink"))
        plan = a_plan(stream)
        if kind == "nolink":
            plan = evolve(plan, dies=False)
        try:
            model = run_stream(plan, now(world))
        except Ambiguous:
            continue
        consumer = Consumer(world, plan, kind)
        reason = await end_of(spawn(consumer.run))
        if consumer.end == "died":
            consumer.end, consumer.at = f"died:{reason}", now(world)
        got = (consumer.outcomes, sorted(consumer.bench.starts), consumer.end, consumer.at)
        expected = (model.outcomes, sorted(model.starts), model.end, model.at)
        names = ("outcomes", "starts of tasks", "end", "tick of the end")
        for name, one, other in zip(names, got, expected, strict=True):
            world.check(
                one == other, f"the {name} of the {kind} stream {plan}: {one}; expected {other}"
            )
        world.check(
            consumer.bench.most <= plan.max_concurrency,
            f"{consumer.bench.most} tasks of {plan} ran at the same time",
        )
        world.sometimes(f"a stream ended: {model.end}")
        world.sometimes("a wait for an outcome was cancelled", consumer.cancelled)


async def end_of(pid: Pid) -> str:
    """Wait for the end of a process, and return the exit reason. If a check failed in the process, fail the run."""
    reason = await wait_exit(pid)
    if isinstance(reason, Crash) and isinstance(reason.exception, InvariantViolated):
        raise reason.exception
    return short(reason)

"""The comparison of one supervisor with its model, for the sweeps of supervision.

The sweep draws a random batch of operations. If the model cannot predict all effects of the batch, it draws another
batch. Then it carries out the operations, and compares the events, the answers and the processes with the model.
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from random import Random
from typing import Any

import trio
from attrs import evolve

from actors import (
    CallExit,
    InvalidOption,
    NoProcess,
    Pid,
    StartError,
    StartIgnored,
    call,
    is_alive,
    kill,
    stop,
    wait_exit,
)
from supervision import (
    ChildAlreadyStarted,
    ChildRunning,
    InvalidChildSpec,
    MaxChildren,
    SupervisionError,
    Supervisor,
)
from supervision.backoff import Backoff
from supervision.errors import ChildStartFailed
from supervision.laboratory.simulation.world.world import World
from tests.simulation.sweeps.supervision.diary import TICK, Diary, end_child, now, short, written
from tests.simulation.sweeps.supervision.supervisor_model import (
    Ambiguous,
    Manner,
    Model,
    Op,
    Options,
    Start,
)

__all__ = ["ENDS", "Lockstep", "a_manner", "some_options"]

ENDS = ("crash", "crash", "crash", "normal", "shutdown", "detail", "kill", "exit")


# Random choices


def a_manner(stream: Random, id: Any, auto_shutdown: str) -> Manner:
    """Return a random child."""
    restart = stream.choice(("permanent", "permanent", "transient", "temporary"))
    plain = stream.random() < 0.15
    manner = Manner(id, plain=plain, restart=restart, supervisor=stream.random() < 0.15)
    manner.shutdown = stream.choice((10, 10, 4, 3, "brutal_kill", None))
    if restart != "permanent" and auto_shutdown != "never":
        manner.significant = stream.random() < 0.7
    if plain:
        return manner
    manner.named = stream.random() < 0.3
    manner.traps = stream.random() < 0.6
    manner.breaks = stream.random() < 0.1
    manner.leaves = stream.choice(("normal", "detail", "other", None, None, None, None, None, None))
    manner.asks = stream.random() < 0.1
    manner.slow = stream.choice((0, 0, 0, 1, 2, 5, 12))
    if manner.supervisor and manner.traps and stream.random() < 0.5:
        # This child stops more slowly than the default limit of a worker allows. A supervisor has no limit by default.
        manner.shutdown, manner.slow = None, 12
    if manner.shutdown is not None and stream.random() < 0.2:
        manner.slow = None
    if stream.random() < 0.2:
        manner.start_timeout = stream.choice((3, 5))
    if stream.random() < 0.5:
        # The first start must succeed. Otherwise most supervisors would not start at all.
        manner.starts = [Start(ticks=some_ticks(stream)), *(a_start(stream) for _ in range(4))]
    elif stream.random() < 0.1:
        manner.starts = [a_start(stream)]
    if all(each.kind == "ok" for each in (*manner.starts, manner.later)):
        manner.early = stream.random() < 0.4
    elif stream.random() < 0.2:
        manner.starts = [evolve(each, kind="ok") for each in manner.starts]
        manner.early = True
    if manner.early and stream.random() < 0.3:
        # Some start functions fail before they start a process, and some start functions take too long.
        manner.start_timeout = 3
        manner.starts = [
            Start(),
            *(stream.choice((Start(), Start("leave"), Start(ticks=7))) for _ in range(4)),
        ]
    return manner


def some_ticks(stream: Random) -> int:
    return stream.choice((0, 0, 0, 1, 2))


def a_start(stream: Random) -> Start:
    kind = stream.choice(("ok", "ok", "ok", "raise", "raise", "fail", "ignore", "stop"))
    return Start(kind, stream.choice((0, 0, 0, 0, 1, 2, 4, 7)))


def some_options(stream: Random) -> Options:
    backoff: dict[str, Any] = {}
    if stream.random() < 0.3:
        initial = stream.choice((1, 2, 4, 10, 20))
        backoff = {
            "initial": initial,
            "maximum": initial * stream.choice((1, 3, 4, 8)),
            "factor": stream.choice((1, 2, 3)),
            "reset_after": stream.choice((None, None, 6)),
        }
    return Options(
        strategy=stream.choice(("one_for_one", "one_for_all", "rest_for_one")),
        max_restarts=stream.choice((0, 1, 1, 2, 3, 3, 5, math.inf)),
        max_seconds=stream.choice((4, 10, 10, 20)),
        auto_shutdown=stream.choice(("never", "any_significant", "all_significant")),
        max_children=stream.choice((1, 2, 3, 4, math.inf)),
        **backoff,
    )


# The comparison


class Lockstep(ABC):
    """One supervisor under test, and its model."""

    def __init__(self, world: World, stream: Random, options: Options, model: Model) -> None:
        self.world = world
        self.stream = stream
        self.options = options
        self.model = model
        self.diary = Diary(world)
        self.top: Pid | None = None
        self.number = 0
        self.reason: str | None = None
        self.history: list[str] = []
        self._answers: dict[int, tuple[int, Any]] = {}
        self._refusing: set[Any] = set()
        model.begin(now(world))

    @abstractmethod
    async def start(self) -> Pid:
        """Start the supervisor."""

    @abstractmethod
    def draw(self, at: int, ids: list[Any]) -> Op:
        """Return a random operation."""

    @abstractmethod
    async def ask(self, op: Op, top: Pid) -> Any:
        """Send a request that only this kind of supervisor understands."""

    @abstractmethod
    def told(self) -> str:
        """Describe the supervisor."""

    @abstractmethod
    def check_rest(self, top: Pid) -> None:
        """Check properties of this kind of supervisor while the supervisor is idle."""

    async def live(self, batches: int) -> None:
        """Start the supervisor, carry out some batches of operations, and end it."""
        async with trio.open_nursery() as nursery:
            await self._boot()
            if self.top is not None:
                nursery.start_soon(self._watch, self.top)
            for _ in range(batches):
                if self.model.ended is None:
                    await self._batch()
            await self._finish()
        self.diary.close()

    def backoff(self) -> Backoff | None:
        options = self.options
        if options.initial is None:
            return None
        reset = None if options.reset_after is None else options.reset_after * TICK
        return Backoff(options.initial * TICK, options.maximum * TICK, float(options.factor), reset)

    async def _watch(self, top: Pid) -> None:
        self.reason = short(await wait_exit(top))

    async def _boot(self) -> None:
        refused = None
        try:
            self.top = await self.start()
        except StartError as error:
            refused = short(error.reason)
        model = self.model
        model.run([], until=now(self.world))
        self.world.check(
            refused == model.refused and not model.busy,
            f"the start of {self.told()} ended with {refused or 'success'}; it should have ended with "
            f"{model.refused or 'success'}",
        )
        self._compare()

    def _draw_batch(self, base: int) -> list[tuple[int, Op]]:
        """Return a few operations at different ticks."""
        stream = self.stream
        ids = [each.id for each in self.model.known()]
        waiting = [each.id for each in self.model.known() if each.retry is not None]
        ops = []
        at = base
        reset = self._reset(base)
        if reset is not None and stream.random() < 0.3:
            self.number += 1
            ops.append((self.number, reset))
            at = reset.tick + 1
        for _ in range(stream.choice((1, 1, 2, 2, 3, 4))):
            self.number += 1
            id = stream.choice(ids) if ids and stream.random() < 0.97 else "nobody"
            if waiting and stream.random() < 0.4:
                id = stream.choice(waiting)
            op = Op(at, stream.choice(ENDS), id)
            if stream.random() < 0.015:
                op = Op(at, stream.choice(("stop", "stop", "kill_top")))
            elif stream.random() < 0.45:
                # Otherwise there would be few requests about a child that waits for its restart.
                op = self.draw(at, waiting if waiting and stream.random() < 0.6 else ids)
            ops.append((self.number, op))
            # Often choose the end of the restart window, or one tick before or after it.
            edge = self.options.max_seconds + stream.choice((-1, 0, 0, 1))
            at += stream.choice((1, 1, 2, 3, 5, edge))
        return ops

    def _reset(self, base: int) -> Op | None:
        """Return a crash of a child that has run just long enough to reset its delays, or one tick less."""
        options = self.options
        after = options.maximum if options.reset_after is None else options.reset_after
        for child in self.model.known():
            if child.due is not None and child.retry is None and child.due + after >= base:
                return Op(child.due + after - self.stream.choice((0, 0, 1)), "crash", child.id)
        return None

    async def _batch(self) -> None:
        """Carry out some operations, and compare all their effects with the model."""
        for _ in range(20):
            ahead = copy.deepcopy(self.model)
            base = now(self.world) + self.stream.choice((1, 2, 3, 4, 6))
            ops = self._draw_batch(base)
            end = ops[-1][1].tick + 1
            try:
                ahead.run(ops, until=end)
                while ahead.busy and ahead.ended is None and end < base + 400:
                    end += 1
                    ahead.run([], until=end)
                looks = [(-1, Op(end + 1, "which")), (-2, Op(end + 2, "count"))]
                ahead.run(looks, until=end + 2)
            except Ambiguous:
                continue
            break
        else:
            return
        self.model = ahead
        self.history = [f"{op.tick * TICK:g} s: {op.verb} {op.id}".strip() for _, op in ops]
        async with trio.open_nursery() as nursery:
            for number, op in [*ops, *looks]:
                nursery.start_soon(self._perform, number, op)
            await trio.sleep_until((end + 2) * TICK)
            await self.world.settle()
            self._compare()
            await self._let_a_child_ask()
            nursery.cancel_scope.cancel()

    async def _let_a_child_ask(self) -> None:
        """Let a running child ask its idle supervisor for the counts of its children. Check the answer."""
        running = [pid for pid in self.diary.begun if is_alive(pid) and pid in self.diary.names]
        if self.model.ended is not None or not running:
            return
        pid = self.stream.choice(running)
        answer, expected = await call(pid, "count", timeout=math.inf), self.model.counted()
        self.world.check(
            answer == expected,
            f"{self.told()}, after {'; '.join(self.history)}: its child {self.diary.name(pid)} asked for its "
            f"counts and got {answer}; expected {expected}",
        )

    async def _perform(self, number: int, op: Op) -> None:
        """Carry out one operation at its time."""
        await trio.sleep_until(op.tick * TICK)
        top, diary = self.top, self.diary
        assert top is not None
        if op.manner is not None and op.manner.slow is None:
            self._refusing.add(op.manner.id)
        if op.verb == "kill_top":
            kill(top)
        elif op.verb in ENDS:
            pid = diary.ready.get(op.id)
            if pid is not None and is_alive(pid):
                end_child(diary, op.verb, pid)
        else:
            answer = await self._answer(op, top)
            self._answers[number] = (now(self.world), answer)

    async def _answer(self, op: Op, top: Pid) -> Any:
        """Send a request to the supervisor, and return its answer in the notation of the model."""
        try:
            return await self._request(op, top)
        except NoProcess:
            return "no process"
        except CallExit as error:
            return f"ended:{short(error.reason)}"
        except StartIgnored:
            return "ignored"
        except MaxChildren as error:
            return f"MaxChildren:{error.limit}"
        except InvalidChildSpec as error:
            return f"InvalidChildSpec:{error.id}"
        except (ChildAlreadyStarted, ChildRunning) as error:
            return f"{type(error).__name__}:{error.id}:{self.diary.name(error.pid)}"
        except (ChildStartFailed, StartError) as error:
            return f"{type(error).__name__}:{getattr(error, 'id', None)}:{short(error.reason)}"
        except InvalidOption:
            return "InvalidOption"
        except SupervisionError as error:
            child = self.diary.name(getattr(error, "child", None))
            return f"{type(error).__name__}:{getattr(error, 'id', child)}"

    async def _request(self, op: Op, top: Pid) -> Any:
        name = self.diary.name
        match op.verb:
            case "which":
                shown = await Supervisor.which_children(top)
                return [(each.id, name(each.pid), each.type, each.restarts) for each in shown]
            case "count":
                counts = await Supervisor.count_children(top)
                return counts.specs, counts.active, counts.supervisors, counts.workers
            case "stop":
                await stop(top, timeout=math.inf)
                return "stopped"
        return name(await self.ask(op, top))

    # Checks after a batch

    def _compare(self) -> None:
        """Compare the events, the answers and the processes with the model."""
        for held in self.model.edges:
            self.world.sometimes(held)
        if self.model.ended == "killed":
            return
        after = f"{self.told()}, after {'; '.join(self.history) or 'its start'}"
        self._compare_lines(after)
        self._compare_answers(after)
        self._compare_processes(after)

    def _compare_lines(self, after: str) -> None:
        expected, lines = self.model.in_order(self.model.log), self.model.in_order(self.diary.lines)
        for number in range(max(len(expected), len(lines))):
            wanted = expected[number] if number < len(expected) else None
            line = lines[number] if number < len(lines) else None
            before = written(lines[number - 1]) if number else "nothing"
            self.world.check(
                wanted == line,
                f"{after}: expected {written(wanted)}, got {written(line)}; the event before was {before}",
            )

    def _compare_answers(self, after: str) -> None:
        for number, (tick, answer) in self.model.answers.items():
            got = self._answers.get(number)
            asked = {-1: "which_children", -2: "count_children"}.get(number)
            self.world.check(
                got == (tick, answer),
                f"{after}: the request {asked or number} got {_answered(got)}; expected {_answered((tick, answer))}",
            )
        self.model.answers.clear()
        self._answers.clear()

    def _compare_processes(self, after: str) -> None:
        model, names, top = self.model, self.diary.names, self.top
        strays = [pid for pid in self.diary.begun if is_alive(pid) and pid not in names]
        self.world.check(
            not strays, f"{after}: the processes {strays} of children that did not start live"
        )
        alive = sorted(names[pid] for pid in names if is_alive(pid))
        living = sorted(model.living() if model.ended is None else [])
        self.world.check(alive == living, f"{after}: the children {alive} live; expected {living}")
        if top is None:
            return
        self.world.check(
            self.reason == model.ended,
            f"{after}: it has ended with {self.reason}, and should have ended with {model.ended} (None: live)",
        )
        if model.ended is None:
            self.check_rest(top)
            timers = self.world.runtime.statistics()["timers"]
            waiting = sum(each.retry is not None for each in model.known())
            self.world.check(
                timers == (0 if self.options.initial is None else waiting),
                f"{after}: there are {timers} timers, and {waiting} children that wait for a restart",
            )

    async def _finish(self) -> None:
        """End the supervisor, and check that no child outlives it."""
        top, diary, world = self.top, self.diary, self.world
        if top is not None and is_alive(top):
            await trio.sleep_until((now(world) + 1) * TICK)
            kill(top)
        await trio.sleep_until((now(world) + 20) * TICK)
        refusing = self._refusing | {
            each.id for each in self.model.known() if each.manner.slow is None
        }
        for pid, name in diary.names.items():
            if is_alive(pid):
                world.check(
                    name.partition("#")[0] in set(map(str, refusing)),
                    f"the child {name} lives 10 s after the end of {self.told()}, to which it was linked",
                )
                kill(pid)


def _answered(answer: tuple[int, Any] | None) -> str:
    return "no answer" if answer is None else f"{answer[1]!r} at {answer[0] * TICK:g} s"

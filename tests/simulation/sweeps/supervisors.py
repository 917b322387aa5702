"""Random supervisors with random children, whose every event is compared with a model.

Each run starts some supervisors, one after another. It lets children end in all ways, and sends all requests, also
while the supervisor restarts or stops children. `supervisor_model.py` says what must happen, and when.
"""

from __future__ import annotations

import copy
import math
from random import Random
from typing import Any

import trio
from attrs import define, field

from actors import (
    CallExit,
    NoProcess,
    Pid,
    StartError,
    is_alive,
    kill,
    stop,
)
from supervision import (
    BadChildSpec,
    ChildAlreadyStarted,
    ChildRunning,
    SupervisionError,
    Supervisor,
    tree_of,
)
from supervision.backoff import Backoff
from supervision.errors import ChildStartFailed
from supervision.simulation.scenario import scenario
from supervision.simulation.world.world import World
from tests.simulation.sweeps.diary import TICK, Diary, end_child, now, short, spec_of, written
from tests.simulation.sweeps.supervisor_model import Ambiguous, Manner, Model, Op, Options, Start

__all__ = ["supervisors"]

ENDS = ("crash", "crash", "crash", "normal", "shutdown", "detail", "kill", "exit")
REQUESTS = ("terminate", "terminate", "restart", "restart", "delete", "which", "count", "spec")


# Random choices


def a_manner(stream: Random, id: str, auto_shutdown: str) -> Manner:
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
    manner.asks = stream.random() < 0.1
    manner.slow = stream.choice((0, 0, 0, 1, 2, 5, 12))
    if manner.shutdown is not None and stream.random() < 0.2:
        manner.slow = None
    if stream.random() < 0.2:
        manner.start_timeout = stream.choice((3, 5))
    if stream.random() < 0.5:
        # The first start succeeds, because otherwise most supervisors would not start at all.
        manner.starts = [Start(ticks=some_ticks(stream)), *(a_start(stream) for _ in range(4))]
    elif stream.random() < 0.1:
        manner.starts = [a_start(stream)]
    return manner


def some_ticks(stream: Random) -> int:
    return stream.choice((0, 0, 0, 1, 2))


def a_start(stream: Random) -> Start:
    kind = stream.choice(("ok", "ok", "ok", "raise", "raise", "fail", "ignore", "stop"))
    return Start(kind, stream.choice((0, 0, 0, 0, 1, 2, 4, 7)))


def some_options(stream: Random) -> Options:
    backoff: dict[str, Any] = {}
    if stream.random() < 0.3:
        initial = stream.choice((1, 2, 4))
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
        **backoff,
    )


@define(eq=False)
class Tested:
    """One supervisor under test, and its model."""

    world: World
    stream: Random
    options: Options
    manners: list[Manner]
    diary: Diary
    model: Model
    top: Pid | None = None
    number: int = 0
    answers: dict[int, tuple[int, Any]] = field(factory=dict)
    history: list[str] = field(factory=list)


def some_ops(tested: Tested, base: int) -> list[tuple[int, Op]]:
    """Return a few operations at different ticks."""
    stream, model = tested.stream, tested.model
    ids = [each.id for each in model.known()]
    ops = []
    at = base
    for _ in range(stream.choice((1, 1, 2, 2, 3, 4))):
        verb = stream.choice(ENDS) if stream.random() < 0.6 else stream.choice(REQUESTS)
        id = stream.choice(ids) if ids and stream.random() < 0.97 else "nobody"
        op = Op(at, verb, id)
        if stream.random() < 0.12:
            id = stream.choice(ids) if ids and stream.random() < 0.3 else f"n{tested.number}"
            manner = a_manner(stream, id, stream.choice(("never", tested.options.auto_shutdown)))
            if stream.random() < 0.3:
                manner.significant = manner.restart != "permanent"
            op = Op(at, "start", id, manner)
        elif stream.random() < 0.015:
            op = Op(at, stream.choice(("stop", "stop", "kill_top")))
        tested.number += 1
        ops.append((tested.number, op))
        # Often exactly at the end of the window, or one tick before or after it.
        edge = tested.options.max_seconds + stream.choice((-1, 0, 0, 1))
        at += stream.choice((1, 1, 2, 3, 5, edge))
    return ops


# The comparison


async def boot(tested: Tested) -> None:
    """Start the supervisor, and compare its start with the model."""
    options, diary, world = tested.options, tested.diary, tested.world
    settings: dict[str, Any] = {}
    if options.initial is not None:
        reset = options.reset_after
        settings["backoff"] = Backoff(
            options.initial * TICK,
            options.maximum * TICK,
            float(options.factor),
            None if reset is None else reset * TICK,
        )
    try:
        tested.top = await Supervisor.start(
            [spec_of(manner, diary) for manner in tested.manners],
            strategy=options.strategy,  # type: ignore[arg-type] # one of the strategies
            max_restarts=options.max_restarts,
            max_seconds=options.max_seconds * TICK,
            auto_shutdown=options.auto_shutdown,  # type: ignore[arg-type] # one of the settings
            name="top",
            **settings,
        )
        refused = None
    except StartError as error:
        refused = short(error.reason)
    model = tested.model
    model.run([], until=now(world))
    world.check(
        refused == model.refused and not model.busy,
        f"the start of {told(tested)} ended with {refused or 'success'}; it should have ended with "
        f"{model.refused or 'success'}",
    )
    compare(tested)


async def batch(tested: Tested) -> None:
    """Carry out some operations, and compare everything that follows with the model."""
    world, model = tested.world, tested.model
    for _ in range(20):
        ahead = copy.deepcopy(model)
        base = now(world) + tested.stream.choice((1, 2, 3, 4, 6))
        ops = some_ops(tested, base)
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
    tested.model = ahead
    tested.history = [f"{op.tick * TICK:g} s: {op.verb} {op.id}".strip() for _, op in ops]
    async with trio.open_nursery() as nursery:
        for number, op in [*ops, *looks]:
            nursery.start_soon(perform, tested, number, op)
        await trio.sleep_until((end + 2) * TICK)
        await world.settle()
        compare(tested)
        nursery.cancel_scope.cancel()


async def perform(tested: Tested, number: int, op: Op) -> None:
    """Carry out one operation at its time."""
    await trio.sleep_until(op.tick * TICK)
    top, diary = tested.top, tested.diary
    assert top is not None
    if op.verb == "kill_top":
        kill(top)
    elif op.verb in ENDS:
        pid = diary.ready.get(op.id)
        if pid is not None and is_alive(pid):
            end_child(diary, op.verb, pid)
    else:
        answer = await answer_of(tested, op, top)
        tested.answers[number] = (now(tested.world), answer)


async def answer_of(tested: Tested, op: Op, top: Pid) -> Any:
    """Send a request to the supervisor, and return its answer as the model writes it."""
    name = tested.diary.name
    try:
        return await ask_top(tested.diary, op, top)
    except NoProcess:
        return "no process"
    except CallExit as error:
        return f"ended:{short(error.reason)}"
    except BadChildSpec as error:
        return f"BadChildSpec:{error.id}"
    except (ChildAlreadyStarted, ChildRunning) as error:
        return f"{type(error).__name__}:{error.id}:{name(error.pid)}"
    except ChildStartFailed as error:
        return f"ChildStartFailed:{error.id}:{short(error.reason)}"
    except SupervisionError as error:
        return f"{type(error).__name__}:{getattr(error, 'id', getattr(error, 'child', None))}"


async def ask_top(diary: Diary, op: Op, top: Pid) -> Any:
    name = diary.name
    match op.verb:
        case "start":
            assert op.manner is not None
            return name(await Supervisor.start_child(top, spec_of(op.manner, diary)))
        case "restart":
            return name(await Supervisor.restart_child(top, op.id))
        case "terminate":
            return await Supervisor.terminate_child(top, op.id)
        case "delete":
            return await Supervisor.delete_child(top, op.id)
        case "spec":
            return (await Supervisor.get_childspec(top, op.id)).id
        case "which":
            shown = await Supervisor.which_children(top)
            return [(each.id, name(each.pid), each.type, each.restarts) for each in shown]
        case "count":
            counts = await Supervisor.count_children(top)
            return counts.specs, counts.active, counts.supervisors, counts.workers
        case _:
            await stop(top, timeout=math.inf)
            return "stopped"


def told(tested: Tested) -> str:
    options = tested.options
    children = ", ".join(f"{each.id} ({each.restart})" for each in tested.manners)
    return f"the supervisor top ({options.strategy}, auto_shutdown={options.auto_shutdown}) of {children}"


def compare(tested: Tested) -> None:
    """Compare the events, the answers and the processes with the model."""
    world, model, diary = tested.world, tested.model, tested.diary
    for held in model.edges:
        world.sometimes(held)
    if model.ended == "killed":
        return
    after = "; ".join(tested.history) or "its start"
    for number, (expected, line) in enumerate(
        zip([*model.log, None], [*diary.lines, None], strict=False)
    ):
        if expected != line:
            before = written(diary.lines[number - 1]) if number else "nothing"
            world.check(
                False,
                f"{told(tested)}, after {after}: expected {written(expected)}, got {written(line)}; "
                f"the event before was {before}",
            )
        if expected is None:
            break
    for number, (tick, answer) in model.answers.items():
        got = tested.answers.get(number)
        if got is not None and isinstance(got[1], Pid):
            got = (got[0], diary.name(got[1]))
        world.check(
            got == (tick, answer),
            f"{told(tested)}, after {after}: the request {-number if number < 0 else number} got {got}; expected "
            f"{(tick, answer)}",
        )
    model.answers.clear()
    tested.answers.clear()
    alive = sorted(diary.names[pid] for pid in diary.names if is_alive(pid))
    world.check(
        alive == sorted(model.living() if model.ended is None else []),
        f"{told(tested)}, after {after}: the processes {alive} live; expected {model.living()}",
    )
    top = tested.top
    if top is not None:
        world.check(
            is_alive(top) == (model.ended is None),
            f"{told(tested)}, after {after}: it should have ended with {model.ended}"
            if model.ended is not None
            else f"{told(tested)}, after {after}: it has ended, and should live",
        )
        if model.ended is None:
            compare_tree(tested, top)


def compare_tree(tested: Tested, top: Pid) -> None:
    shown = [(each.id, each.status) for each in tree_of(top).children]
    expected = [
        (each.id, "running" if each.alive else "restarting" if each.retry else "stopped")
        for each in tested.model.known()
    ]
    tested.world.check(
        shown == expected, f"tree_of {told(tested)} shows {shown}; expected {expected}"
    )


@scenario()
async def supervisors(world: World) -> None:
    """Run three random supervisors, each with its children, until they end or for some batches of operations."""
    stream = world.random("supervisors")
    for _ in range(3):
        await trio.sleep_until(math.ceil(trio.current_time() / TICK + 1) * TICK)
        options = some_options(stream)
        ids = "abcde"[: stream.randint(1, 5)]
        manners = [a_manner(stream, id, options.auto_shutdown) for id in ids]
        diary = Diary(world)
        model = Model(options, manners)
        model.begin(now(world))
        tested = Tested(world, stream, options, manners, diary, model)
        await boot(tested)
        for _ in range(stream.randint(2, 6)):
            if tested.model.ended is None:
                await batch(tested)
        await finish(tested)
        diary.close()


async def finish(tested: Tested) -> None:
    """End the supervisor, and check that it leaves no child."""
    top, diary, world = tested.top, tested.diary, tested.world
    if top is not None and is_alive(top):
        await trio.sleep_until((now(world) + 1) * TICK)
        kill(top)
    await trio.sleep_until((now(world) + 20) * TICK)
    refusing = {manner.id for manner in all_manners(tested) if manner.slow is None}
    for pid, name in diary.names.items():
        if is_alive(pid):
            world.check(
                name.partition("#")[0] in refusing,
                f"the child {name} lives 10 s after the kill of {told(tested)}, to which it was linked",
            )
            kill(pid)


def all_manners(tested: Tested) -> list[Manner]:
    return [*tested.manners, *(each.manner for each in tested.model.known())]

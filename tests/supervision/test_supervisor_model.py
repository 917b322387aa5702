"""Random histories of a supervisor against a model of OTP."""

from __future__ import annotations

from typing import Any, get_args

import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from actors import NORMAL, Pid, Shutdown, Stop, cast, is_alive, kill, open_runtime, stop
from actors.runtime import Runtime
from supervision import SupervisionError, Supervisor
from supervision.child_spec import RestartType
from supervision.strategy import Strategy
from tests.supervision.workers import Log, settle, worker

MAX_RESTARTS, MAX_SECONDS = 3, 5.0


class Model:
    """A model of a supervisor: the state of its children, and whether it has given up."""

    def __init__(self, strategy: Strategy, restarts: list[RestartType]) -> None:
        self.strategy = strategy
        # The id, the restart type and the state of each child.
        self.children: list[list[Any]] = [
            [f"c{index}", restart, True] for index, restart in enumerate(restarts)
        ]
        self.attempts: list[float] = []
        self.alive = True

    def find(self, id: str) -> list[Any] | None:
        return next((child for child in self.children if child[0] == id), None)

    def shown(self) -> list[tuple[str, bool]]:
        return [(id, running) for id, _, running in reversed(self.children)]

    def end(self, id: str, clean: bool, now: float) -> None:
        child = self.find(id)
        if child is None or not child[2]:
            return
        child[2] = False
        if child[1] == "temporary":
            self.children.remove(child)
        elif child[1] == "permanent" or not clean:
            self.restart(child, now)

    def restart(self, child: list[Any], now: float) -> None:
        self.attempts.append(now)
        if sum(now - attempt <= MAX_SECONDS for attempt in self.attempts) > MAX_RESTARTS:
            self.alive = False
            return
        position = self.children.index(child)
        first = {"one_for_one": None, "one_for_all": 0, "rest_for_one": position}[self.strategy]
        if first is None:
            child[2] = True
            return
        group = self.children[first:]
        stay = [each for each in group if each is child or each[1] != "temporary"]
        for each in stay:
            each[2] = True
        self.children[first:] = stay

    def terminate(self, id: str) -> bool:
        child = self.find(id)
        if child is not None:
            child[2] = False
            if child[1] == "temporary":
                self.children.remove(child)
        return child is not None

    def restart_by_hand(self, id: str) -> bool:
        child = self.find(id)
        if child is None or child[2]:
            return False
        child[2] = True
        return True

    def delete(self, id: str) -> bool:
        child = self.find(id)
        if child is None or child[2]:
            return False
        self.children.remove(child)
        return True

    def add(self, id: str, restart: RestartType) -> bool:
        if self.find(id) is not None:
            return False
        self.children.append([id, restart, True])
        return True


RESTARTS = st.sampled_from(get_args(RestartType))
IDS = st.sampled_from([f"c{index}" for index in range(5)])
STEPS = st.one_of(
    st.tuples(st.just("end"), IDS, st.sampled_from(["crash", "kill", "normal", "shutdown"])),
    st.tuples(st.sampled_from(["terminate", "restart", "delete"]), IDS, st.none()),
    st.tuples(st.just("add"), IDS, RESTARTS),
    st.tuples(st.just("wait"), st.sampled_from([0.5, 2.5, 5.0, 6.0]), st.none()),
)


async def pids(supervisor: Pid) -> dict[str, Any]:
    return {info.id: info.pid for info in await Supervisor.which_children(supervisor)}


async def end(pid: Any, how: str) -> None:
    if not isinstance(pid, Pid):
        return
    if how == "kill":
        kill(pid)
    else:
        ends = {"normal": Stop(NORMAL), "shutdown": Stop(Shutdown("x"))}
        cast(pid, ends.get(how, RuntimeError("crash")))
    await settle()


async def succeeds(request: Any) -> bool:
    try:
        await request
    except SupervisionError:
        return False
    return True


async def take(step: tuple[str, Any, Any], supervisor: Pid, model: Model, log: Log) -> None:
    what, which, how = step
    if what == "wait":
        await trio.sleep(which)
    elif what == "end":
        await end((await pids(supervisor)).get(which), how)
        model.end(which, how in ("normal", "shutdown"), trio.current_time())
    elif what == "terminate":
        done = await succeeds(Supervisor.terminate_child(supervisor, which))
        assert done is model.terminate(which)
    elif what == "restart":
        done = await succeeds(Supervisor.restart_child(supervisor, which))
        assert done is model.restart_by_hand(which)
    elif what == "delete":
        done = await succeeds(Supervisor.delete_child(supervisor, which))
        assert done is model.delete(which)
    else:
        done = await succeeds(Supervisor.start_child(supervisor, worker(which, log, restart=how)))
        assert done is model.add(which, how)


async def live(
    runtime: Runtime, strategy: Strategy, restarts: list[RestartType], steps: list[Any]
) -> None:
    log = Log()
    supervisor = await Supervisor.start(
        [worker(f"c{index}", log, restart=restart) for index, restart in enumerate(restarts)],
        strategy=strategy,
        max_restarts=MAX_RESTARTS,
        max_seconds=MAX_SECONDS,
    )
    model = Model(strategy, restarts)
    for step in steps:
        await take(step, supervisor, model, log)
        assert is_alive(supervisor) is model.alive
        if not model.alive:
            break
        found = await pids(supervisor)
        assert [(id, pid is not None) for id, pid in found.items()] == model.shown()
        running = [pid for pid in found.values() if pid is not None]
        # The living children are exactly those that the supervisor knows.
        assert set(runtime.processes()) == {supervisor, *running}
    if model.alive:
        log.clear()
        await stop(supervisor)
        expected = [f"stop {id}" for id, running in model.shown() if running]
        assert log.take() == expected
    assert runtime.processes() == []


@given(
    strategy=st.sampled_from(get_args(Strategy)),
    restarts=st.lists(RESTARTS, min_size=1, max_size=5),
    steps=st.lists(STEPS, max_size=25),
)
def test_a_supervisor_agrees_with_the_model(
    strategy: Strategy, restarts: list[RestartType], steps: list[Any]
) -> None:
    async def main() -> None:
        async with open_runtime(log=False) as runtime:
            await live(runtime, strategy, restarts, steps)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))

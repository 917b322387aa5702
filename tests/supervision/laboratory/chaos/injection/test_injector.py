"""The injector: starting, healing, awaiting and closing plans, and mistakes of adapters."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import trio

from actors import CallExit, GenServer, Pid, Runtime, call, cast, is_alive, open_runtime
from actors.instrumentation.instrument import Instrument
from actors.servers.results import Reply
from supervision import Supervisor, child_spec
from supervision.laboratory.chaos.errors import InvalidFault
from supervision.laboratory.chaos.faults.kinds import (
    DrainNode,
    ExitWith,
    Fault,
    Hang,
    HoldConnection,
    Kill,
    KillNode,
    Partition,
    ResetConnection,
    SkewClock,
    Slow,
    StallLoop,
)
from supervision.laboratory.chaos.faults.moments import At, On
from supervision.laboratory.chaos.injection.injector import Injector
from supervision.recording.places import Places
from supervision.recording.reader.history import read_history
from supervision.recording.trace import Trace
from tests.supervision.workers import settle


class Store(GenServer[list[float]]):
    async def init(self) -> None:
        self.state = []

    async def handle_call(self, request: object, sender: object) -> Reply:
        return Reply(list(self.state))

    async def handle_cast(self, message: object) -> None:
        self.state.append(trio.current_time())


async def store(runtime: Runtime) -> Pid:
    await Supervisor.start([child_spec(Store, id="store", kwargs={"name": "store"})], name="top")
    (pid,) = [pid for pid in runtime.processes() if pid is not runtime.processes()[0]]
    return pid


async def test_a_plan_is_finished_when_all_timed_faults_are_over(
    runtime: Runtime,
) -> None:
    injector = Injector(runtime)
    await store(runtime)
    injector.start(
        [
            Kill(target="/nobody", when=At(2.0)),
            Slow(target="/top/store", seconds=3.0, when=On("handle_cast")),
            # Nobody knows whether that will ever be.
            Kill(target="/top/store", when=On("terminate")),
        ]
    )
    await trio.sleep(0.5)
    cast("store", "something")
    await injector.finished()
    assert trio.current_time() == pytest.approx(3.5)
    assert [report.status for report in injector.report()] == [
        "not_applicable",
        "applied",
        "not_applicable",
    ]
    injector.close()


async def test_a_plan_is_decided_when_the_outcome_of_each_fault_is_known(runtime: Runtime) -> None:
    injector = Injector(runtime)
    await store(runtime)
    injector.start(
        [
            Kill(target="/nobody", when=At(2.0)),
            Slow(target="/top/store", seconds=30.0, when=On("handle_cast")),
        ]
    )
    with trio.move_on_after(5.0) as early:
        await injector.decided()
    assert early.cancelled_caught
    cast("store", "something")
    await injector.decided()
    # `decided` has returned, although the slowness still lasts.
    assert trio.current_time() == pytest.approx(5.0, abs=0.1)
    injector.close()


async def test_the_times_of_a_plan_count_from_its_start(runtime: Runtime) -> None:
    injector = Injector(runtime)
    pid = await store(runtime)
    await trio.sleep(100)
    injector.start([Kill(target="/top/store", when=At(1.0))])
    await trio.sleep(0.9)
    assert is_alive(pid)
    assert injector.report()[0].why == "its time has not come"
    await trio.sleep(0.2)
    assert not is_alive(pid)
    assert injector.report()[0].seconds == pytest.approx(1.0)
    injector.close()


async def test_processes_that_live_already_are_reached_by_their_labels(runtime: Runtime) -> None:
    pid = await store(runtime)
    injector = Injector(runtime)
    injector.start([Kill(target="/top/store", when=At(0.0))])
    await settle()
    assert not is_alive(pid)
    injector.close()


async def test_an_injector_carries_out_one_plan(runtime: Runtime) -> None:
    injector = Injector(runtime)
    plan = [Kill(target="/nobody", when=At(1.0))]
    injector.start(plan)
    assert injector.plan == tuple(plan)
    with pytest.raises(InvalidFault, match="make an Injector for each plan"):
        injector.start(plan)
    injector.close()


async def test_healing_ends_hangs_and_stops_the_plan(
    runtime: Runtime,
) -> None:
    injector = Injector(runtime)
    pid = await store(runtime)
    injector.start(
        [
            Hang(target="/top/store", when=On("handle_cast")),
            Kill(target="/top/store", when=At(5.0)),
        ]
    )
    cast("store", "something")
    await trio.sleep(2)
    injector.heal()
    await settle()
    assert await call("store", "when") == [2.0]
    await injector.finished()
    await trio.sleep(10)
    assert is_alive(pid)
    assert injector.report()[1].why == "the faults were healed before it was due"
    injector.close()


async def test_a_fault_behind_a_delay_keeps_its_callback(
    runtime: Runtime,
) -> None:
    injector = Injector(runtime)
    specs = [child_spec(Store, id=name, kwargs={"name": name}) for name in ("one", "other")]
    await Supervisor.start(specs, name="top")
    ends: list[object] = []
    runtime.telemetry.attach(("actors", "process", "crash"), lambda *event: ends.append(event))
    call_of_any = On("handle_call")
    injector.start(
        [
            Slow(target="/top/*", seconds=3.0, when=call_of_any),
            Kill(target="/top/*", when=call_of_any),
            # Something that waits still, so that callbacks are looked at.
            Slow(target="/top/*", seconds=1.0, when=On("handle_call", nth=100)),
        ]
    )
    cast("other", "what it may have waiting for it is known from here on")
    await settle()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_ask_and_fail, "one")
        await trio.sleep(1)
        assert await call("other", "when") == [0.0]
        assert injector.report()[1].why == "another fault held its callback up until then"
    assert [report.where for report in injector.report()[:2]] == ["/top/one#1"] * 2
    assert ends == []
    injector.close()


async def _ask_and_fail(name: str) -> None:
    with pytest.raises(CallExit):
        await call(name, "when")


async def test_healing_drops_the_faults_behind_a_delay(
    runtime: Runtime,
) -> None:
    injector = Injector(runtime)
    pid = await store(runtime)
    when = On("handle_cast")
    injector.start(
        [Hang(target="/top/store", when=when), Kill(target="/top/store", when=when)],
    )
    cast("store", "something")
    await trio.sleep(2)
    injector.heal()
    await settle()
    assert is_alive(pid)
    assert await call("store", "when") == [2.0]
    assert [report.status for report in injector.report()] == ["applied", "not_applicable"]
    injector.close()


async def test_closing_undoes_lasting_faults_and_leaves_the_runtime(
    runtime: Runtime,
) -> None:
    before = runtime.instruments
    injector = Injector(runtime, places := Places(runtime))
    pid = await store(runtime)
    injector.start(
        [
            Hang(target="/top/store", when=On("handle_cast")),
            Kill(target="/top/store", when=At(5.0)),
            SkewClock(seconds=1e9, when=At(0.0)),
        ]
    )
    now = runtime.now()
    cast("store", "something")
    await trio.sleep(1)
    assert runtime.now() - now > 1e8
    injector.close()
    injector.close()
    places.close()
    assert runtime.instruments == before
    assert abs(runtime.now() - now) < 1e8
    assert await call("store", "when") == [1.0]
    await trio.sleep(10)
    assert is_alive(pid)
    assert injector.report()[1].why == "the run was over before it was due"


async def test_a_closed_injector_leaves_no_waiting_task(runtime: Runtime) -> None:
    injector = Injector(runtime)
    injector.start([Kill(target="/nobody", when=At(1e6))])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(injector.finished)
        await settle()
        injector.close()
    # The clock of this test would jump to the time of the fault if somebody still waited for it.
    with trio.move_on_after(10):
        await trio.sleep_forever()
    assert trio.current_time() == 10.0


async def test_several_runtimes_are_reached_by_their_nodes(runtime: Runtime) -> None:
    async with open_runtime(log=False) as other:
        injector = Injector(runtime)
        injector.add(other, Places(other), node="b")
        pid = await store(other)
        injector.start([Kill(target="b/top/store", when=At(0.0))])
        await settle()
        assert not is_alive(pid)
        assert injector.report()[0].where == "b/top/store#1"
        before = len(other.instruments)
        injector.remove(other)
        assert len(other.instruments) == before - 1
        injector.close()


async def test_faults_without_a_target_are_not_applicable(runtime: Runtime) -> None:
    injector = Injector(runtime)
    injector.start(
        [
            ResetConnection(when=At(0.0)),
            Partition(one="a", other="b", seconds=1.0, when=At(0.0)),
            KillNode(node="a", when=At(0.0)),
            SkewClock(seconds=1.0, node="a", when=At(0.0)),
        ]
    )
    await injector.finished()
    assert [report.why for report in injector.report()] == [
        "the injector has no network",
        "the injector has no network",
        "there is no node a here",
        "there is no node a here",
    ]
    injector.close()


class Servers:
    """The nodes of a live cluster, which find the owner of an entity later."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.then: Callable[[str | None], None] = lambda _: None

    def names(self) -> list[str]:
        return ["node1"]

    def is_up(self, name: str) -> bool:
        return True

    def find(self, name: str, then: Callable[[str | None], None]) -> None:
        self.then = then

    def kill(self, name: str, *, power: bool = False) -> None:
        self.done.append(f"kill {name}")

    def drain(self, name: str) -> None:
        self.done.append(f"drain {name}")

    def pause(self, name: str) -> None: ...
    def resume(self, name: str) -> None: ...
    def boot(self, name: str) -> None: ...
    def skew(self, name: str, seconds: float) -> None: ...


@pytest.mark.parametrize(("kind", "done"), [(KillNode, "kill"), (DrainNode, "drain")])
async def test_a_fault_of_an_owner_hits_the_node_that_the_cluster_finds(
    runtime: Runtime, kind: type[KillNode | DrainNode], done: str
) -> None:
    servers, injector = Servers(), Injector(runtime)
    injector.use_nodes(servers)
    injector.start([kind(node="owner of shops/bakery", when=At(0.0))])
    await trio.sleep(1)
    assert servers.done == []
    servers.then("node1")
    [report] = injector.report()
    assert servers.done == [f"{done} node1"]
    assert report.status == "applied"
    assert f"{done} the node node1 (owner of shops/bakery)" in report.text
    injector.close()


async def test_a_server_of_a_live_cluster_cannot_lose_its_power(runtime: Runtime) -> None:
    servers, injector = Servers(), Injector(runtime)
    injector.use_nodes(servers)
    injector.start([KillNode(node="node1", power=True, when=At(0.0))])
    await trio.sleep(1)
    servers.then("node1")
    assert servers.done == []
    assert "only a simulated machine can lose its power" in str(injector.report()[0].why)
    injector.close()


async def test_an_owner_that_is_found_after_the_end_of_the_plan_is_left_alone(
    runtime: Runtime,
) -> None:
    servers, injector = Servers(), Injector(runtime)
    injector.use_nodes(servers)
    injector.start([KillNode(node="owner of shops/bakery", when=At(0.0))])
    await trio.sleep(1)
    injector.heal()
    servers.then("node1")
    assert servers.done == []
    assert injector.report()[0].status == "not_applicable"
    injector.close()


class Brittle:
    """A connection of a third-party network, which fails to apply the fault."""

    name = "a->b#1"

    def reset(self) -> None:
        raise OSError("the proxy is gone")

    def hold(self) -> None:
        pass

    def release(self) -> None:
        raise OSError("the proxy is gone")

    def delay(self, seconds: float) -> None:
        pass


class BrittleNetwork:
    connections: Sequence[Brittle] = (Brittle(),)

    def partition_oneway(self, source: str, target: str) -> None:
        raise OSError("there is no such host")

    def heal(self, one: str | None = None, other: str | None = None) -> None:
        raise OSError("there is no such host")


async def test_an_exception_of_an_adapter_is_reported_for_its_fault(runtime: Runtime) -> None:
    trace = Trace(lambda: (0.0, 0, 0))
    injector = Injector(runtime, connections=BrittleNetwork(), trace=trace)
    injector.start(
        [
            ResetConnection(when=At(0.0)),
            HoldConnection(seconds=1.0, when=At(0.0)),
            Kill(target="/nobody", when=At(2.0)),
        ]
    )
    await injector.finished()
    reset, hold, kill = injector.report()
    assert (reset.status, reset.why) == (
        "masked",
        "it could not be applied: OSError: the proxy is gone",
    )
    assert (hold.status, hold.why) == (
        "masked",
        "it could not be undone: OSError: the proxy is gone",
    )
    assert kill.why == "there was no such process at that time"
    injector.close()
    assert [fault.status for fault in read_history(trace.lines).faults] == [
        *["masked"] * 2,
        "not_applicable",
    ]


async def test_a_live_stall_really_blocks_the_loop(runtime: Runtime) -> None:
    stalls: list[float] = []
    injector = Injector(runtime, stall=stalls.append)
    injector.start([StallLoop(seconds=0.25, when=At(1.0))])
    await injector.finished()
    assert stalls == [0.25]
    injector.close()


async def test_an_injected_signal_does_not_come_from_the_runtime(runtime: Runtime) -> None:
    # The root of a tree obeys the runtime, which is its parent.
    class Signals(Instrument):
        def signal_sent(self, sender: Pid, receiver: Pid, reason: object, linked: bool) -> None:
            senders.append(sender)

    senders: list[Pid] = []
    runtime.add_instrument(Signals())
    injector = Injector(runtime)
    await store(runtime)
    injector.start([ExitWith(target="/top", reason="shutdown", when=At(0.0))])
    await settle()
    assert injector.report()[0].status == "applied"
    assert len(runtime.processes()) == 2
    assert senders[0] not in (runtime.pid, *runtime.processes())
    injector.close()


@pytest.mark.parametrize("faults", [(), [Kill(target="/nobody", when=At(1.0))]])
async def test_a_runtime_may_be_left_while_faults_are_planned(
    runtime: Runtime, faults: Sequence[Fault]
) -> None:
    async with open_runtime(log=False) as inner:
        injector = Injector(inner)
        injector.start(faults)
        await store(inner)
    injector.close()
    assert trio.current_time() == 0.0

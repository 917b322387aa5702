"""The checks of a set of invariants in a runtime, and the list of the built-in invariants."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
import trio

from actors import ExitReason, Pid, kill, receive, send, spawn, wait_exit
from actors.instrumentation.instrument import Instrument
from actors.runtime import Runtime
from supervision.laboratory.chaos.errors import InvariantViolated
from supervision.laboratory.chaos.invariants.base import Feed, Invariant, Violation, Watch
from supervision.laboratory.chaos.invariants.built_in import BUILT_IN, choose
from supervision.laboratory.simulation.knobs import Knobs
from supervision.laboratory.simulation.scenario import scenario
from supervision.laboratory.simulation.simulate import simulate
from supervision.laboratory.simulation.world.world import World
from supervision.recording.places import Places


class Counts(Feed):
    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime)
        self.ends = 0
        self.closed = False

    def process_exited(self, pid: Pid, reason: ExitReason) -> None:
        self.ends += 1
        for each in self.listeners:
            each.heard.append(self.ends)

    def close(self) -> None:
        self.closed = True


class Few(Invariant):
    """An invariant that limits the number of living processes."""

    name: ClassVar[str] = "few"
    feed: ClassVar[type[Feed] | None] = Counts

    def __init__(self) -> None:
        super().__init__()
        self.living: list[Pid] = []
        self.heard: list[Any] = []

    def process_spawned(self, pid: Pid, parent: Pid, label: str) -> None:
        self.living.append(pid)
        if len(self.living) > 2:
            self.violated(f"{self.who(pid)} is one too many")

    def process_exited(self, pid: Pid, reason: ExitReason) -> None:
        self.living.remove(pid)
        self.heard.append("end")


class Quiet(Invariant):
    """An invariant whose results a test sets, for a check between two steps and for a check at rest."""

    name: ClassVar[str] = "quiet"
    between: str | None = None
    resting: str | None = None

    def check(self) -> str | None:
        return self.between

    def at_rest(self) -> str | None:
        return self.resting


async def test_a_violation_is_returned_by_every_later_check(runtime: Runtime) -> None:
    watch = Watch(runtime, [Quiet(), Few()], Places(runtime))
    for _ in range(2):
        spawn(receive, label="reader")
    assert watch.check() is watch.at_rest() is None
    spawn(receive, label="third")
    found = Violation("few", "/third#1 <pid 3> is one too many")
    spawn(receive, label="fourth")
    assert watch.check() == watch.at_rest() == found


async def test_checks_run_between_rounds_and_at_rest(runtime: Runtime) -> None:
    quiet = Quiet()
    watch = Watch(runtime, [Few(), quiet])
    quiet.between = "not between"
    assert watch.check() == Violation("quiet", "not between")
    assert watch.at_rest() is None
    quiet.between, quiet.resting = None, "not at rest"
    assert watch.check() is None
    assert watch.at_rest() == Violation("quiet", "not at rest")


def test_only_the_second_late_rest_in_a_row_is_a_problem() -> None:
    quiet = Quiet()
    assert quiet.late_twice({"a": "a is late"}) is None
    assert quiet.late_twice({"b": "b is late"}) is None
    assert quiet.late_twice({"c": "c is late", "b": "b is still late"}) == "b is still late"
    assert quiet.late_twice({}) is None
    assert quiet.late_twice({"b": "b is late"}) is None


async def test_processes_that_live_already_are_announced(runtime: Runtime) -> None:
    pid = spawn(receive)
    few = Few()
    Watch(runtime, [few])
    assert few.living == [pid]


async def test_a_feed_observes_first_and_serves_all_its_invariants(runtime: Runtime) -> None:
    one, other = Few(), Few()
    watch = Watch(runtime, [one, other])
    pid = spawn(receive)
    kill(pid)
    await wait_exit(pid)
    assert one.heard == other.heard == [1, "end"]
    watch.close()
    pid = spawn(receive)
    kill(pid)
    await wait_exit(pid)
    assert one.heard == [1, "end"]


async def test_an_invariant_gets_only_events_that_it_handles(runtime: Runtime) -> None:
    watch = Watch(runtime, [Quiet()])
    heard = [name for name in vars(Instrument) if name in vars(watch)]
    assert heard == []
    assert "process_spawned" in vars(Watch(runtime, [Few()]))


def test_invariants_are_chosen_by_name_or_class() -> None:
    assert [type(each) for each in choose("all")] == list(BUILT_IN.values())
    assert [each.name for each in choose(["no_orphan", Few])] == ["no_orphan", "few"]
    assert [each.name for each in choose(["all", Few])] == [*BUILT_IN, "few"]
    assert choose(()) == []
    with pytest.raises(ValueError, match="there is no invariant 'orphan'; write one of: no_orphan"):
        choose(["orphan"])
    with pytest.raises(TypeError, match="a sequence"):
        choose("no_orphan")


@scenario(invariants=("all", Few))
async def crowded(world: World) -> None:
    for _ in range(3):
        spawn(receive)
        await trio.sleep(1)


def test_the_knobs_of_a_run_override_the_invariants_of_a_scenario() -> None:
    error = simulate(crowded, seed=1).error
    assert isinstance(error, InvariantViolated)
    assert (error.invariant, error.seconds) == ("few", 2)
    simulate(crowded, seed=1, knobs=Knobs(invariants=("no_orphan",))).check()
    simulate(crowded, seed=1, knobs=Knobs(invariants=())).check()


def test_checking_does_not_change_a_run() -> None:
    async def harmless(world: World) -> None:
        for _ in range(3):
            kill(spawn(receive))
            await trio.sleep(1)

    on, off = (simulate(harmless, seed=1, knobs=Knobs(invariants=each)) for each in ("all", ()))
    assert (on.digest, on.steps_digest) == (off.digest, off.steps_digest)


def test_a_violation_is_in_the_trace() -> None:
    outcome = simulate(crowded, seed=1)
    assert any(b'"kind":"invariant"' in line and b'"few"' in line for line in outcome.trace)


class Outside(Invariant):
    """An invariant that records the faults outside of its runtime, and its own end."""

    name: ClassVar[str] = "outside"

    def __init__(self) -> None:
        super().__init__()
        self.events: list[tuple[str, bool] | str] = []

    def disturbed(self, what: str, *, ongoing: bool) -> None:
        self.events.append((what, ongoing))

    def detach(self) -> None:
        self.events.append("detached")


def test_an_invariant_learns_of_faults_around_its_runtime_and_of_the_end_of_its_node() -> None:
    made: list[Outside] = []

    def make() -> Outside:
        made.append(Outside())
        return made[-1]

    @scenario(invariants=(make,))
    async def faults(world: World) -> None:
        async def main(node: Any) -> None:
            await trio.sleep_forever()

        world.nodes.start("a", main)
        await world.settle()
        world.network.partition_oneway("a", "b")
        world.network.heal()
        world.nodes.kill("a")
        world.nodes.boot("a")
        await world.settle()

    simulate(faults, 1).check()
    _, first, second = [each for each in made if each.events]
    network: list[Any] = [("partition", True), ("healed", False)]
    assert first.events == [*network, "detached"]
    assert second.events == ["detached"]


class OnlyTexts(Invariant):
    """An invariant that gets only messages of the class `str`."""

    name: ClassVar[str] = "only_texts"
    only_messages: ClassVar[Mapping[str, type]] = {"message_sent": str, "message_received": str}

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Any] = []

    def message_sent(self, sender: Pid | None, receiver: Pid, message: Any) -> None:
        self.seen.append(("sent", message))

    def message_received(self, pid: Pid, message: Any) -> None:
        self.seen.append(("received", message))


async def test_an_invariant_gets_only_the_messages_of_its_class(
    runtime: Runtime, autojump_clock: object
) -> None:
    texts = OnlyTexts()
    watch = Watch(runtime, [texts])

    async def take() -> None:
        while True:
            await receive()

    pid = spawn(take)
    for message in (1, "two", True):
        send(pid, message)
    await trio.sleep(1)
    assert texts.seen == [("sent", "two"), ("received", "two")]
    watch.close()

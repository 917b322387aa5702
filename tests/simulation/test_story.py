"""Stories of failed runs."""

from typing import Any

import pytest
import trio

from actors import GenServer, NoReply, Reply, call, cast, receive, send, spawn, wait_exit
from supervision import Supervisor, child_spec, process_spec
from supervision.laboratory.chaos.faults.kinds import Fault, Kill, Raise
from supervision.laboratory.chaos.faults.moments import At, On
from supervision.laboratory.simulation.knobs import Knobs
from supervision.laboratory.simulation.outcome import failures_in, identify, problem_of
from supervision.laboratory.simulation.replaying.story import tell
from supervision.laboratory.simulation.world.world import World
from tests.laws.scenarios import simulate


def story(scenario: Any, *, lines: int = 12, **options: Any) -> list[str]:
    return tell(simulate(scenario, 1, **options), lines=lines).splitlines()


class Store(GenServer[dict[str, int]]):
    """A server that keeps numbers."""

    async def init(self) -> None:
        self.state = {}

    async def handle_cast(self, message: Any) -> None:
        if message == ("put", "bad", 1):
            raise ValueError("oh")

    async def handle_call(self, request: Any, sender: Any) -> NoReply:
        return NoReply()


async def store_and_helper(world: World) -> None:
    """Two children that depend on each other, for ten seconds."""
    helper = process_spec(trio.sleep_forever, id="helper")
    store = child_spec(Store, id="store", kwargs={"name": "store"})
    await Supervisor.start([store, helper], strategy="one_for_all", max_restarts=1, name="top")
    cast("store", ("put", "good", 1))
    await trio.sleep(5)
    if world.params.get("bad"):
        cast("store", ("put", "bad", 1))
    await trio.sleep(5)
    world.check(False, "it is over")


def test_a_crash_has_its_error_and_the_message_before_it() -> None:
    told = story(store_and_helper, params={"bad": True})
    assert told[0].endswith("test_story:store_and_helper fails with seed 1, bad=True")
    assert told[1:] == [
        "  0 s       /top/store got ('put', 'good', 1) from the scenario",
        "  5 s       /top/store got ('put', 'bad', 1) from the scenario",
        "  5 s       /top/store crashed with ValueError('oh'), after ('put', 'bad', 1) from the scenario",
        "  5 s       /top/helper was shut down",
        "  5 s       the supervisor /top started store again, as /top/store#2",
        "  5 s       the supervisor /top started helper again, as /top/helper#2",
        "  10 s      the check failed: it is over",
    ]


def test_a_story_has_the_actual_targets_of_faults_and_their_consequences() -> None:
    faults: tuple[Fault, ...] = (
        Kill(target="/top/h*", when=At(2.0)),
        Raise(target="/top/store", when=On("init", incarnation=3)),
        Kill(target="/nobody", when=At(3.0)),
    )
    told = story(store_and_helper, faults=faults)
    assert told[1] == (
        "kill /top/h* at 2 s (/top/helper); crash /top/store before its first init as incarnation 3 "
        "(not applicable); kill /nobody at 3 s (not applicable)"
    )
    assert "  2 s       /top/helper was killed" in told


def test_a_supervisor_that_gives_up_is_in_the_story() -> None:
    faults = tuple(Kill(target="/top/store", when=At(seconds)) for seconds in (1.0, 2.0))
    told = story(store_and_helper, faults=faults)
    assert "  2 s       the supervisor /top gave up on store" in told
    assert "  2 s       the supervisor /top was shut down" in told


def test_a_long_story_keeps_the_sentences_nearest_to_its_end() -> None:
    async def many(world: World) -> None:
        for number in range(100):
            world.note("one more", number=number)
        world.check(False, "enough")

    told = story(many, lines=4)
    assert [line.strip() for line in told[1:]] == [
        "... 96 more ...",
        "0 s       noted: one more (number 96)",
        "0 s       noted: one more (number 97)",
        "0 s       noted: one more (number 98)",
        "0 s       noted: one more (number 99)",
        "0 s       the check failed: enough",
    ]


def test_the_story_of_a_deadlock_has_the_messages_and_the_waiting_processes() -> None:
    async def asks() -> None:
        await call("store", "anybody?", timeout=float("inf"))

    async def silence(world: World) -> None:
        await Store.start(name="store")
        await wait_exit(spawn(asks, label="asks"))

    told = story(silence)
    assert told[1:3] == [
        "  0 s       /store got 'anybody?' from /asks",
        "  0 s       deadlock at 0 s: no task can run, and none waits for a time",
    ]
    assert "asks <pid 2> waits for 'store' to answer 'anybody?'" in told[4]
    assert told[-1] == "            /asks waits for /store to answer 'anybody?', since 0 s"


def test_only_canonical_runs_show_the_order_of_tasks() -> None:
    async def racers(world: World) -> None:
        async def racer() -> None:
            await receive()

        first, second = (spawn(racer, label=label) for label in ("first", "second"))
        await trio.sleep(1)
        send(first, "go")
        send(second, "go")
        await trio.sleep(1)
        world.check(False, "they have raced")

    seed = next(
        n for n in range(50) if "/second#1" in str(simulate(racers, n, label_tasks=True).named)
    )
    seeded = simulate(racers, seed, label_tasks=True)
    assert "ran before" not in tell(seeded)
    race = [each for each in seeded.named if each.tasks == ("/second#1", "/first#1")]
    canonical = simulate(
        racers, seed, knobs=Knobs(policy="canonical"), deviations=race[-1:], label_tasks=True
    )
    assert f"/second ran before /first at {race[-1].seconds:g} s" in tell(canonical)


@pytest.mark.parametrize("text", ["one\ntwo", "x" * 10])
def test_an_exception_is_shown_with_its_type(text: str) -> None:
    async def raises(world: World) -> None:
        raise LookupError(text)

    first, *rest = text.splitlines()
    assert story(raises)[1:] == [
        f"  0 s       LookupError: {first}",
        *(f"            {r}" for r in rest),
    ]


def test_a_passing_run_has_a_story_too() -> None:
    async def fine(world: World) -> None:
        await trio.sleep(1)

    assert story(fine)[0].endswith("fine passes with seed 1")
    assert story(fine)[-1] == "  1 s       nothing broke"


async def wanted(world: World) -> None:
    """Run the same check through a helper, from one of two lines."""
    if world.params["first"]:
        must_hold(world)
    else:
        must_hold(world)


def must_hold(world: World) -> None:
    world.check(False, "it does not hold")


def kind(scenario: Any, **params: Any) -> str | None:
    return identify(simulate(scenario, 1, params=params).error)


def test_the_kind_of_a_check_in_a_helper_names_the_caller() -> None:
    assert kind(wanted, first=True) == (
        "invariant check in line 2 of must_hold, called in line 4 of wanted"
    )
    assert kind(wanted, first=False) == (
        "invariant check in line 2 of must_hold, called in line 6 of wanted"
    )


async def fails(error: Exception) -> None:
    raise error


async def two_failures(world: World) -> None:
    async with trio.open_nursery() as nursery:
        for error in [LookupError("no room"), ValueError("no name")][: world.params["count"]]:
            nursery.start_soon(fails, error)


def test_a_group_of_one_exception_is_this_exception() -> None:
    assert kind(two_failures, count=1) == "LookupError in line 2 of fails"


def test_a_group_of_several_exceptions_is_named_by_its_failures() -> None:
    assert kind(two_failures, count=2) == (
        "LookupError in line 2 of fails and ValueError in line 2 of fails"
    )
    outcome = simulate(two_failures, 1, params={"count": 2})
    assert outcome.error is not None
    assert sorted(problem_of(outcome.error).split("; and ")) == [
        "LookupError: no room",
        "ValueError: no name",
    ]
    told = tell(outcome).splitlines()
    assert "2 failures at once:" in told[-3]
    assert sorted(line.strip() for line in told[-2:]) == [
        "LookupError: no room",
        "ValueError: no name",
    ]


def test_nested_groups_are_flattened() -> None:
    inner = BaseExceptionGroup("", [ValueError("a"), BaseExceptionGroup("", [KeyError("b")])])
    assert [type(each) for each in failures_in(inner)] == [ValueError, KeyError]


class Diary(GenServer[dict[str, str]]):
    """A server whose requests and answers contain a secret."""

    async def init(self) -> None:
        self.state = {}

    async def handle_call(self, request: Any, sender: Any) -> Reply:
        return Reply({"token": "t0psecret", "name": request["name"]})


def test_secrets_are_masked_in_requests_and_answers() -> None:
    async def signs_in(world: World) -> None:
        await Diary.start(name="diary")
        await call("diary", {"name": "ann", "password": "t0psecret"})
        world.check(False, "done")

    told = "\n".join(story(signs_in))
    assert "t0psecret" not in told
    assert (
        "/diary got {'name': 'ann', 'password': [FILTERED]} from the scenario, and answered "
        "{'token': [FILTERED], 'name': 'ann'}" in told
    )

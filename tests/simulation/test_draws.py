"""Values that a scenario draws from `world.random`: their records, and how they shrink."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import attrs
import msgspec
import pytest
import trio

from actors import current_runtime
from supervision.laboratory.entropy import Streams, derive
from supervision.laboratory.simulation.draws import Draw, Draws
from supervision.laboratory.simulation.errors import RunFileError
from supervision.laboratory.simulation.outcome import Outcome
from supervision.laboratory.simulation.replaying.run_file import load_run, replay, save_run
from supervision.laboratory.simulation.shrinking.shrink import Shrunk, shrink
from supervision.laboratory.simulation.world.world import World
from tests.laws.scenarios import simulate

CALLS: dict[str, Callable[[Random], Any]] = {
    "random": lambda stream: stream.random(),
    "uniform": lambda stream: stream.uniform(2, 5),
    "triangular": lambda stream: stream.triangular(2, 5, 3),
    "randint": lambda stream: stream.randint(-3, 12),
    "randrange": lambda stream: stream.randrange(10),
    "randrange with a step": lambda stream: stream.randrange(5, 100, 7),
    "a large randrange": lambda stream: stream.randrange(2**70),
    "choice": lambda stream: stream.choice("abcdef"),
    "choices": lambda stream: stream.choices("abc", k=4),
    "choices with weights": lambda stream: stream.choices("abc", weights=[1, 5, 2], k=4),
    "choices with sums": lambda stream: stream.choices("abc", cum_weights=[1, 6, 8], k=4),
    "sample": lambda stream: stream.sample(range(30), 5),
    "sample with counts": lambda stream: stream.sample("ab", 3, counts=[4, 2]),
    "shuffle": lambda stream: shuffled(stream, 9),
    "getrandbits": lambda stream: stream.getrandbits(40),
    "randbytes": lambda stream: stream.randbytes(9),
    "expovariate": lambda stream: stream.expovariate(3),
    "gauss": lambda stream: (stream.gauss(0, 1), stream.gauss(0, 1)),
    "normalvariate": lambda stream: stream.normalvariate(5, 2),
    "lognormvariate": lambda stream: stream.lognormvariate(0, 1),
    "betavariate": lambda stream: stream.betavariate(2, 3),
    "gammavariate": lambda stream: stream.gammavariate(2, 3),
    "paretovariate": lambda stream: stream.paretovariate(2),
    "vonmisesvariate": lambda stream: stream.vonmisesvariate(1, 2),
    "weibullvariate": lambda stream: stream.weibullvariate(1, 2),
}


def stream_of(seed: int, draws: Draws) -> Random:
    return Streams(seed, draws.new).stream("scenario", "x")


def plain(seed: int) -> Random:
    return Random(derive(seed, "scenario", "x"))


def shuffled(stream: Random, count: int) -> list[int]:
    items = list(range(count))
    stream.shuffle(items)
    return items


@pytest.mark.parametrize("name", CALLS)
def test_records_change_no_number(name: str) -> None:
    for seed in range(20):
        usual, recorded = plain(seed), stream_of(seed, Draws(()))
        for _ in range(3):
            assert CALLS[name](recorded) == CALLS[name](usual)
        assert recorded.getstate() == usual.getstate()


@pytest.mark.parametrize("name", CALLS)
def test_the_simplest_value_is_a_possible_result(name: str) -> None:
    for seed in range(20):
        first = Draws(())
        CALLS[name](stream_of(seed, first))
        simplest = [attrs.evolve(each, value=each.simplest) for each in first.drawn]
        again = Draws(simplest)
        CALLS[name](stream_of(seed, again))
        count = min(len(simplest), len(again.drawn))
        assert [each.value for each in again.drawn[:count]] == [
            each.value for each in simplest[:count]
        ]


def test_a_rare_event_stays_rare_and_a_frequent_one_frequent() -> None:
    draws = Draws(())
    stream = stream_of(1, draws)
    values = [stream.random() for _ in range(2000)]
    simplest = [float(each.simplest) for each in draws.drawn]  # type: ignore[arg-type]
    for chance in (0.01, 0.1, 0.9, 0.99):
        before = sum(value < chance for value in values)
        after = sum(value < chance for value in simplest)
        assert after == pytest.approx(before, rel=0.5)
    assert 0.0 < min(simplest) <= max(simplest) < 1.0


def test_wrong_arguments_raise_the_errors_of_python() -> None:
    stream = stream_of(1, Draws(()))
    with pytest.raises(IndexError):
        stream.choice([])
    with pytest.raises(ValueError, match="empty range"):
        stream.randrange(5, 5)
    with pytest.raises(ValueError, match="larger than population"):
        stream.sample("ab", 3)


def test_a_replacement_that_is_no_result_of_the_call_is_ignored() -> None:
    for call, value in (("randrange", 10), ("randrange", 0.5), ("choice", 3), ("shuffle", (0, 1))):
        draws = Draws([Draw(purpose=("x",), number=1, call=call, value=value)])
        assert stream_of(3, draws).randrange(10) == plain(3).randrange(10)
        assert [each.value for each in draws.drawn] == [each.own for each in draws.drawn]


# Shrinking


def shrunk(scenario: Any, **params: Any) -> tuple[Outcome, Shrunk]:
    outcomes = (simulate(scenario, seed, params=params) for seed in range(50))
    outcome = next(outcome for outcome in outcomes if not outcome.passed)
    return outcome, shrink(outcome, scenario=scenario)


def values(outcome: Outcome) -> list[str]:
    return [each.result for each in outcome.drawn]


async def buys(world: World) -> None:
    """Draw a number of orders and their sizes. Three large orders are too many."""
    stream = world.random("orders")
    large = 0
    for _ in range(stream.randrange(1, 40)):
        await trio.sleep(stream.uniform(0.5, 3.0))
        large += stream.randint(1, 100) >= 60
    world.check(large < 3, "three large orders")


def test_drawn_numbers_shrink_to_the_least_that_fail() -> None:
    before, after = shrunk(buys)
    assert before.drawn == ()
    sizes = [int(result) for result in values(after.outcome)[2::2]]
    assert sum(size >= 60 for size in sizes) == 3
    assert set(sizes) == {1, 60}
    assert set(values(after.outcome)[1::2]) == {"0.5"}
    assert int(values(after.outcome)[0]) == len(sizes)


def test_a_draw_that_changes_the_number_of_later_draws_shrinks_too() -> None:
    async def scenario(world: World) -> None:
        stream = world.random("x")
        count = stream.randrange(100)
        found = [stream.choice("abc") for _ in range(count)]
        world.check(count < 7 or "b" not in found, "a b among seven")

    _, after = shrunk(scenario)
    assert values(after.outcome)[0] == "7"
    assert sorted(values(after.outcome)[1:]) == ["'a'"] * 6 + ["'b'"]


def test_orders_shrink_towards_the_original_order() -> None:
    async def scenario(world: World) -> None:
        items = list(range(8))
        world.random("x").shuffle(items)
        world.check(items.index(5) < items.index(2) or items[0] == 5, "two before five")

    _, after = shrunk(scenario)
    assert values(after.outcome) == ["[0, 1, 2, 3, 4, 5, 6, 7]"]

    async def swapped(world: World) -> None:
        items = list(range(8))
        world.random("x").shuffle(items)
        world.check(items.index(2) < items.index(5), "five before two")

    _, after = shrunk(swapped)
    (result,) = values(after.outcome)
    order = msgspec.json.decode(result)
    assert sum(item != place for place, item in enumerate(order)) == 2


def test_lost_messages_do_not_become_all_messages() -> None:
    async def scenario(world: World) -> None:
        """Lose a tenth of a hundred messages. The program survives five losses."""
        loss = world.random("loss")
        lost = 0
        for _ in range(100):
            lost += loss.random() < 0.1
        world.note("lost", lost=lost)
        world.check(lost < 5, "too many lost")

    _, after = shrunk(scenario)
    noted = [msgspec.json.decode(line) for line in after.outcome.trace if b'"lost"' in line]
    assert 5 <= int(noted[0]["lost"]) <= 15
    assert all(each.is_simple for each in after.outcome.drawn)
    assert all(0 < float(result) < 1 for result in values(after.outcome))


def test_simpler_draws_do_not_make_the_run_longer() -> None:
    async def scenario(world: World) -> None:
        pauses = world.random("pauses")
        left = 100.0
        while left > 0:
            pause = pauses.uniform(1, 20)
            left -= pause
            await trio.sleep(pause)
        world.check(False, "always")

    _, after = shrunk(scenario)
    assert after.outcome.steps <= simulate(scenario, after.outcome.seed).steps


def test_other_randomness_is_not_recorded_and_does_not_change() -> None:
    async def scenario(world: World) -> None:
        await trio.sleep(world.random("pause").uniform(1, 2))
        world.note("other", number=current_runtime().random.random())
        listener = world.network.listen("server", 7)
        stream = await world.network.connect("server", 7, source="phone")
        begun = world.seconds
        await stream.send_all(b"hello")
        await (await listener.accept()).receive_some()
        world.note("took", seconds=round(world.seconds - begun, 9))
        world.check(False, "always")

    before, after = shrunk(scenario)
    assert len(after.outcome.drawn) == 1

    def notes(outcome: Outcome) -> list[str]:
        events = [msgspec.json.decode(line) for line in outcome.trace if b'"note"' in line]
        return [event.get("number", event.get("seconds")) for event in events]

    assert notes(before) == notes(after.outcome)


def test_the_story_names_the_draws_that_the_failure_needs() -> None:
    async def scenario(world: World) -> None:
        world.check(world.random("orders").randrange(100) < 7, "seven or more")
        world.check(world.random("names", "first").choice("abc") == "z", "never")

    found = [simulate(scenario, seed) for seed in range(20)]
    outcome = next(each for each in found if "seven" in str(each.error))
    story = shrink(outcome, scenario=scenario).story
    assert story.splitlines()[1] == "world.random('orders') gave 7 in call 1, randrange()"


def test_a_run_with_other_draws_is_replayed_from_its_file(tmp_path: Path) -> None:
    _, after = shrunk(buys)
    save_run(after.outcome, tmp_path / "small.json")
    assert load_run(tmp_path / "small.json") == after.run
    assert after.run.draws
    assert replay(tmp_path / "small.json", scenario=buys).digest == after.outcome.digest
    assert shrink(after.run, scenario=buys).run == after.run


def test_a_run_file_of_the_version_without_draws_is_read(tmp_path: Path) -> None:
    outcome = simulate(buys, 1, params={"x": 1})
    save_run(outcome, tmp_path / "run.json")
    run = msgspec.json.decode((tmp_path / "run.json").read_bytes())
    del run["draws"]
    run["format"] = "ashtree-run/1"
    (tmp_path / "run.json").write_bytes(msgspec.json.encode(run))
    assert replay(tmp_path / "run.json", scenario=buys).digest == outcome.digest
    run["format"] = "ashtree-run/3"
    (tmp_path / "run.json").write_bytes(msgspec.json.encode(run))
    with pytest.raises(RunFileError, match=r"reads 'ashtree-run/1' and 'ashtree-run/2'"):
        load_run(tmp_path / "run.json")


def test_the_moments_of_threads_are_not_drawn_from_the_streams_of_the_scenario() -> None:
    async def run(world: World) -> None:
        await trio.to_thread.run_sync(int)

    assert simulate(run, 1, label_tasks=True).check().drawn == ()

"""Comparison of policies with the same seeds and the same faults."""

import io
import math
import random
import xml.etree.ElementTree as ET

import pytest
import trio
from rich.console import Console

from actors import GenServer
from supervision import Supervisor, child_spec
from supervision.laboratory.chaos.faults.kinds import Kill
from supervision.laboratory.chaos.faults.moments import At
from supervision.laboratory.simulation.comparing.comparison import (
    Comparison,
    Policy,
    compare,
    measures_of,
)
from supervision.laboratory.simulation.comparing.statistics import paired, sign_test
from supervision.laboratory.simulation.knobs import Knobs
from supervision.laboratory.simulation.world.world import World
from supervision.simulation import SimulationError
from tests.laws.scenarios import scenario, simulate
from tests.simulation.sweep_scenarios import ends_its_process


class Idle(GenServer[None]):
    """A server that waits."""


@scenario(
    faults=lambda chance: [
        Kill(target="/top/*", when=At(second), pick=chance.random()) for second in range(1, 7)
    ],
    params={"strategy": "one_for_one", "children": 3},
)
async def killings(world: World) -> None:
    """Children that are killed, under a supervisor with a strategy."""
    await Supervisor.start_link(
        [child_spec(Idle, id=number) for number in range(world.params["children"])],
        strategy=world.params["strategy"],
        max_restarts=100,
        label="top",
    )
    await trio.sleep(10)
    world.measure("luck", world.random("luck").random())
    for value in (1, 2, 6):
        world.measure("three", value)


ONE_AND_ALL = {"one": {"strategy": "one_for_one"}, "all": {"strategy": "one_for_all"}}


def test_the_figures_of_policies_differ_only_by_the_effect_of_the_policies() -> None:
    comparison = compare(ONE_AND_ALL, killings, seeds=range(1, 21), jobs=0)
    assert comparison.values("restarts", "one") == [6.0] * 20
    assert comparison.values("restarts", "all") == [18.0] * 20
    assert comparison.values("blast radius", "one") == [0.0] * 20
    assert comparison.values("blast radius", "all") == [12.0] * 20
    found = comparison.difference("restarts", "all")
    assert found is not None
    assert (found.mean, found.low, found.high, found.median) == (12, 12, 12, 12)
    assert (found.less, found.same, found.more) == (0, 0, 20)
    assert found.differs
    same = comparison.difference("luck", "all")
    assert same is not None
    assert (same.mean, same.same, same.p, same.differs) == (0, 20, 1.0, False)


def test_a_comparison_is_the_same_in_any_number_of_processes() -> None:
    none, two = (compare(ONE_AND_ALL, killings, seeds=[3, 1, 4], jobs=jobs) for jobs in (0, 2))
    assert none == two
    assert none.as_data() == two.as_data()
    assert none.to_svg() == two.to_svg()


def test_all_policies_of_a_seed_have_the_faults_of_the_first() -> None:
    drawn: list[float] = []

    def plan(stream: random.Random) -> list[object]:
        drawn.append(stream.random())
        return []

    @scenario(faults=plan)  # type: ignore[arg-type]
    async def nothing(world: World) -> None:
        pass

    compare({"a": {}, "b": {}, "c": {}}, nothing, seeds=[1, 2], jobs=0)
    assert len(drawn) == 2


def test_policies_may_differ_in_their_knobs_and_share_the_rest() -> None:
    async def where(world: World) -> None:
        world.measure("quantum", world.knobs.quantum)
        world.measure("clients", world.params["clients"])

    comparison = compare(
        {"exact": Policy(knobs=Knobs(quantum=0.0)), "coarse": Policy(knobs=Knobs(quantum=0.5))},
        where,
        seeds=[1, 2],
        params={"clients": 5},
        swarm=False,
        jobs=0,
    )
    assert comparison.values("quantum", "exact") == [0.0, 0.0]
    assert comparison.values("quantum", "coarse") == [0.5, 0.5]
    assert comparison.values("clients", "coarse") == [5.0, 5.0]


def test_the_figures_of_a_run_come_from_its_trace_and_from_the_scenario() -> None:
    figures = measures_of(simulate(killings, 1))
    assert figures["restarts"] == 6
    assert figures["failed"] == figures["gave up"] == figures["not back"] == 0
    assert figures["seconds to recover"] >= 0
    assert figures["three"] == 3
    assert 0 < figures["luck"] < 1

    async def fails(world: World) -> None:
        world.check(False, "no")

    assert measures_of(simulate(fails, 1))["failed"] == 1


def test_a_figure_is_compared_only_for_seeds_where_both_policies_have_it() -> None:
    async def now_and_then(world: World) -> None:
        if world.seed % 2 or world.params["always"]:
            world.measure("seen", world.seed)

    comparison = compare(
        {"sometimes": {"always": False}, "always": {"always": True}},
        now_and_then,
        seeds=range(1, 7),
        jobs=0,
    )
    found = comparison.difference("seen", "always")
    assert found is not None
    assert found.pairs == 3
    assert comparison.values("seen", "always") == [1, 2, 3, 4, 5, 6]


def test_a_comparison_has_a_table_and_a_picture() -> None:
    comparison = compare(ONE_AND_ALL, killings, seeds=range(1, 6), jobs=0)
    text = str(comparison)
    assert "5 seeds" in text
    assert "+12 [+12, +12]*" in text
    assert "0/0/5" in text
    picture = ET.fromstring(comparison.to_svg())
    words = [each.text or "" for each in picture.iter() if each.tag.endswith("text")]
    assert {"restarts", "blast radius", "luck", "one", "all"} <= set(words)
    assert any(word.startswith("the same in every run: failed 0") for word in words)
    assert "http" not in comparison.to_svg().replace("http://www.w3.org/2000/svg", "")


def test_names_with_angle_brackets_do_not_break_the_picture() -> None:
    async def named(world: World) -> None:
        world.measure("<&>", world.seed)

    ET.fromstring(compare({"<a>": {}, "&b": {}}, named, seeds=[1, 2], jobs=0).to_svg())


def test_fewer_than_two_policies_and_no_seeds_are_refused() -> None:
    with pytest.raises(ValueError, match="two or more"):
        compare({"one": {}}, killings, seeds=[1])
    with pytest.raises(ValueError, match="seeds is empty"):
        compare(ONE_AND_ALL, killings, seeds=[])


def test_an_error_names_the_seed_of_a_lost_run() -> None:
    with pytest.raises(SimulationError, match="seed 3 cannot be compared"):
        compare({"a": {}, "b": {}}, ends_its_process, seeds=[1, 2, 3], jobs=1)


# The statistics


def test_the_interval_is_around_the_mean_and_narrower_with_more_pairs() -> None:
    stream = random.Random(1)
    values = [stream.gauss(1.0, 2.0) for _ in range(400)]
    few, many = paired([0.0] * 30, values[:30]), paired([0.0] * 400, values)
    assert few is not None
    assert many is not None
    assert few.low < few.mean < few.high
    assert many.low < 1.0 < many.high
    assert many.high - many.low < (few.high - few.low) / 2
    # As far as the normal distribution says, too.
    assert many.high - many.low == pytest.approx(2 * 1.96 * 2.0 / math.sqrt(400), rel=0.15)
    assert paired([0.0] * 400, values) == many


def test_the_interval_covers_the_true_mean_in_95_percent_of_samples() -> None:
    stream = random.Random(2)
    held = 0
    for _ in range(100):
        found = paired([0.0] * 40, [stream.expovariate(1.0) - 1.0 for _ in range(40)])
        assert found is not None
        held += found.low <= 0.0 <= found.high
    assert 85 <= held <= 100


def test_the_sign_test_is_the_binomial_one() -> None:
    assert sign_test(0, 0) == 1.0
    assert sign_test(5, 5) == 1.0
    assert sign_test(0, 5) == sign_test(5, 0) == 2 / 32
    assert sign_test(1, 9) == pytest.approx(2 * 11 / 1024)


def test_without_pairs_there_is_no_difference() -> None:
    assert paired([], []) is None


def test_names_are_never_markup_on_a_console() -> None:
    name = "[bold]x[/bold] :smile:"
    comparison = Comparison(
        scenario=f"m:{name}", policies=("a", name), seeds=(1,), runs=({"a": {name: 1.0}, name: {}},)
    )
    text = io.StringIO()
    Console(file=text, width=400).print(comparison.table())
    for shown in (str(comparison), text.getvalue()):
        assert shown.count(name) == 3

"""The same seed gives the same run: in this process, in another one, from a file, and with any hash seed."""

import os
from pathlib import Path

import pytest

from supervision.laboratory.simulation.errors import Diverged, RunFileError, SimulationFailed
from supervision.laboratory.simulation.knobs import Knobs
from supervision.laboratory.simulation.replaying.run_file import load_run, replay, save_run
from supervision.laboratory.simulation.replaying.self_check import check_determinism
from supervision.laboratory.simulation.world.world import World
from tests.laws.scenarios import simulate
from tests.simulation.chat_scenario import chat, chat_and_tree
from tests.simulation.scenarios import crashing_tree, iterates_over_a_set

DEEP = os.environ.get("HYPOTHESIS_PROFILE") == "deep"
SEEDS = range(200 if DEEP else 1)
SMALL = {"groups": 2, "workers": 4, "rounds": 5}


@pytest.mark.parametrize("seed", SEEDS)
def test_two_hundred_actors_and_five_clients_are_the_same_in_a_fresh_process(seed: int) -> None:
    outcome = simulate(chat_and_tree, seed, knobs=Knobs().drawn(seed)).check()
    again = simulate(chat_and_tree, seed, knobs=Knobs().drawn(seed))
    assert (again.digest, again.steps_digest) == (outcome.digest, outcome.steps_digest)
    check_determinism(outcome, hash_seed=seed + 1, junk=997 * seed)


@pytest.mark.parametrize("seed", range(50 if DEEP else 2))
def test_an_endpoint_with_its_transport_and_hypercorn_runs_in_a_world(seed: int) -> None:
    outcome = simulate(chat, seed, knobs=Knobs().drawn(seed)).check()
    again = simulate(chat, seed, knobs=Knobs().drawn(seed))
    assert (again.digest, again.steps_digest) == (outcome.digest, outcome.steps_digest)
    assert b"a client lost its connection" in b"".join(outcome.trace)


def test_the_order_of_seeds_does_not_change_their_runs() -> None:
    forwards = [simulate(crashing_tree, seed, params=SMALL).digest for seed in range(5)]
    backwards = [simulate(crashing_tree, seed, params=SMALL).digest for seed in range(4, -1, -1)]
    assert forwards == backwards[::-1]
    assert len(set(forwards)) == 5


def test_a_dependence_on_set_order_is_reported_at_the_first_different_event() -> None:
    outcome = simulate(iterates_over_a_set, 1).check()
    with pytest.raises(Diverged) as caught:
        check_determinism(outcome)
    assert '"kind":"sent"' in str(caught.value.first)
    assert caught.value.first != caught.value.second
    assert "the order of a set depends on hashes" in str(caught.value)


async def fails(world: World) -> None:
    world.check(world.params.get("fine"), "it is not fine")


def test_a_failure_is_replayed_from_its_file(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    outcome = simulate(fails, seed=5, knobs=Knobs(quantum=0.02), params={"fine": False})
    saved = save_run(outcome, file)
    assert load_run(file) == saved
    assert saved.failure == "invariant check in line 2 of fails"
    again = replay(file)
    assert again.trace == outcome.trace
    with pytest.raises(SimulationFailed, match="it is not fine"):
        again.check()


def test_a_replay_that_differs_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    save_run(simulate(crashing_tree, 1, params=SMALL), file)
    text = file.read_text()
    file.write_text(text.replace('"seed": 1', '"seed": 2'))
    with pytest.raises(RunFileError, match="the program has changed"):
        replay(file)
    file.write_text(text.replace('"seed": 1', '"seed": 2').replace('"trio": "', '"trio": "0'))
    with pytest.raises(RunFileError, match="trio was 0"):
        replay(file)


@pytest.mark.parametrize("value", [(1, 2), {1}, b"x", {1: 2}, float("nan")], ids=repr)
def test_parameters_that_json_would_change_are_not_saved(tmp_path: Path, value: object) -> None:
    outcome = simulate(fails, seed=5, params={"fine": True, "odd": value})
    with pytest.raises(RunFileError, match="its parameter 'odd' would be read as "):
        save_run(outcome, tmp_path / "run.json")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "cannot be read"),
        ("[]", "is not a run file"),
        ("{}", "is not a run file: it has no format"),
        ('{"format": "ashtree-run/1"}', "is a broken run file"),
    ],
)
def test_a_file_that_is_not_a_run_file_is_refused(
    tmp_path: Path, content: str | None, problem: str
) -> None:
    file = tmp_path / "run.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(RunFileError, match=problem):
        replay(file)


def test_a_run_that_could_not_be_repeated_is_refused_at_once(tmp_path: Path) -> None:
    async def local(world: World) -> None:
        pass

    outcome = simulate(local, 1)
    with pytest.raises(RunFileError, match="no other process can import"):
        check_determinism(outcome)
    with pytest.raises(RunFileError, match="types that JSON has"):
        save_run(simulate(fails, 1, params={"fine": object()}), tmp_path / "run.json")

"""The corpus: one file for each kind of failure, and its replays."""

from pathlib import Path

import pytest

from supervision.laboratory.simulation.errors import RunFileError
from supervision.laboratory.simulation.replaying.run_file import RunFile, describe_run, load_run
from supervision.laboratory.simulation.search.corpus import Corpus
from supervision.laboratory.simulation.simulate import Scenario
from tests.laws.scenarios import simulate
from tests.simulation.sweep_scenarios import Answers, changeable, checks_at_every_seed, rarely_fails

CHANGEABLE = "tests.simulation.sweep_scenarios:changeable"


def run_of(scenario: Scenario, seed: int) -> RunFile:
    return describe_run(simulate(scenario, seed))


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return Corpus(tmp_path / "a" / "corpus")


def test_the_name_of_a_file_has_the_scenario_the_failure_and_the_seed(corpus: Corpus) -> None:
    assert corpus.entries() == []
    run = run_of(checks_at_every_seed, 7)
    path = corpus.keep(run)
    assert (
        path.name == "tests.simulation.sweep-scenarios-checks-at-every-seed--"
        "invariant-check-in-line-4-of-checks-at-every-seed--7.json"
    )
    assert load_run(path) == run
    assert corpus.entries() == [(path, run)]


def test_the_corpus_keeps_the_first_of_several_equal_failures(corpus: Corpus) -> None:
    first = corpus.keep(run_of(checks_at_every_seed, 7))
    assert corpus.keep(run_of(checks_at_every_seed, 8)) == first
    other = corpus.keep(run_of(changeable, 7))
    assert other != first
    assert [path for path, _ in corpus.entries(CHANGEABLE)] == [other]
    assert len(corpus.entries()) == 2


def test_a_stale_file_does_not_replace_a_failure(corpus: Corpus) -> None:
    first = corpus.keep(run_of(checks_at_every_seed, 7))
    second = corpus.keep(run_of(checks_at_every_seed, 8), stale=[first])
    assert second != first
    assert len(corpus.entries()) == 2


def test_a_corpus_refuses_a_run_that_passed(corpus: Corpus) -> None:
    passed = next(run for seed in range(99) if (run := run_of(rarely_fails, seed)).failure is None)
    with pytest.raises(ValueError, match="a corpus contains only failures"):
        corpus.keep(passed)


@pytest.mark.parametrize("jobs", [0, 1])
@pytest.mark.parametrize(
    ("problem", "status"),
    [
        (RuntimeError("as it was"), "fails"),
        (None, "fixed"),
        (LookupError("something else"), "changed"),
    ],
)
def test_a_failure_is_reported_as_failing_fixed_or_changed(
    corpus: Corpus,
    monkeypatch: pytest.MonkeyPatch,
    jobs: int,
    problem: BaseException | None,
    status: str,
) -> None:
    path = corpus.keep(run_of(changeable, 3))
    corpus.keep(run_of(checks_at_every_seed, 3))
    monkeypatch.setattr(Answers, "problem", problem)
    (again,) = corpus.replayed(CHANGEABLE, jobs=jobs)
    assert (again.path, again.status) == (path, status)
    assert again.exact
    assert (again.problem is None) == (problem is None)


def test_the_same_failure_of_another_run_still_fails(corpus: Corpus) -> None:
    path = corpus.keep(run_of(changeable, 3))
    path.write_text(
        path.read_text().replace('"seed": 3', '"seed": 4').replace('"digest": "', '"digest": "0')
    )
    (again,) = corpus.replayed(CHANGEABLE, jobs=0)
    assert (again.status, again.exact) == ("fails", False)


def test_an_error_names_a_file_that_is_not_a_run_file(corpus: Corpus) -> None:
    corpus.keep(run_of(changeable, 3))
    (corpus.folder / "notes.json").write_text("{}")
    with pytest.raises(RunFileError, match=r"notes\.json"):
        list(corpus.replayed(CHANGEABLE))


def test_an_error_names_a_scenario_that_no_longer_exists(corpus: Corpus) -> None:
    path = corpus.keep(run_of(changeable, 3))
    path.write_text(path.read_text().replace(CHANGEABLE, "tests.simulation.sweep_scenarios:gone"))
    with pytest.raises(RunFileError, match="gone"):
        list(corpus.replayed("tests.simulation.sweep_scenarios:gone", jobs=0))

"""Run a simulated pytest test, and explain how to repeat its failure."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Mapping, Sequence
from contextlib import closing
from importlib.machinery import PathFinder
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest
from attrs import field, frozen

from supervision.laboratory.chaos.settings import attach
from supervision.laboratory.simulation.errors import Diverged, RunFileError, SimulationError
from supervision.laboratory.simulation.outcome import Outcome
from supervision.laboratory.simulation.replaying.run_file import RunFile, describe_run, run_again
from supervision.laboratory.simulation.replaying.self_check import check_determinism
from supervision.laboratory.simulation.scenario import Scenario, scenario_name, settings_of
from supervision.laboratory.simulation.search.corpus import DEFAULT_CORPUS, Corpus
from supervision.laboratory.simulation.search.sweep import SeedResult, knobs_of, sweep
from supervision.laboratory.simulation.shrinking.shrink import shrink
from supervision.laboratory.simulation.simulate import simulate
from supervision.laboratory.simulation.world.world import World

__all__ = ["run_simulated"]

_NO_FILE = (
    "there is no run file, because another process cannot import this test by name; for a run file, make the test a "
    "function that takes only `world`, in a folder with an __init__.py"
)
_SHRINKING = 10.0  # real seconds to shrink a failure


def run_simulated(
    item: pytest.Function, function: Any, arguments: Mapping[str, Any], options: Mapping[str, Any]
) -> None:
    """Run a test in a world for each seed.

    Args:
        item: the test of pytest.
        function: the original test function.
        arguments: the arguments of the test by name. Each run replaces `world`.
        options: the options of the marker.

    Raises:
        BaseException: the exception of the first failed run, with a note that says how to repeat the run.
    """
    __tracebackhide__ = True
    test = _Test.of(item, function, arguments, dict(options))
    seed = item.config.getoption("simulation_seed")
    if seed is not None:
        test.fail_with(test.again(seed))
        return
    for run in test.known_failures():
        test.fail_with(run_again(run))
    test.sweep()


@frozen(kw_only=True)
class _Test:
    """One simulated test.

    Attributes:
        item: the test of pytest.
        function: the original test function.
        scenario: the test as a scenario.
        importable: True if another process can import the test by its name.
        seeds, options: the seeds and options from the marker and the command line.
        corpus: the folder for its failures.
    """

    item: pytest.Function
    function: Any
    scenario: Scenario
    importable: bool
    seeds: Sequence[int]
    options: dict[str, Any]
    corpus: Corpus = field(repr=False)

    @classmethod
    def of(
        cls,
        item: pytest.Function,
        function: Any,
        arguments: Mapping[str, Any],
        options: dict[str, Any],
    ) -> _Test:
        config = item.config
        folder = config.getoption("simulation_corpus") or config.rootpath / DEFAULT_CORPUS
        seeds = options.pop("seeds")
        count = config.getoption("simulation_seeds")
        others = {name: value for name, value in arguments.items() if name != "world"}
        plain = not others and item.cls is None
        return cls(
            item=item,
            function=function,
            scenario=function if plain else _with_arguments(item, function, others),
            importable=plain and _can_be_imported(function, item.path),
            seeds=seeds if count is None else range(1, count + 1),
            options=options,
            corpus=Corpus(Path(folder)),
        )

    def known_failures(self) -> list[RunFile]:
        """Return the runs in the corpus, which a test repeats first."""
        if not self.importable:
            return []
        return [run for _, run in self.corpus.entries(scenario_name(self.scenario))]

    def sweep(self) -> None:
        """Run the seeds up to the first failure."""
        __tracebackhide__ = True
        options = self.options
        results = sweep(
            self.scenario,
            self.seeds,
            # A single job runs in this process, so that debuggers and coverage see the test.
            jobs=0 if options["jobs"] == 1 else options["jobs"],
            knobs=options["knobs"],
            swarm=options["swarm"],
            params=options["params"],
            faults=options["faults"],
            # A test may read the trace, and the trace of a bare run lacks the events of processes.
            bare=0.0,
            check=options["check"],
            real_seconds=options["real_seconds"],
        )
        inert = 0
        with closing(results):
            for result in results:
                inert += result.inert
                if result.failure is not None or result.diverged is not None:
                    self._fail_of(result)
        if inert == len(self.seeds):
            pytest.fail(f"with every seed, {result.problem}", pytrace=False)

    def _fail_of(self, result: SeedResult) -> None:
        __tracebackhide__ = True
        if result.lost:
            # Do not repeat the run here, because it would end this process too.
            pytest.fail(f"{result.problem}\n{self._again_here(result.seed)}", pytrace=False)
        if result.failure is None:
            pytest.fail(f"seed {result.seed}: {result.diverged}", pytrace=False)
        outcome = self.again(result.seed)
        self.fail_with(outcome)
        pytest.fail(
            f"seed {result.seed} failed and then passed, so the seed does not decide everything in the test; the "
            f"failure was\n{result.problem}",
            pytrace=False,
        )

    def again(self, seed: int) -> Outcome:
        """Run a seed again in this process, to get the exception object."""
        options = self.options
        return simulate(
            self.scenario,
            seed,
            knobs=knobs_of(self.scenario, seed, options["knobs"], swarm=options["swarm"]),
            params=options["params"],
            faults=options["faults"],
        )

    def fail_with(self, outcome: Outcome) -> None:
        """Raise the failure of a run, with a note that says how to repeat the run. Do nothing if the run passed."""
        __tracebackhide__ = True
        error = outcome.error
        if error is None:
            return
        if not isinstance(error, pytest.skip.Exception | pytest.xfail.Exception):
            shown, note = self._explained(outcome)
            # The error and the story must come from the same run.
            error = shown.error or error
            error.add_note(note)
        raise error.with_traceback(_from_the_test(error.__traceback__, self.function))

    def _explained(self, outcome: Outcome) -> tuple[Outcome, str]:
        """Return the run to show, which is shrunk if possible, and a note about it."""
        lines = [f"with seed {outcome.seed}"]
        shown = outcome
        if self.options["shrink"]:
            try:
                shrunk = shrink(outcome, scenario=self.scenario, max_seconds=_SHRINKING)
                shown = shrunk.outcome
                story = f"{shrunk.story}\n{shrunk.difference}".rstrip()
                lines += ["the story:", textwrap.indent(story, "  ")]
            except SimulationError as error:
                lines.append(f"it could not be shrunk: {error}")
        lines += self._how_to_repeat(outcome, describe_run(shown))
        return shown, "\n".join(lines)

    def _how_to_repeat(self, outcome: Outcome, run: RunFile) -> list[str]:
        lines = [self._again_here(outcome.seed)]
        if not self.importable:
            return [*lines, _NO_FILE]
        try:
            check_determinism(outcome)
            path = self.corpus.keep(run)
        except (Diverged, RunFileError) as error:
            return [*lines, f"there is no run file: {error}"]
        return [*lines, f"or: {shlex.join(['ashtree', 'replay', _shown(path)])}"]

    def _again_here(self, seed: int) -> str:
        command = ["pytest", self.item.nodeid, "--simulation-seed", str(seed)]
        return f"repeat it with: {shlex.join(command)}"


def _with_arguments(item: pytest.Function, function: Any, others: dict[str, Any]) -> Scenario:
    async def scenario(world: World) -> None:
        await function(world=world, **others)

    attach(scenario, settings_of(function))
    scenario.__module__ = function.__module__
    # A replay would not know the arguments. So put them into the name, which makes the test impossible to import.
    scenario.__qualname__ = scenario.__name__ = item.name if others else f"{item.name}()"
    return scenario


def _can_be_imported(function: Any, file: Path) -> bool:
    """Return True if a fresh process in this folder can import the function by its name."""
    path: Sequence[str] | None = [str(Path.cwd())]
    parts = function.__module__.split(".")
    spec = None
    for number in range(1, len(parts) + 1):
        spec = None if path is None else PathFinder.find_spec(".".join(parts[:number]), path)
        if spec is None:
            return False
        path = spec.submodule_search_locations
    return "." not in function.__qualname__ and spec is not None and spec.origin == str(file)


def _from_the_test(trace: TracebackType | None, function: Any) -> TracebackType | None:
    """Return the traceback without the frames of Trio above the test function."""
    found = trace
    while found is not None and found.tb_frame.f_code is not function.__code__:
        found = found.tb_next
    return found


def _shown(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)

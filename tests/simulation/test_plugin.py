"""The pytest plugin, in separate runs of pytest: reports of failures, and other plugins."""

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

CONFIG = """
[tool.pytest.ini_options]
trio_mode = true
filterwarnings = ["error"]
addopts = ["--import-mode=importlib", "--strict-markers", "-p", "no:cacheprovider"]
"""

FAILING = """
import pytest
import trio

@pytest.mark.simulation(seeds=50)
async def test_luck(world):
    luck = world.random("luck").random()
    await trio.sleep(60)
    assert luck > 0.1
"""

Run = Callable[..., pytest.RunResult]


@pytest.fixture
def run(pytester: pytest.Pytester) -> Run:
    """Run pytest over a file of tests, in this process and in a new folder."""
    pytester.makepyprojecttoml(CONFIG)

    def call(text: str, *arguments: str) -> pytest.RunResult:
        pytester.makepyfile(test_it=text)
        return pytester.runpytest_inprocess(*arguments)

    return call


def test_a_test_that_passes_is_run_with_every_seed_in_a_world_of_its_own(run: Run) -> None:
    result = run(
        """
        import pytest
        import trio

        worlds = []

        @pytest.mark.simulation(seeds=5)
        async def test_time_is_virtual(world):
            before = trio.current_time()
            await trio.sleep(3600)
            assert trio.current_time() == before + 3600
            worlds.append(world)

        def test_afterwards():
            assert [world.seed for world in worlds] == [1, 2, 3, 4, 5]
            assert len({id(world) for world in worlds}) == 5
            assert len({world.knobs for world in worlds}) > 1

        @pytest.mark.simulation(seeds=[7, 9], swarm=False, params={"clients": 3})
        async def test_options(world):
            assert world.seed in (7, 9)
            assert world.params == {"clients": 3}
            assert world.knobs == type(world.knobs)()
        """
    )
    result.assert_outcomes(passed=3)


def test_a_failure_shows_the_line_the_seed_the_story_and_the_command_to_repeat_it(
    run: Run, pytester: pytest.Pytester
) -> None:
    result = run(FAILING)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            ">       assert luck > 0.1",
            "E       assert 0.0* > 0.1",
            "E       with seed 2",
            "E       the story:",
            "E         test_it:test_luck fails with seed 2",
            "E       repeat it with: pytest test_it.py::test_luck --simulation-seed 2",
            "E       or: ashtree replay .ashtree/corpus/test-it-test-luck--AssertionError-in-line-5-*--2.json",
            "test_it.py:8: AssertionError",
        ]
    )
    result.stdout.no_fnmatch_line("*trio/_core*")
    pytester.runpytest_inprocess("test_it.py::test_luck", "--simulation-seed", "2").assert_outcomes(
        failed=1
    )
    pytester.runpytest_inprocess("test_it.py::test_luck", "--simulation-seed", "6").assert_outcomes(
        passed=1
    )
    command = "import sys; from channels.cli.command import main; sys.argv[0] = 'ashtree'; main()"
    (file,) = (pytester.path / ".ashtree" / "corpus").iterdir()
    replayed = pytester.run(sys.executable, "-c", command, "replay", "--import", str(file))
    assert replayed.ret == 1
    replayed.stdout.fnmatch_lines(["*the same run, to the byte", "*AssertionError*"])


def test_a_known_failure_runs_first_until_it_is_fixed(run: Run) -> None:
    run(FAILING).assert_outcomes(failed=1)
    only = FAILING.replace("seeds=50", "seeds=[6]")
    run(only).stdout.fnmatch_lines(["E       with seed 2"])
    run(only.replace("> 0.1", "> 0")).assert_outcomes(passed=1)


def test_the_explanation_of_an_assert_does_not_change_the_run(run: Run) -> None:
    result = run(
        """
        import pytest
        from actors import spawn, wait_exit

        async def divide(number):
            assert number != 0, "no zero"
            assert number + 1 == 3

        @pytest.mark.simulation(seeds=3)
        async def test_it(world):
            for number in (2, 1, 0):
                await wait_exit(spawn(divide, number))
            assert False
        """
    )
    result.stdout.fnmatch_lines(
        [">       assert False", "*no zero*", "E       or: ashtree replay *"]
    )


def test_a_failure_in_another_process_is_shown_like_one_in_this_and_kept_in_the_named_corpus(
    run: Run, tmp_path: Path
) -> None:
    text = FAILING.replace("seeds=50", "seeds=50, jobs=2")
    result = run(text, "--simulation-corpus", str(tmp_path / "kept"))
    result.stdout.fnmatch_lines([">       assert luck > 0.1", "E       with seed 2"])
    (file,) = (tmp_path / "kept").iterdir()
    assert re.fullmatch(
        r"test-it-test-luck--AssertionError-in-line-5-of-test-luck--2\.json", file.name
    )


def test_a_run_that_ends_its_process_does_not_end_pytest(run: Run) -> None:
    result = run(
        """
        import os
        import pytest

        @pytest.mark.simulation(seeds=10, jobs=2)
        async def test_dies(world):
            if world.seed == 4:
                os.kill(os.getpid(), 11)
        """
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "SIGSEGV ended its process",
            "*test_it.py*in test_dies",
            "repeat it with: pytest test_it.py::test_dies --simulation-seed 4",
        ]
    )


def test_parametrized_tests_methods_and_ordinary_fixtures_are_simulated_too(run: Run) -> None:
    result = run(
        """
        import pytest

        @pytest.fixture
        def limit():
            return 3

        @pytest.mark.simulation(seeds=5)
        @pytest.mark.parametrize("number", [1, 2])
        async def test_number(world, number, limit):
            assert number * limit < 6

        class TestIt:
            @pytest.mark.simulation(seeds=5)
            async def test_method(self, world):
                assert world.seed < 3
        """
    )
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(
        ["E       repeat it with: pytest 'test_it.py::test_number[[]2]' --simulation-seed 1"]
    )
    result.stdout.fnmatch_lines(
        ["E       repeat it with: pytest test_it.py::TestIt::test_method --simulation-seed 3"]
    )
    result.stdout.fnmatch_lines(
        [
            "E*there is no run file, because another process cannot import this test by name*__init__.py"
        ]
    )
    result.stdout.no_fnmatch_line("*ashtree replay*")


def test_the_number_of_seeds_can_be_given_on_the_command_line(run: Run) -> None:
    counting = """
        import pytest
        seeds = []

        @pytest.mark.simulation
        async def test_it(world):
            seeds.append(world.seed)

        def test_seeds():
            assert len(seeds) == COUNT
        """
    run(counting.replace("COUNT", "200")).assert_outcomes(passed=2)
    run(counting.replace("COUNT", "7"), "--simulation-seeds", "7").assert_outcomes(passed=2)


@pytest.mark.parametrize("count", ["0", "-3", "many"])
def test_a_wrong_number_of_seeds_is_refused_on_the_command_line(
    pytester: pytest.Pytester, count: str
) -> None:
    pytester.makepyfile(test_it=FAILING)
    result = pytester.runpytest_inprocess("--simulation-seeds", count)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*argument --simulation-seeds: *"])


def test_seeds_may_come_from_an_iterator(run: Run) -> None:
    result = run(
        """
        import pytest

        @pytest.mark.simulation(seeds=(seed for seed in (3, 4)))
        async def test_it(world):
            assert world.seed in (3, 4)
        """
    )
    result.assert_outcomes(passed=1)


def test_a_skip_in_a_world_skips_the_test(run: Run) -> None:
    run(
        """
        import pytest

        @pytest.mark.simulation
        async def test_it(world):
            pytest.skip("not here")
        """
    ).assert_outcomes(skipped=1)


def test_a_failure_without_a_line_of_the_test_is_shown_with_its_text(run: Run) -> None:
    result = run(
        """
        import pytest
        import trio

        @pytest.mark.simulation(seeds=2)
        async def test_it(world):
            await trio.sleep_forever()
        """
    )
    result.stdout.fnmatch_lines(["E*Deadlock: deadlock at 0 s*", "*with seed 1"])


MISTAKES = [
    (
        "@simulated()\ndef test_it(world): pass",
        "*is not a coroutine function; write `async def`",
    ),
    ("@simulated()\nasync def test_it(): pass", "*add the argument `world`"),
    ("async def test_it(world): pass", "*mark it with pytest.mark.simulation"),
    (
        "@simulated()\nasync def test_it(world, autojump_clock): pass",
        "*asks for autojump_clock; remove that argument*",
    ),
    (
        "@pytest.fixture\nasync def shop(): pass\n@simulated()\nasync def test_it(world, shop): pass",
        "*asks for the async fixture shop*",
    ),
    (
        "@pytest.fixture(autouse=True)\nasync def shop(): yield\n@simulated()\nasync def test_it(world): pass",
        "*asks for the async fixture shop*",
    ),
    (
        "@simulated()\n@pytest.mark.trio\nasync def test_it(world): pass",
        "*remove the marker trio",
    ),
    ("@simulated(200)\nasync def test_it(world): pass", "*write seeds=200"),
    (
        "@simulated(seed=200)\nasync def test_it(world): pass",
        "*unknown option 'seed'; write one of *seeds*",
    ),
    ("@simulated(seeds=0)\nasync def test_it(world): pass", "*seeds is empty*"),
    ("@simulated(seeds=iter([]))\nasync def test_it(world): pass", "*seeds is empty*"),
    ("@simulated(jobs=-1)\nasync def test_it(world): pass", "*sweep got jobs=-1*"),
]


def test_each_test_that_cannot_be_simulated_is_refused_with_advice(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyprojecttoml(CONFIG)
    # One run of pytest has all of them, because the start of a run costs more than the tests in it.
    names = [f"test_mistake_{number}" for number in range(len(MISTAKES))]
    for name, (body, _) in zip(names, MISTAKES, strict=True):
        text = f"import pytest\nsimulated = pytest.mark.simulation\n{body}\n"
        pytester.makepyfile(**{name: text.replace("test_it", name)})
    result = pytester.runpytest_inprocess("-rN")
    assert "passed" not in result.parseoutcomes()
    parts = re.split(r"^__.* (test_mistake_\d+) __+$", result.stdout.str(), flags=re.MULTILINE)
    reports = dict(zip(parts[1::2], parts[2::2], strict=True))
    for name, (_, problem) in zip(names, MISTAKES, strict=True):
        pytest.LineMatcher(reports[name].splitlines()).fnmatch_lines([problem])


def test_tests_that_are_not_simulated_stay_with_pytest_trio(run: Run) -> None:
    run(
        """
        import trio

        async def test_clock(autojump_clock):
            await trio.sleep(100)
        """
    ).assert_outcomes(passed=1)


def test_simulated_tests_run_without_the_plugin_of_trio(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(test_it=FAILING.replace("> 0.1", ">= 0"))
    pytester.runpytest_inprocess("-p", "no:trio", "-W", "error").assert_outcomes(passed=1)


def test_pytest_runs_without_the_plugin(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it="def test_it(): pass")
    result = pytester.runpytest_inprocess("-p", "no:ashtree-simulation", "--markers")
    result.stdout.no_fnmatch_line("*pytest.mark.simulation*")
    result = pytester.runpytest_inprocess("--markers")
    result.stdout.fnmatch_lines(["@pytest.mark.simulation(seeds=200, *"])


def test_a_plan_that_does_nothing_fails_a_test(run: Run) -> None:
    result = run(
        """
        import pytest
        from supervision.laboratory.chaos.faults.kinds import Kill
        from supervision.laboratory.chaos.faults.moments import At

        @pytest.mark.simulation(seeds=3, faults=[Kill(target="/nobody", when=At(1))])
        async def test_it(world):
            pass
        """
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["with every seed, *none of the 1 planned faults was applied:"])


def test_the_error_of_a_test_and_its_story_come_from_the_same_run(run: Run) -> None:
    result = run(
        """
        import pytest

        @pytest.mark.simulation(seeds=3, params={"visitors": 4})
        async def test_visitors(world):
            world.check(world.params["visitors"] == 0, f"ends at {world.params['visitors']}")
        """
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*does not hold at 0 s: ends at 1", "*the check failed: ends at 1"]
    )
    result.stdout.no_fnmatch_line("*ends at 4*")

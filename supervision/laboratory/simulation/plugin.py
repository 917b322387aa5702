"""The pytest plugin, which runs a test as a scenario with many seeds.

    @pytest.mark.simulation(seeds=200)
    async def test_every_customer_is_served(world):
        await Supervisor.start_link([Registry, Shop])
        ...

pytest loads the plugin if Ashtree is installed; `-p no:ashtree-simulation` disables it. A failure shows the seed, the
story and the command that repeats the run. The plugin keeps the run file of a failure, and the next run of the test
replays this file first.
"""

from __future__ import annotations

import argparse
import functools
import inspect
from typing import Any, NoReturn

import pytest

__all__: list[str] = []

_OPTIONS: dict[str, Any] = {
    "seeds": 200,
    "jobs": 1,
    "knobs": None,
    "swarm": True,
    "params": None,
    "faults": None,
    "check": 0.0,
    "real_seconds": 60.0,
    "shrink": True,
}
"""The options of the marker, with their defaults."""

MARKER = (
    f"simulation({', '.join(f'{name}={value}' for name, value in _OPTIONS.items())}): run an "
    "`async def test_...(world)` in a simulated world for each seed"
)
_CLOCKS = ("autojump_clock", "mock_clock", "nursery")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options for seeds and for the corpus."""
    group = parser.getgroup("simulation", "simulated worlds")
    group.addoption(
        "--simulation-seeds",
        type=_count,
        metavar="COUNT",
        help="run every simulated test with this many seeds, instead of the number in its marker",
    )
    group.addoption(
        "--simulation-seed",
        type=int,
        metavar="SEED",
        help="repeat a failure: run simulated tests only with this seed, in this process",
    )
    group.addoption(
        "--simulation-corpus",
        metavar="DIR",
        help="the folder for the run files of failures; the default is .ashtree/corpus in the root folder",
    )


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        # argparse adds the name of the option.
        raise argparse.ArgumentTypeError(f"{count} seeds are too few; write 1 or more")
    return count


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line("markers", MARKER)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Replace each simulated test by an ordinary function.

    This hook runs first, so that plugins for `async def` tests ignore these tests.
    """
    for item in items:
        if isinstance(item, pytest.Function) and item.get_closest_marker("simulation") is not None:
            item.obj = _simulated(item, item.obj)


def _simulated(item: pytest.Function, function: Any) -> Any:
    @functools.wraps(function)
    def run(**arguments: Any) -> None:
        __tracebackhide__ = True
        options = _options_of(item)
        # Imported here, so that pytest loads the simulation only if a test is simulated.
        from supervision.laboratory.simulation.tools.pytest_run import run_simulated  # noqa: PLC0415

        run_simulated(item, function, arguments, options)

    return run


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Refuse a test that cannot be simulated, before any fixture is set up."""
    if isinstance(item, pytest.Function) and item.get_closest_marker("simulation") is not None:
        problem = _problem_of(item)
        if problem is not None:
            pytest.fail(f"{item.name} {problem}", pytrace=False)


def _problem_of(item: pytest.Function) -> str | None:
    function = inspect.unwrap(item.obj)
    if not inspect.iscoroutinefunction(function):
        return "is marked with simulation, but is not a coroutine function; write `async def`"
    names = item.fixturenames
    if "world" not in names:
        return "is marked with simulation, but does not take a world; add the argument `world`"
    for name in names:
        if name in _CLOCKS:
            return f"is simulated and asks for {name}; remove that argument, because a simulation has its own clock"
        if _is_async(item, name):
            return (
                f"is simulated and asks for the async fixture {name}, which would run outside of the simulated world; "
                f"make it an async function that the test calls"
            )
    if item.get_closest_marker("trio") is not None:
        return "is marked with trio and with simulation; remove the marker trio"
    return None


def _is_async(item: pytest.Function, name: str) -> bool:
    # pytest has no public access to a fixture's function. pytest-trio and pytest-asyncio use this name too.
    definitions = item._fixtureinfo.name2fixturedefs.get(name, ())
    functions = [definition.func for definition in definitions]
    return any(map(inspect.iscoroutinefunction, functions)) or any(
        map(inspect.isasyncgenfunction, functions)
    )


def _options_of(item: pytest.Function) -> dict[str, Any]:
    marker = item.get_closest_marker("simulation")
    assert marker is not None
    if marker.args:
        _refuse(item, f"{marker.args[0]!r} has no name; write seeds={marker.args[0]!r}")
    unknown = [name for name in marker.kwargs if name not in _OPTIONS]
    if unknown:
        _refuse(item, f"unknown option {unknown[0]!r}; write one of {', '.join(sorted(_OPTIONS))}")
    options = {**_OPTIONS, **marker.kwargs}
    seeds = options["seeds"]
    # A list, because an iterator has no length and can be used only once.
    options["seeds"] = range(1, seeds + 1) if isinstance(seeds, int) else list(seeds)
    if not options["seeds"]:
        _refuse(item, "seeds is empty; write 1 or more")
    return options


def _refuse(item: pytest.Function, problem: str) -> NoReturn:
    pytest.fail(f"{item.name}: pytest.mark.simulation: {problem}", pytrace=False)


@pytest.fixture
def world(request: pytest.FixtureRequest) -> None:
    """Reserve the name `world`. A simulated test gets a world for each seed."""
    if request.node.get_closest_marker("simulation") is None:
        pytest.fail(
            f"{request.node.name} takes a world, but is not simulated; mark it with pytest.mark.simulation",
            pytrace=False,
        )

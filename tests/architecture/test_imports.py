"""Layers, cycles, private modules, facades and dependencies, as the design wants them."""

import re
import tomllib
from importlib.metadata import packages_distributions

import pytest

from tests.architecture.imports import (
    cycles,
    folder_graphs,
    graph_of,
    imports_against_the_layers,
    imports_of,
    imports_of_foreign_privates,
    imports_of_impure_modules,
    imports_of_the_own_facade,
    imports_of_undeclared_packages,
)
from tests.architecture.sources import (
    LAYERS,
    PACKAGES,
    ROOT,
    Source,
    report,
    source,
    sources_under,
)


@pytest.fixture(scope="module", name="layers")
def read_layers() -> list[Source]:
    return sources_under(*LAYERS)


def test_imports_follow_the_layers(layers: list[Source]) -> None:
    report(imports_against_the_layers(layers))


def test_no_import_goes_in_a_circle(layers: list[Source]) -> None:
    report(cycles(graph_of(layers)))


@pytest.mark.parametrize("package", PACKAGES)
def test_the_folders_of_a_package_import_each_other_in_no_circle(package: str) -> None:
    report(folder_cycles(sources_under(package)))


def folder_cycles(sources: list[Source]) -> list[str]:
    return [
        f"in {folder}, {problem}"
        for folder, graph in sorted(folder_graphs(sources).items())
        for problem in cycles(graph)
    ]


def test_private_modules_stay_in_their_package(layers: list[Source]) -> None:
    report(imports_of_foreign_privates(layers))


def test_no_module_imports_the_facade_of_its_own_package(layers: list[Source]) -> None:
    report(imports_of_the_own_facade(layers))


def test_pure_modules_import_no_clock_chance_or_io(layers: list[Source]) -> None:
    report(imports_of_impure_modules(layers))


def test_every_package_that_is_imported_is_a_declared_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    extra_names = ("encrypt", "metrics", "testing", "tracing")
    optional = [name for extra in extra_names for name in extras[extra]]
    shipped = _names(project["dependencies"] + optional)
    distributions = packages_distributions()
    report(imports_of_undeclared_packages(sources_under(*PACKAGES), shipped, distributions))
    shown = shipped | _names(extras["examples"])
    report(imports_of_undeclared_packages(sources_under("examples"), shown, distributions))


def _names(requirements: list[str]) -> set[str]:
    return {re.split(r"[^\w.-]", requirement)[0].lower() for requirement in requirements}


# The checks themselves, on samples that break each rule.


def test_an_import_up_the_layers_is_found() -> None:
    sources = [
        source("actors/refs.py", "def late():\n    from channels.topics import Router"),
        source("supervision/a.py", "import examples.chat\nfrom tests import data"),
        source("channels/topics.py", "from actors.refs import Pid"),
    ]
    assert imports_against_the_layers(sources) == [
        "actors/refs.py:2 imports channels.topics.Router: actors may only import actors",
        "supervision/a.py:1 imports examples.chat: supervision may only import actors, supervision",
        "supervision/a.py:2 imports tests.data: supervision may only import actors, supervision",
    ]


def test_a_cycle_is_shown_with_its_lines_and_only_once() -> None:
    sources = [
        source("actors/a.py", "import trio\nfrom actors.b import x"),
        source("actors/b.py", "def late():\n    from . import c"),
        source("actors/c.py", "from .a import y"),
        source("actors/outside.py", "import actors.a"),
    ]
    (problem,) = cycles(graph_of(sources))
    assert problem == (
        "import cycle: actors.a -> actors.b -> actors.c -> actors.a\n"
        "    actors/a.py:2 imports actors.b.x\n"
        "    actors/b.py:2 imports actors.c\n"
        "    actors/c.py:1 imports actors.a.y"
    )


def test_a_circle_of_folders_is_found_although_no_module_imports_itself() -> None:
    sources = [
        source("actors/a/__init__.py", ""),
        source("actors/a/one.py", "from actors.b import two"),
        source("actors/a/other.py", ""),
        source("actors/b/__init__.py", ""),
        source("actors/b/two.py", "import actors.top"),
        source("actors/top.py", "def late():\n    from actors.a.other import x"),
    ]
    assert cycles(graph_of(sources)) == []
    (problem,) = folder_cycles(sources)
    assert problem == (
        "in actors, import cycle: actors.a/ -> actors.b/ -> actors.top -> actors.a/\n"
        "    actors/a/one.py:1 imports actors.b.two\n"
        "    actors/b/two.py:1 imports actors.top\n"
        "    actors/top.py:2 imports actors.a.other.x"
    )


def test_a_circle_deep_in_a_package_is_found_in_its_own_folder() -> None:
    sources = [
        source("actors/a/__init__.py", ""),
        source("actors/a/deep/__init__.py", ""),
        source("actors/a/deep/one.py", "if TYPE_CHECKING:\n    import actors.a.two"),
        source("actors/a/deep/other.py", ""),
        source("actors/a/two.py", "import actors.a.deep.other"),
    ]
    (problem,) = folder_cycles(sources)
    assert problem.startswith("in actors.a, import cycle: actors.a.deep/ -> actors.a.two -> ")


def test_a_facade_ties_no_circle() -> None:
    sources = [
        source("actors/a/__init__.py", "from actors.a.one import x\nfrom actors.b.two import y"),
        source("actors/a/one.py", ""),
        source("actors/b/__init__.py", ""),
        source("actors/b/two.py", "from actors.a.one import x"),
    ]
    assert folder_cycles(sources) == []


def test_an_import_for_the_type_checker_alone_counts() -> None:
    sources = [
        source("actors/a.py", "if TYPE_CHECKING:\n    import actors.b\nelse:\n    import attrs"),
        source("actors/b.py", "if typing.TYPE_CHECKING:\n    pass\nimport actors.a"),
    ]
    (problem,) = cycles(graph_of(sources))
    assert problem.startswith("import cycle: actors.a -> actors.b -> actors.a")
    assert [found.target for found in imports_of(sources[0])] == ["actors.b", "attrs"]


def test_two_separate_cycles_are_both_shown() -> None:
    sources = [
        source("actors/a.py", "import actors.b"),
        source("actors/b.py", "import actors.a"),
        source("actors/c.py", "import actors.c"),
    ]
    assert [problem.partition("\n")[0] for problem in cycles(graph_of(sources))] == [
        "import cycle: actors.a -> actors.b -> actors.a",
        "import cycle: actors.c -> actors.c",
    ]


def test_a_foreign_private_module_or_name_is_found() -> None:
    sources = [
        source(
            "channels/a.py", "from actors._kernel.runtime import x\nfrom actors.refs import _secret"
        ),
        source(
            "channels/b.py",
            "from channels.connection.connection import x\nfrom __future__ import y",
        ),
    ]
    assert imports_of_foreign_privates(sources) == [
        "channels/a.py:1 imports actors._kernel.runtime.x: an underscore means private to actors",
        "channels/a.py:2 imports actors.refs._secret: an underscore means private to actors",
    ]


@pytest.mark.parametrize(
    "statement", ["import actors", "from actors import Pid", "from . import Pid"]
)
def test_an_import_of_the_own_facade_is_found(statement: str) -> None:
    facade = source("actors/__init__.py", "from .refs import Pid")
    (problem,) = imports_of_the_own_facade([facade, source("actors/process.py", statement)])
    assert problem.startswith("actors/process.py:1 imports actors")


@pytest.mark.parametrize(
    "statement", ["from actors.refs import Pid", "from . import refs", "from actors import refs"]
)
def test_an_import_of_a_module_of_the_own_package_is_fine(statement: str) -> None:
    sources = [source("actors/refs.py", ""), source("actors/process.py", statement)]
    assert imports_of_the_own_facade(sources) == []


def test_a_relative_import_is_followed_from_modules_and_packages() -> None:
    module = source("channels/pubsub/local.py", "from ..topics import x\nfrom . import envelope")
    package = source("channels/pubsub/__init__.py", "from .local import Local\nfrom .. import y")
    assert [found.target for found in imports_of(module)] == [
        "channels.topics.x",
        "channels.pubsub.envelope",
    ]
    assert [found.target for found in imports_of(package)] == [
        "channels.pubsub.local.Local",
        "channels.y",
    ]


def test_an_impure_import_of_a_pure_module_is_found() -> None:
    sources = [
        source("channels/protocol/session.py", "import time\nfrom trio import sleep"),
        source("channels/serializers/v2.py", "import socket, msgspec"),
        source("channels/endpoint/endpoint.py", "import time"),
    ]
    assert [problem.partition(":")[0] for problem in imports_of_impure_modules(sources)] == [
        "channels/protocol/session.py",
        "channels/protocol/session.py",
        "channels/serializers/v2.py",
    ]


def test_an_undeclared_package_is_found() -> None:
    sources = [source("actors/a.py", "import os, attr, trio, h11\nfrom actors.refs import Pid")]
    distributions = {"attr": ["attrs"], "attrs": ["attrs"], "trio": ["Trio"], "h11": ["h11"]}
    assert imports_of_undeclared_packages(sources, {"attrs", "trio"}, distributions) == [
        "actors/a.py:1 imports h11, which no dependency in pyproject.toml provides"
    ]

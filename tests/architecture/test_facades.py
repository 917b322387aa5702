"""The public surface: each name is listed once, exists, has one home and is documented."""

import subprocess
import sys
from importlib import import_module
from types import ModuleType

import pytest

from tests.architecture.facades import exported_twice, facade_problems, undocumented
from tests.architecture.sources import PACKAGES, ROOT, report, source


@pytest.fixture(scope="module", name="facades")
def import_facades() -> dict[str, ModuleType]:
    return {name: import_module(name) for name in PACKAGES}


PATHS = [
    *(f"{package}/__init__.py" for package in PACKAGES),
    *("supervision/chaos.py", "supervision/simulation.py", "supervision/story.py"),
    "supervision/tree/__init__.py",
]
"""The facades that hold names only. The three modules give users short imports of the laboratory."""


@pytest.mark.parametrize("path", PATHS)
def test_a_facade_holds_names_and_lists_each_of_them(path: str) -> None:
    report(facade_problems(source(path, (ROOT / path).read_text())))


@pytest.mark.parametrize("package", PACKAGES)
def test_every_listed_name_exists(package: str, facades: dict[str, ModuleType]) -> None:
    facade = facades[package]
    report([f"{package}.{name}" for name in facade.__all__ if not hasattr(facade, name)])


def test_a_facade_that_loads_its_modules_at_the_first_use_of_a_name_says_which_names_it_has() -> (
    None
):
    code = """
import sys, supervision.supervisor
import actors, channels, supervision
assert "actors.registry.registry" not in sys.modules and "channels.socket" not in sys.modules
from supervision import application, child_spec
assert callable(child_spec) and callable(application.run)
from channels import telemetry
assert {*channels.__all__} <= {*dir(channels)} and {*actors.__all__} <= {*dir(actors)}
assert "channels.socket" not in sys.modules
print(channels.Socket.__name__, actors.exit.__name__)
try:
    channels.Sockett
except AttributeError as error:
    print(error)
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout == "Socket exit\nmodule 'channels' has no attribute 'Sockett'\n"


def test_every_class_and_function_is_exported_once(facades: dict[str, ModuleType]) -> None:
    report(exported_twice(facades))


def test_everything_exported_is_documented(facades: dict[str, ModuleType]) -> None:
    report(undocumented(facades))


# The checks themselves, on samples that break each rule.


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("from a.b import x\n__all__ = ['x']", "a/__init__.py has no docstring"),
        ("'d'", "a/__init__.py has no __all__"),
        (
            "'d'\nfrom a.b import x, y\n__all__ = ['x']",
            "a/__init__.py imports y but does not list it in __all__",
        ),
        ("'d'\n__all__ = ['x']", "a/__init__.py lists x but does not import it"),
        ("'d'\nfrom a.b import x, x\n__all__ = ['x']", "a/__init__.py imports x twice"),
        ("'d'\nfrom a.b import x\n__all__ = ['x', 'x']", "a/__init__.py lists x twice"),
        ("'d'\nimport a.b\n__all__ = []", "a/__init__.py:2 a facade holds names only"),
        ("'d'\n__all__ = []\ndef f(): ...", "a/__init__.py:3 a facade holds names only"),
        ("'d'\nif TYPE_CHECKING: ...\n__all__ = []", "a/__init__.py:2 a facade holds names only"),
        (
            (
                "'d'\nif TYPE_CHECKING:\n    from a.b import x\nelse:\n"
                "    __getattr__ = load_on_use(__name__, 'a.b', 'a.c')\n__all__ = ['x']"
            ),
            "a/__init__.py imports a.c for type checkers or at the first use, not for both",
        ),
    ],
)
def test_a_facade_that_breaks_a_rule_is_found(text: str, problem: str) -> None:
    assert facade_problems(source("a/__init__.py", text)) == [problem]


def _module(name: str, **names: object) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(names, __all__=list(names))
    return module


class Documented:
    """Says what it is for."""


class Inheriting(Documented):
    pass


def test_two_homes_of_one_thing_are_found() -> None:
    one = _module("one", Thing=Documented, N=1)
    two = _module("two", Other=Documented, N=1)
    assert exported_twice({"one": one, "two": two}) == [
        "one thing is exported as one.Thing and as two.Other"
    ]
    assert exported_twice({"one": one}) == []


def test_a_docstring_is_asked_of_the_thing_itself() -> None:
    def silent() -> None: ...

    module = _module("one", a=Documented, b=Inheriting, c=silent, d=1)
    assert undocumented({"one": module}) == ["one.b has no docstring", "one.c has no docstring"]


def test_a_docstring_is_asked_of_the_defining_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.__doc__", None)
    assert undocumented({"one": _module("one", a=Documented)}) == [
        f"{__name__}, which defines one.a, has no docstring"
    ]

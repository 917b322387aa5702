"""The reference pages show every public name, and its docstring has all parts."""

from collections.abc import Callable
from importlib import import_module
from inspect import getdoc
from types import ModuleType

import pytest

from tests.architecture.docstrings import Subject, problems_of, subjects
from tests.architecture.documents import generated
from tests.architecture.sources import PACKAGES, ROOT, report

PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text()
    for path in sorted((ROOT / "docs/reference").glob("*.md"))
}

FACADES = [
    *PACKAGES,
    *("channels.client", "channels.durable", "channels.entities", "channels.observer"),
    "channels.presence",
    *("channels.publishing", "channels.pubsub.redis", "channels.supabase"),
    *("channels.telemetry", "channels.testing"),
    *("supervision.chaos", "supervision.events", "supervision.tree", "supervision.simulation"),
    "supervision.histories",
    "supervision.story",
]
"""The modules from which users import."""

GENERATED = [name for text in PAGES.values() for name in generated(text)]


@pytest.fixture(scope="module", name="shown")
def find_shown_names() -> list[tuple[str, object]]:
    """Return the names on the reference pages with their values. A module stands for all names that it exports."""
    return [one for name in GENERATED for one in exported(name)]


def exported(name: str) -> list[tuple[str, object]]:
    module, _, attribute = name.rpartition(".")
    value = getattr(import_module(module), attribute, None)
    if value is not None and not isinstance(value, ModuleType):
        return [(attribute, value)]
    names = import_module(name)
    return [(each, getattr(names, each)) for each in names.__all__]


@pytest.mark.parametrize("facade", FACADES)
def test_every_public_name_is_on_a_reference_page(
    facade: str, shown: list[tuple[str, object]]
) -> None:
    places = {(name, id(value)) for name, value in shown}
    module = import_module(facade)
    report(
        [
            f"no page of docs/reference has a line `::: {facade}.{name}`"
            for name in module.__all__
            if (name, id(getattr(module, name))) not in places
            # `supervision.application` is a module. The pages list its functions one by one.
            and not isinstance(getattr(module, name), ModuleType)
        ]
    )


def test_every_name_is_on_one_reference_page_only() -> None:
    report(sorted(name for name in set(GENERATED) if GENERATED.count(name) > 1))


MEMBERS = {name: members for text in PAGES.values() for name, members in generated(text).items()}


def test_every_member_on_a_reference_page_exists() -> None:
    report(
        [
            f"{name} has no {member}"
            for name, members in MEMBERS.items()
            for _, value in exported(name)
            for member in members or ()
            # An attribute that only `__init__` sets stands in the docstring.
            if not hasattr(value, member) and f"\n    {member}: " not in (getdoc(value) or "")
        ]
    )


def test_every_docstring_has_its_parameters_units_result_and_errors() -> None:
    report([problem for subject in _shown_functions() for problem in problems_of(subject)])


def _shown_functions() -> list[Subject]:
    functions = []
    for name, members in MEMBERS.items():
        for attribute, value in exported(name):
            full = name if name.endswith(f".{attribute}") else f"{name}.{attribute}"
            functions += [
                subject
                for subject in subjects(full, value)
                if members is None or subject.name.rpartition(".")[2] in members
            ]
    return functions


# The checks themselves, on samples that break each rule.


def complete(address: object, seconds: float) -> int:
    """Wait for a while.

    Args:
        address: A pid.
        seconds: The time, in seconds.

    Returns:
        A number.

    Raises:
        ValueError: The time is negative.
    """
    if seconds < 0:
        raise ValueError(seconds)
    return 1


def without_a_parameter(address: object) -> int:
    """Return a number."""
    return 1


def without_a_unit(seconds: float) -> int:
    """Return a number.

    Args:
        seconds: the time.
    """
    return 1


def without_a_result() -> int:
    """Wait for a while."""
    return 1


def without_an_error() -> None:
    """Do nothing."""
    raise ValueError


def like_another(address: object) -> int:
    """Wait. Otherwise like `complete`."""
    return 1


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        (complete, None),
        (like_another, None),
        (without_a_parameter, "f does not document address"),
        (without_a_unit, "f does not state the unit of seconds"),
        (without_a_result, "f does not say what it returns"),
        (without_an_error, "f raises ValueError and does not say so"),
        (lambda: None, "f has no docstring"),
    ],
)
def test_a_docstring_that_lacks_a_part_is_found(
    function: Callable[..., object], problem: str | None
) -> None:
    assert problems_of(Subject("f", function)) == ([] if problem is None else [problem])

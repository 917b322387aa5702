"""Modules leave the private attributes of each other's objects alone."""

from tests.architecture.privates import foreign_private_attributes, unexplained
from tests.architecture.sources import PACKAGES, report, source, sources_under

REASONS: dict[str, str] = {
    "actors/_kernel/process.py task._child_nurseries": (
        "Trio has no public way to drop a nursery that a generator has left open in a task"
    ),
    "supervision/laboratory/simulation/plugin.py item._fixtureinfo": "pytest has no public way to a fixture's function",
}
"""Why a module may use a private attribute of another module's object: `path expression` to reason."""

LIMIT = 10


def test_private_attributes_of_other_modules_are_used_for_a_reason_or_not_at_all() -> None:
    report(unexplained(foreign_private_attributes(sources_under(*PACKAGES)), REASONS))


def test_there_are_few_of_them() -> None:
    uses = foreign_private_attributes(sources_under(*PACKAGES))
    assert len(uses) <= LIMIT, "\n" + "\n".join(uses)


# The checks themselves, on samples that break each rule.

OWN = """
class Own:
    __slots__ = ("_slot",)
    _field: int
    def __init__(self, other):
        self._set = other._set
    def _method(self, other):
        return other._method, other._slot, other._field, self._inherited, other.__class__
"""


def test_what_a_module_defines_is_its_own() -> None:
    assert foreign_private_attributes([source("actors/a.py", OWN)]) == []


def test_a_private_attribute_of_another_module_is_found() -> None:
    sources = [source("actors/a.py", "import os, x\nx._secret\nos._exit(1)\nx.y._deep()")]
    assert foreign_private_attributes(sources) == [
        "actors/a.py:2 x._secret",
        "actors/a.py:4 x.y._deep",
    ]


def test_a_reason_excuses_a_use_and_is_not_kept_without_one() -> None:
    uses = ["actors/a.py:2 x._secret", "actors/a.py:4 x.y._deep"]
    reasons = {"actors/a.py x._secret": "why", "actors/b.py z._gone": "why"}
    assert unexplained(uses, reasons) == [
        "actors/a.py:4 x.y._deep: give the object a public name for it",
        "actors/b.py z._gone: nothing uses it any more; delete the reason",
    ]

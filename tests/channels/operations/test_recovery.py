"""Absences: their times, and what is forgotten."""

from __future__ import annotations

from channels.operations.recovery import Absences


def test_an_absence_lasts_from_its_first_begin_to_its_end() -> None:
    absences = Absences[str]()
    absences.begin("a", "x", 1.0)
    absences.begin("a", "x", 2.0)
    assert absences.end("b", "x", 3.0) is None
    assert absences.end("a", "x", 3.5) == 2.5
    assert absences.end("a", "x", 4.0) is None


def test_the_end_of_an_owner_forgets_its_absences_only() -> None:
    absences = Absences[str]()
    for owner, name in (("a", "x"), ("a", "y"), ("b", "x")):
        absences.begin(owner, name, 0.0)
    absences.forget("a")
    absences.forget("nobody")
    assert len(absences) == 1
    assert absences.end("b", "x", 1.0) == 1.0
    assert len(absences) == 0


def test_beyond_the_limit_the_oldest_absence_is_forgotten() -> None:
    absences = Absences[int](limit=2)
    for owner in (1, 2, 3):
        absences.begin(owner, "x", float(owner))
    assert len(absences) == 2
    assert absences.end(1, "x", 9.0) is None
    assert absences.end(2, "x", 9.0) == 7.0

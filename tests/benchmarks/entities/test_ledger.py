"""The verdict about entities under faults: each broken promise fails its check."""

from __future__ import annotations

from typing import Any

import pytest

from tests.benchmarks.entities.ledger import PROMISES, Fault, account, checks, percentile

Notes = list[tuple[int, dict[str, Any]]]

LIMITS: dict[str, Any] = {"most_takeover": 0.5, "share": 1.0}


def start(at: float, pid: int, fence: int, count: int = 0, state: int | None = None) -> Any:
    about = {"key": "k", "fence": fence, "count": count, "state": state}
    return pid, {"event": "started", "at": at, **about}


def owned(at: float, pid: int, fence: int) -> Any:
    return pid, {"event": "owned", "at": at, "key": "k", "fence": fence}


def handled(at: float, pid: int, attempt: str, fence: int, seconds: float = 0.1) -> Notes:
    about = {"key": "k", "fence": fence, "attempt": attempt}
    return [
        (pid, {"event": "began", "at": at, **about}),
        (pid, {"event": "ended", "at": at + seconds, **about}),
    ]


def called(at: float, pid: int, attempt: str) -> Any:
    return pid, {"event": "called", "at": at, **names(attempt)}


def failed(at: float, pid: int, attempt: str, *, may_have_run: bool) -> Any:
    about = {"error": "EntityLost", "may_have_run": may_have_run, "text": "lost"}
    return pid, {"event": "failed", "at": at, **names(attempt), **about}


def answered(at: float, pid: int, attempt: str, count: int, fence: int) -> Any:
    return pid, {"event": "answered", "at": at, **names(attempt), "count": count, "fence": fence}


def names(attempt: str) -> dict[str, str]:
    return {"operation": attempt.rpartition(".")[0], "attempt": attempt, "key": "k"}


def claimed(fence: int) -> tuple[str, dict[str, Any]]:
    return "claimed", {"fence": fence}


def added(operation: str, count: int, fence: int) -> tuple[str, dict[str, Any]]:
    return "added", {"operation": operation, "count": count, "fence": fence}


# Node 1 owns the key and is killed at 10.0. Node 3 loses its call, and repeats it at node 2, which has taken over.
NOTES: Notes = [
    start(1.0, 1, fence=5),
    called(2.0, 3, "a.1"),
    *handled(2.1, 1, "a.1", 5),
    answered(2.3, 3, "a.1", 1, 5),
    called(9.9, 3, "b.1"),
    failed(10.1, 3, "b.1", may_have_run=True),
    called(10.2, 3, "b.2"),
    owned(10.2, 2, fence=6),
    start(10.3, 2, fence=6, count=1),
    *handled(10.3, 2, "b.2", 6),
    answered(10.4, 3, "b.2", 2, 6),
    called(9.95, 1, "c.1"),
]
EVENTS = [claimed(5), added("a", 1, 5), claimed(6), added("b", 2, 6)]
KILL = Fault("kill -9", 10.0, (1,), 11.0, is_kill=True)


def broken(notes: Notes, events: Any = EVENTS, faults: tuple[Fault, ...] = (KILL,)) -> list[str]:
    """Return the checks that fail."""
    found = account(notes, {"k": events}, faults)
    return [each.what for each in checks(found, faults, **LIMITS) if not each.passed]


def test_a_run_without_a_broken_promise_passes() -> None:
    assert broken(NOTES) == []
    found = account(NOTES, {"k": EVENTS}, [KILL])
    [times] = found.takeovers["kill -9"]
    assert times == pytest.approx((0.2, 0.4))
    assert found.failures == {("EntityLost", True): 1}
    assert [each.calls for each in found.operations.values()] == [1, 2, 1]


BREAKING_NOTES: list[tuple[str, Notes]] = [
    ("each call runs at most once", handled(10.45, 2, "b.2", 6)),
    ("calls that cannot have run have not run", [failed(10.5, 3, "a.1", may_have_run=False)]),
    ("handlers of a key never overlap", handled(10.35, 4, "x.1", 6)),
    ("fences of starts grow", [start(10.5, 4, fence=6)]),
    ("no acknowledged operation is lost", [answered(10.5, 3, "b.2", 3, 6)]),
    (
        "handed-over states are those of the history",
        [start(10.5, 4, fence=7, count=2, state=1)],
    ),
    (
        "each operation is answered, unless its caller was killed",
        [called(10.5, 3, "d.1"), failed(10.6, 3, "d.1", may_have_run=True)],
    ),
]


@pytest.mark.parametrize(("promise", "notes"), BREAKING_NOTES)
def test_a_promise_that_the_notes_break_fails(promise: str, notes: Notes) -> None:
    assert broken([*NOTES, *notes]) == [promise]


BREAKING_EVENTS: list[tuple[str, Any]] = [
    ("claimed fences grow", [*EVENTS, claimed(6)]),
    ("each append has the fence that was claimed last", [*EVENTS, added("d", 3, 5)]),
    ("each owner knows all earlier appends", [*EVENTS, added("d", 3, 6), added("d", 4, 6)]),
    ("each owner knows all earlier appends", [*EVENTS, added("d", 2, 6)]),
    ("no acknowledged operation is lost", EVENTS[:-1]),
]


@pytest.mark.parametrize(("promise", "events"), BREAKING_EVENTS)
def test_a_promise_that_the_history_breaks_fails(promise: str, events: Any) -> None:
    assert broken(NOTES, events) == [promise]


def test_every_promise_has_a_test() -> None:
    assert {promise for promise, _ in (*BREAKING_NOTES, *BREAKING_EVENTS)} == {
        *PROMISES,
        "each operation is answered, unless its caller was killed",
    }


def test_a_handler_of_a_process_that_was_stopped_may_overlap_with_the_next_owner() -> None:
    notes = [*NOTES, *handled(10.35, 4, "x.1", 6)]
    stop = Fault("SIGSTOP", 10.36, (4,), 12.0)
    assert broken(notes, faults=(KILL, stop)) == []


def test_a_process_that_was_stopped_in_init_may_note_its_start_late() -> None:
    notes = [*NOTES, start(10.5, 4, fence=4)]
    assert broken(notes) == ["fences of starts grow"]
    assert broken(notes, faults=(KILL, Fault("SIGSTOP", 9.0, (4,), 10.4))) == []


def test_a_takeover_that_lasts_too_long_fails() -> None:
    slow = [note for note in NOTES if note[1]["at"] < 10.2]
    slow += [called(10.2, 3, "b.2"), owned(10.6, 2, 6), start(10.7, 2, fence=6, count=1)]
    slow += [*handled(10.7, 2, "b.2", 6), answered(10.9, 3, "b.2", 2, 6)]
    assert broken(slow) == ["kill -9: 100% of the wanted keys have a new owner within 0.5 s"]


def test_a_wait_for_a_stopped_process_is_no_takeover() -> None:
    found = account(NOTES, {"k": EVENTS}, [KILL, Fault("SIGSTOP", 10.15, (2,), 12.0)])
    assert found.takeovers["kill -9"] == []
    found = account(NOTES, {"k": EVENTS}, [KILL, Fault("SIGSTOP", 10.25, (2,), 12.0)])
    assert len(found.takeovers["kill -9"]) == 1


def test_a_percentile_is_one_of_the_values() -> None:
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert percentile([3.0, 1.0, 2.0], 1.0) == 3.0
    assert str(percentile([], 0.5)) == "nan"

"""The messages of a run and the waits of its processes."""

from __future__ import annotations

from typing import Any

import pytest

from supervision.laboratory.simulation.replaying.exchanges import Exchanges
from supervision.recording.reader.names import Names

SPAWNED = {"kind": "spawned", "parent": 1, "path": "/top", "role": "supervisor", "inc": 1}
CHILD = {**SPAWNED, "parent": 2, "path": "/top/child", "role": "worker"}
SHUTDOWN = {"kind": "signal", "exit": "shutdown", "linked": False}
CALL = {"kind": "sent", "via": "call", "message_kind": "get"}


@pytest.mark.parametrize(
    ("before", "since"),
    [((), [3.0, 4.0]), ((41,), [3.0, 4.0]), ((40,), [3.0]), ((31,), [3.0]), ((30,), [])],
)
def test_the_waits_before_an_event_do_not_depend_on_gaps_in_the_numbers(
    before: tuple[int, ...], since: list[float]
) -> None:
    events = [
        {"n": 10, "t": 1.0, "pid": 2, **SPAWNED},
        {"n": 20, "t": 2.0, "pid": 3, **CHILD},
        {"n": 30, "t": 3.0, "pid": 1, "to": 3, **CALL},
        {"n": 40, "t": 4.0, "pid": 2, "to": 3, **SHUTDOWN},
    ]
    exchanges = Exchanges(events, Names(events))
    assert [wait.since for wait in exchanges.waits(*before)] == since


def two_of_one_role(restarted: bool) -> Exchanges:
    """Two processes of one role, one after another. The first one got a message from a task, and the second another."""
    cast = {"kind": "sent", "pid": None, "task": 1, "via": "cast"}
    first = {**cast, "message_kind": "int", "message": "1"}
    second = {**cast, "message_kind": "str", "message": "'two'"}
    events: list[dict[str, Any]] = [
        {"n": 0, "t": 0.0, "pid": 2, **SPAWNED},
        {"n": 1, "t": 0.0, "pid": 3, **CHILD},
        {"n": 2, "t": 1.0, "to": 3, **first},
        {"n": 3, "t": 1.0, "kind": "received", "pid": 3, "cause": 2},
        {"n": 4, "t": 2.0, "kind": "exited", "pid": 3, "exit": "killed", "reason": "KILLED"},
        {"n": 5, "t": 2.0, "pid": 4, **CHILD, "inc": 2},
        {"n": 7, "t": 3.0, "to": 4, **second},
        {"n": 8, "t": 3.0, "kind": "received", "pid": 4, "cause": 7},
    ]
    if restarted:
        events.insert(6, {"n": 6, "t": 2.0, "kind": "child_restarted", "pid": 2, "child": 4})
    return Exchanges(events, Names(events))


def test_a_hint_about_a_restart_needs_a_restart() -> None:
    assert not list(two_of_one_role(restarted=False).not_told_again())
    (hint,) = two_of_one_role(restarted=True).not_told_again()
    assert hint == "/top/child#2 did not get 1, which /top/child had got from the scenario"

"""The messages of a run and the waits of its processes."""

from __future__ import annotations

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

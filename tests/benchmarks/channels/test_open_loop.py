"""Open loops send at a fixed rate."""

from __future__ import annotations

from array import array
from typing import Any

import pytest

from tests.benchmarks.channels import open_loop
from tests.benchmarks.channels.open_loop import Beat, keep_time


class Clock:
    """A clock, and a crowd for `keep_time`. The time passes only while the crowd waits."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(open_loop, "clock", lambda: self.now)

    def turn(self, timeout: float) -> None:
        self.now += timeout


def test_each_action_runs_at_its_own_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    crowd: Any = Clock(monkeypatch)
    due: list[float] = []
    fast, slow = Beat(4.0, due.append, array("d")), Beat(1.0, lambda _: None, array("d"))
    keep_time(crowd, 2.0, [fast, slow])
    assert due == [100.0 + turn / 4 for turn in range(8)]
    assert (fast.done, slow.done) == (8, 2)


def test_a_late_action_still_gets_the_time_at_which_it_was_due(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    crowd: Any = Clock(monkeypatch)
    due: list[float] = []

    def act(at: float) -> None:
        due.append(at)
        if len(due) == 1:
            crowd.now += 0.5  # the generator is held up

    beat = Beat(4.0, act, array("d"))
    keep_time(crowd, 1.0, [beat])
    assert due == [100.0, 100.25, 100.5, 100.75]
    assert list(beat.late) == [0.0, 0.25, 0.0, 0.0]

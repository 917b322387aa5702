"""The waits before a client comes back."""

from __future__ import annotations

import math
from typing import Any

import pytest

from actors.errors import InvalidOption
from channels.client.backoff import RECONNECT, REJOIN, RetryTable


def test_the_tables_are_those_of_phoenix_js() -> None:
    reconnect = [RECONNECT.delay(attempt) for attempt in range(1, 12)]
    assert reconnect == [0.01, 0.05, 0.1, 0.15, 0.2, 0.25, 0.5, 1.0, 2.0, 5.0, 5.0]
    assert [REJOIN.delay(attempt) for attempt in range(1, 6)] == [1.0, 2.0, 5.0, 10.0, 10.0]


@pytest.mark.parametrize(("chance", "delay"), [(0.0, 4.0), (0.5, 3.0), (1.0, 2.0)])
def test_the_jitter_shortens_a_wait_by_up_to_its_share(chance: float, delay: float) -> None:
    assert RetryTable(steps=(), then=4.0, jitter=0.5).delay(1, lambda: chance) == delay


def test_without_jitter_no_chance_is_used() -> None:
    def random() -> float:
        raise AssertionError("asked for chance")

    assert RECONNECT.delay(1, random) == 0.01


@pytest.mark.parametrize(
    "options",
    [
        {"steps": (1.0, -1.0)},
        {"then": math.inf},
        {"then": math.nan},
        {"then": "5"},
        {"jitter": 1.5},
        {"jitter": -0.1},
        {"jitter": True},
    ],
)
def test_an_invalid_table_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidOption) as refused:
        RetryTable(**options)
    assert refused.value.option in options

"""Excerpts of any value are short."""

from __future__ import annotations

from typing import Any

import pytest

from actors.text import brief
from channels import Binary
from channels.channel import UnhandledEvent

DEEP: list[Any] = []
for _ in range(100_000):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    "value",
    ["x" * 5_000_000, 10**4000, ["x" * 1000] * 1000, Binary(b"x" * 1_000_000), DEEP, "\n" * 1000],
    ids=["text", "number", "list", "binary", "nested", "newlines"],
)
def test_an_excerpt_fits_on_a_line(value: Any) -> None:
    assert len(brief(value)) < 1000
    assert "\n" not in brief(value)
    assert len(str(UnhandledEvent(object, value))) < 1200


def test_short_values_are_shown_in_full() -> None:
    assert brief("room:lobby") == "'room:lobby'"
    assert brief({"a": [1, None]}) == "{'a': [1, None]}"

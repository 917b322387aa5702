"""The encoding of requests and answers."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from channels.entities.codec import CannotTravel, Codec


class Bid(msgspec.Struct, tag=True):
    amount: int


@pytest.mark.parametrize("value", [None, True, 1, 1.5, "text", [1, [2]], {"a": {"b": []}}])
def test_json_values_arrive_unchanged(value: Any) -> None:
    codec = Codec("requests", Any)
    body, arrived = codec.encode(value)
    assert arrived == value == codec.decode(body)


@pytest.mark.parametrize(
    "value", [(1, 2), {1: 2}, Bid(1), {1, 2}, b"raw", float("inf"), object(), [object()]]
)
def test_what_would_arrive_as_another_value_cannot_travel(value: Any) -> None:
    with pytest.raises(CannotTravel, match="declare its type in `requests` of the entity"):
        Codec("requests", Any).encode(value)


def test_a_declared_type_is_checked_on_the_way_out_and_in() -> None:
    codec = Codec("answers", Bid)
    assert codec.encode(Bid(1)) == (b'{"type":"Bid","amount":1}', Bid(1))
    for wrong in (1, Bid("much")):  # type: ignore[arg-type]
        with pytest.raises(CannotTravel, match="the entity declares the types"):
            codec.encode(wrong)
    with pytest.raises(CannotTravel, match="does not fit `answers`"):
        codec.decode(b'{"type":"Bid"}')

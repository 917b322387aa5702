"""The kind and the size of a message are cheap estimates, and bounded for any input."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import frozen

from supervision.recording.sizes import Looks, size_of


@frozen
class Event:
    event: Any
    payload: Any


@pytest.mark.parametrize(
    ("value", "size"),
    [
        ("hello", 5),
        (b"hello", 5),
        (7, 16),
        ({"body": "hello", "n": 7}, 21),
        (["a", {"b": "c" * 100}], 17),
        (list(range(1000)), 16_000),
        (dict.fromkeys(range(1000), "x" * 50), 16_000),
    ],
)
def test_the_size_counts_texts_and_sixteen_for_anything_else(value: Any, size: int) -> None:
    assert size_of(value) == size
    # An event with this payload has the same size.
    assert Looks().learn(Event("say", value))[1](Event("say", value)) == ("say", size)


@pytest.mark.parametrize(
    ("message", "look"),
    [
        ("x" * 100, ("x" * 40, 100)),
        (b"abc", ("bytes", 3)),
        (("join", "lobby"), ("join", 9)),
        (Event("e" * 100, {}), ("e" * 40, 0)),
        (Event(["no text"], {"a": "b"}), ("Event", 1)),
        (object(), ("object", 16)),
    ],
)
def test_a_kind_is_short_and_never_the_input_of_a_client_of_another_type(
    message: Any, look: tuple[str, int]
) -> None:
    via, function = Looks().learn(message)
    assert (via, function(message)) == ("info", look)

"""JSON numbers are read as Python reads them, and the cost of a text is estimated."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from channels.errors import DecodeError
from channels.serializers.json_values import JsonWeight, read_float
from channels.serializers.v1 import V1
from channels.serializers.v2 import V2


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_are_read_exactly(number: float) -> None:
    data = json.dumps([None, None, "t", "e", number]).encode()
    assert V2().decode(data, binary=False).payload == number


@pytest.mark.parametrize("text", ["1e400", "-1e400", "1" + "0" * 400 + ".0"])
def test_a_number_too_large_for_a_float_is_not_decodable(text: str) -> None:
    with pytest.raises(msgspec.ValidationError, match="out of range"):
        read_float(text)
    with pytest.raises(DecodeError):
        V2().decode(f'[null,null,"t","e",{text}]'.encode(), binary=False)
    with pytest.raises(DecodeError):
        V1().decode(f'{{"topic":"t","event":"e","payload":{text},"ref":1}}'.encode(), binary=False)


@pytest.mark.parametrize("serializer", [V1(), V2()])
def test_numbers_are_read_by_python_whose_time_is_bounded(
    serializer: V1 | V2, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The decoder's own way takes fifty times as long for 1e300, which a client may send by the million."""
    module = __import__(type(serializer).__module__, fromlist=["read_float"])
    assert module.read_float is read_float
    assert module._decode.__self__.float_hook is read_float


texts = st.text(alphabet='a,[]{}"\\\ntrue5é', max_size=8)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-999, 999), texts),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)),
    max_leaves=20,
)


def count(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + sum(map(count, value.values()))
    if isinstance(value, list):
        return 1 + sum(map(count, value))
    return 1


def weigh(*pieces: bytes) -> int:
    weight = JsonWeight()
    for piece in pieces:
        weight.feed(piece)
    return weight.values


@given(values)
@example([[], {}, [""], {"a": []}])
@example("\\")
def test_the_count_of_a_whole_text_is_the_number_of_decoded_values(value: Any) -> None:
    assert weigh(json.dumps(value).encode()) == count(value)


@given(values, st.lists(st.integers(0, 200), max_size=6))
@example(['\\"'], [3, 4, 5])
def test_the_count_of_a_text_in_pieces_is_not_lower(value: Any, places: list[int]) -> None:
    text = json.dumps(value).encode()
    edges = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    pieces = [text[begin:end] for begin, end in pairwise(edges)]
    # An empty list that is cut in two is not known to be one, nor the word false to have no exponent.
    assert count(value) <= weigh(*pieces) <= count(value) + 4 * len(pieces)


def test_numbers_that_take_long_to_read_count_several_times() -> None:
    assert weigh(b"[1.5,2.25]") == 3
    assert weigh(b"[1e300,1E-300]") == 3 + 2 * 4
    assert weigh(b"[true,false]") == 3
    assert weigh(b"[" + b"9" * 4000 + b"]") > 500


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_arbitrary_bytes_do_not_make_it_raise(one: bytes, two: bytes) -> None:
    assert weigh(one, two) >= 1

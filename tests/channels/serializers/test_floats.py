"""Numbers with a fraction or an exponent are read as everybody reads them."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.errors import DecodeError
from channels.serializers.floats import read_float
from channels.serializers.v1 import V1
from channels.serializers.v2 import V2


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_is_read_as_it_was_written(number: float) -> None:
    data = json.dumps([None, None, "t", "e", number]).encode()
    assert V2().decode(data, binary=False).payload == number


@pytest.mark.parametrize("text", ["1e400", "-1e400", "1" + "0" * 400 + ".0"])
def test_a_number_beyond_all_floats_is_not_decodable(text: str) -> None:
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

"""Choosing a serializer, and joining it to the framing of a transport."""

from __future__ import annotations

import pytest

from channels.errors import EncodeError
from channels.messages import Binary, BinaryFrame, Message
from channels.serializers.base import Codec, Serializer, negotiate
from channels.serializers.v2 import V2
from channels.serializers.versions import Requirement


class OtherVersion(V2):
    """Stands for a serializer of another version."""

    __slots__ = ()


V1, SECOND = OtherVersion(), V2()
OFFERS: list[tuple[Serializer, Requirement]] = [
    (V1, Requirement("~> 1.0.0")),
    (SECOND, Requirement("~> 2.0.0")),
]


def test_the_version_chooses_the_serializer() -> None:
    assert negotiate("1.0.0", OFFERS) is V1
    assert negotiate("2.0.0", OFFERS) is SECOND
    assert negotiate("2.0.5", OFFERS) is SECOND


def test_the_first_of_several_that_fit_is_taken() -> None:
    assert negotiate("2.0.1", [(V1, Requirement("~> 2.0.0")), *OFFERS]) is V1


@pytest.mark.parametrize("vsn", ["2.1.0", "3.0.0", "2.0.0-rc", "2.0", "abc", ""])
def test_a_version_that_nobody_serves_is_refused(vsn: str) -> None:
    assert negotiate(vsn, OFFERS) is None


@pytest.mark.parametrize("vsn", [None, 2, 2.0, ["2.0.0"], {"2.0.0": ""}, b"2.0.0"])
def test_a_version_that_is_no_string_is_refused(vsn: object) -> None:
    assert negotiate(vsn, OFFERS) is None


def test_nothing_on_offer_is_a_refusal() -> None:
    assert negotiate("2.0.0", []) is None


def test_a_codec_frames_what_its_serializer_writes() -> None:
    serializer = V2()
    codec = Codec(serializer, lambda data: b"<" + data + b">")
    assert codec.push("1", "t", "e", {}) == b'<["1",null,"t","e",{}]>'
    assert codec.reply("1", "2", "t", "ok", []) == (
        b'<["1","2","t","phx_reply",{"status":"ok","response":[]}]>'
    )
    assert codec.broadcast("t", "e", {}) == b'<[null,null,"t","e",{}]>'
    assert codec.close("1", "t") == b'<["1","1","t","phx_close",{}]>'
    assert codec.error("1", "t") == b'<["1","1","t","phx_error",{"reason":"channel_crash"}]>'
    assert codec.serializer is serializer


def test_the_framing_sees_what_has_to_travel_as_a_binary_message() -> None:
    kinds: list[type] = []

    def frame(data: bytes) -> bytes:
        kinds.append(type(data))
        return data

    codec = Codec(V2(), frame)
    codec.broadcast("t", "e", Binary(b""))
    codec.broadcast("t", "e", {})
    assert kinds == [BinaryFrame, bytes]


def test_what_cannot_be_encoded_is_not_framed() -> None:
    codec = Codec(V2(), lambda data: pytest.fail(f"framed {data!r}"))
    with pytest.raises(EncodeError):
        codec.push("1", "t", "e", [])


def test_a_codec_is_known_by_identity_and_names_its_version() -> None:
    serializer = V2()
    one, other = Codec(serializer, bytes), Codec(serializer, bytes)
    assert one != other
    assert len({one, other, one}) == 2
    assert repr(one) == "<codec vsn=2.0.0>"


def test_v2_is_a_serializer() -> None:
    serializer: Serializer = V2()
    assert isinstance(serializer.decode(b"[1,2,3,4,5]", binary=False), Message)

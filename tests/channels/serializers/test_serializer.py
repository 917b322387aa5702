"""Versions and requirements, the choice of a serializer, and codecs."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors import InvalidArgument
from channels.errors import EncodeError
from channels.messages import Binary, BinaryFrame, Message
from channels.serializers.serializer import (
    DEFAULT_SERIALIZERS,
    DEFAULT_VSN,
    Codec,
    Requirement,
    Serializer,
    negotiate,
    parse_version,
)
from channels.serializers.v2 import V2


@pytest.mark.parametrize(
    "text",
    [
        "0.0.0",
        "2.0.0",
        "10.20.30",
        "1.0.0-alpha",
        "1.0.0-alpha.1",
        "1.0.0-0.3.7",
        "1.0.0-x.7.z.92",
        "1.0.0-x-y-z.--",
        "1.0.0-0a",
        "1.0.0--1",
        "1.0.0+20130313144700",
        "1.0.0-beta+exp.sha.5114f85",
        "1.0.0+001",
    ],
)
def test_versions_of_the_specification_are_versions(text: str) -> None:
    assert parse_version(text) is not None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2",
        "2.0",
        "2.0.0.0",
        "abc",
        "v2.0.0",
        " 2.0.0",
        "2.0.0 ",
        "2.0.0\n",
        "02.0.0",
        "2.00.0",
        "2.0.01",
        "2.0.0-",
        "2.0.0-01",
        "2.0.0-a..b",
        "2.0.0-a.",
        "2.0.0+",
        "2.0.0+a+b",
        "2.0.0-é",
        "-2.0.0",
        "+2.0.0",
        "2.0.x",
        "٢.0.0",  # a digit, but not an ASCII one
        "~> 2.0.0",
    ],
)
def test_anything_else_is_not_a_version(text: str) -> None:
    assert parse_version(text) is None


def test_a_very_long_version_is_not_a_version() -> None:
    assert parse_version("2.0." + "9" * 124) is not None
    assert parse_version("2.0." + "9" * 125) is None
    assert parse_version("2.0." + "9" * 10_000_000) is None


def test_versions_are_ordered_by_precedence() -> None:
    # The middle part is the example of semver.org, section 11.
    texts = [
        "0.9.9",
        "1.0.0-1",
        "1.0.0-9",
        "1.0.0-10",
        "1.0.0-A",
        "1.0.0-alpha",
        "1.0.0-alpha.1",
        "1.0.0-alpha.beta",
        "1.0.0-beta",
        "1.0.0-beta.2",
        "1.0.0-beta.11",
        "1.0.0-rc.1",
        "1.0.0",
        "1.0.1-rc",
        "1.0.1",
        "1.1.0",
        "2.0.0",
    ]
    versions = [parse_version(text) for text in texts]
    for (i, one), (j, other) in itertools.product(enumerate(versions), repeat=2):
        assert one is not None
        assert other is not None
        assert (one < other) == (i < j)
        assert (one == other) == (i == j)


def test_build_metadata_does_not_affect_the_order() -> None:
    assert parse_version("1.0.0+a") == parse_version("1.0.0+b") == parse_version("1.0.0")


def accepts(requirement: str, vsn: str) -> bool:
    """Return True if a client with this version gets the serializer of this requirement."""
    return negotiate(vsn, [(V2(), Requirement(requirement))]) is not None


@pytest.mark.parametrize(
    ("vsn", "accepted"),
    [
        ("2.0.0", True),
        ("2.0.5", True),
        ("2.0.0+build", True),
        ("2.0.1-rc.1", True),
        ("2.0.0-rc", False),
        ("1.9.9", False),
        ("2.1.0", False),
        ("2.1.0-rc", False),
        ("3.0.0", False),
        ("3.0.1", False),
        ("2.0", False),
        ("abc", False),
        ("", False),
    ],
)
def test_a_requirement_accepts_the_same_minor_version_not_older(vsn: str, accepted: bool) -> None:
    assert accepts("~> 2.0.0", vsn) is accepted


def test_a_requirement_with_a_patch_or_pre_release_starts_there() -> None:
    assert not accepts("~> 1.2.3", "1.2.2")
    assert accepts("~> 1.2.3", "1.2.3")
    assert accepts("~> 2.0.0-rc.2", "2.0.0-rc.10")
    assert not accepts("~> 2.0.0-rc.2", "2.0.0-rc.1")


@pytest.mark.parametrize("text", ["2.0.0", ">= 2.0.0", "~> 2.0", "~>2.0.0", "~> ", "", "~>  2.0.0"])
def test_a_requirement_without_a_tilde_is_refused_with_a_correction(text: str) -> None:
    with pytest.raises(InvalidArgument, match=r"for example '~> 2\.0\.0'") as caught:
        Requirement(text)
    assert caught.value.value == text
    assert repr(text) in str(caught.value)


def test_a_client_without_a_version_gets_version_1() -> None:
    assert accepts("~> 1.0.0", DEFAULT_VSN)


@given(st.text(alphabet="0123456789.-+ab\n", max_size=12))
def test_no_text_makes_reading_a_version_raise(text: str) -> None:
    assert accepts("~> 2.0.0", text) in (True, False)


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


def test_the_first_match_wins() -> None:
    assert negotiate("2.0.1", [(V1, Requirement("~> 2.0.0")), *OFFERS]) is V1


@pytest.mark.parametrize("vsn", ["2.1.0", "3.0.0", "2.0.0-rc", "2.0", "abc", ""])
def test_an_unsupported_version_is_refused(vsn: str) -> None:
    assert negotiate(vsn, OFFERS) is None


@pytest.mark.parametrize("vsn", [None, 2, 2.0, ["2.0.0"], {"2.0.0": ""}, b"2.0.0"])
def test_a_version_that_is_not_a_string_is_refused(vsn: object) -> None:
    assert negotiate(vsn, OFFERS) is None


def test_no_serializers_on_offer_is_a_refusal() -> None:
    assert negotiate("2.0.0", []) is None


def test_a_codec_frames_the_output_of_its_serializer() -> None:
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


def test_the_framing_can_tell_binary_messages_from_text() -> None:
    kinds: list[type] = []

    def frame(data: bytes) -> bytes:
        kinds.append(type(data))
        return data

    codec = Codec(V2(), frame)
    codec.broadcast("t", "e", Binary(b""))
    codec.broadcast("t", "e", {})
    assert kinds == [BinaryFrame, bytes]


def test_an_encode_error_calls_no_framing() -> None:
    codec = Codec(V2(), lambda data: pytest.fail(f"framed {data!r}"))
    with pytest.raises(EncodeError):
        codec.push("1", "t", "e", [])


def test_codecs_compare_by_identity_and_show_their_version() -> None:
    serializer = V2()
    one, other = Codec(serializer, bytes), Codec(serializer, bytes)
    assert one != other
    assert len({one, other, one}) == 2
    assert repr(one) == "<codec vsn=2.0.0>"


def test_v2_is_a_serializer() -> None:
    serializer: Serializer = V2()
    assert isinstance(serializer.decode(b"[1,2,3,4,5]", binary=False), Message)


@pytest.mark.parametrize("vsn", ["2.0.0", "2.0.5", "2.0.1-rc.1"])
def test_version_2_is_on_offer(vsn: str) -> None:
    assert isinstance(negotiate(vsn, DEFAULT_SERIALIZERS), V2)


@pytest.mark.parametrize("vsn", ["2.1.0", "3.0.0", "2.0", "abc", "", ["2.0.0"]])
def test_versions_of_the_recording_that_phoenix_refuses_are_refused(vsn: object) -> None:
    assert negotiate(vsn, DEFAULT_SERIALIZERS) is None

"""Errors name the culprit in one sentence, and carry their values as fields."""

from __future__ import annotations

from actors import InvalidArgument
from channels import errors
from channels.errors import ChannelsError, DecodeError, EncodeError


def test_a_decode_error_blames_the_client_and_names_the_version() -> None:
    error = DecodeError("Expected `array`, got `null`", vsn="2.0.0")
    assert str(error) == (
        "a client sent a frame that is not a message of vsn 2.0.0: Expected `array`, got `null`"
    )
    assert (error.problem, error.vsn) == ("Expected `array`, got `null`", "2.0.0")


def test_an_encode_error_names_the_kind_the_event_and_the_topic() -> None:
    error = EncodeError("no", kind="push", topic="room:a", event="pushed")
    assert str(error) == "cannot encode the push 'pushed' on topic 'room:a': no"
    assert (error.kind, error.topic, error.event) == ("push", "room:a", "pushed")
    assert error.problem == "no"


def test_an_encode_error_about_a_hostile_topic_stays_short() -> None:
    nested: list[object] = []
    for _ in range(100_000):
        nested = [nested]
    assert len(str(EncodeError("no", kind="reply", topic=nested, event="x" * 9_999))) < 300


def test_mistakes_in_declarations_are_value_errors() -> None:
    assert issubclass(InvalidArgument, ValueError)


def test_every_error_is_a_channels_error() -> None:
    # The other names are functions that check options.
    for name in [each for each in errors.__all__ if each[0].isupper()]:
        value = getattr(errors, name)
        assert value is errors.MISTAKES or issubclass(value, ChannelsError)

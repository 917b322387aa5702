"""Memberships and effects: the vocabulary between a session and its connection."""

from __future__ import annotations

import gc

import pytest

from channels.connection.effects import Close, Deliver, Membership, Send, Start
from channels.messages import Message
from channels.topics import Route

ROUTE = Route("room:*", "RoomChannel")


def membership(join_ref: object = "1", ref: object = "2") -> Membership:
    return Membership(Message(join_ref, ref, "room:a", "phx_join", {}), ROUTE)


def test_a_membership_begins_as_joining_with_what_the_join_message_said() -> None:
    new = membership("1", "2")
    assert (new.topic, new.join_ref, new.ref, new.route) == ("room:a", "1", "2", ROUTE)
    assert new.status == "joining"
    assert new.process is None
    assert not new.ended
    assert new.closes == ()


@pytest.mark.parametrize(
    ("join_ref", "channel_ref"), [("1", "1"), (None, "2"), ("", ""), (0, 0), (5, 5)]
)
def test_channel_frames_carry_the_join_ref_or_where_it_is_null_the_ref(
    join_ref: object, channel_ref: object
) -> None:
    assert membership(join_ref, "2").channel_ref == channel_ref


def test_memberships_with_equal_fields_are_not_the_same() -> None:
    assert membership() != membership()


def test_closes_are_handed_over_once_and_in_order() -> None:
    new = membership()
    new.add_closes([b"a"])
    new.add_closes([])
    new.add_closes([b"b", b"c"])
    assert new.closes == (b"a", b"b", b"c")
    assert new.take_closes() == [b"a", b"b", b"c"]
    assert new.take_closes() == []
    assert not new.closes


def test_taking_nothing_gives_a_list_of_its_own() -> None:
    one, other = membership(), membership()
    one.take_closes().append(b"x")
    assert one.take_closes() == other.take_closes() == []


def test_a_membership_shows_what_it_is() -> None:
    assert repr(membership()) == "<membership of 'room:a' join_ref='1' joining>"


def test_effects_compare_by_value_and_stay_out_of_the_garbage_collector() -> None:
    new = membership()
    message = Message("1", "2", "room:a", "ping", {})
    assert Deliver(new, message) == Deliver(new, message)
    assert Deliver(new, message) != Deliver(membership(), message)
    assert Send(b"x") == Send(b"x", None)
    effects = (Start(new, message), Deliver(new, message), Send(b"x"), Close(1011, "", "why"))
    assert not any(gc.is_tracked(effect) for effect in effects)

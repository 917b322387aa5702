"""Every transition of a session, by name; sequences of them are in tests/properties."""

from __future__ import annotations

import gc
from typing import Any

import pytest

from channels.messages import Binary, Message
from channels.protocol.session import Membership, Session, TokenBucket
from channels.serializers.serializer import Codec
from tests.channels.sessions import (
    CODEC,
    ROUTE,
    Deliver,
    Limited,
    NotingOwner,
    Send,
    Start,
    Unmatched,
    accept,
    calls_of,
    exited,
    feed,
    join,
    joined,
    new_session,
    receive,
    refuse,
    reply,
    sent,
    unmatched,
)

# Heartbeats.


@pytest.mark.parametrize("join_ref", [None, "1", 5])
@pytest.mark.parametrize("payload", [{}, [1], "x"])
def test_a_heartbeat_is_answered_with_its_ref_and_no_join_ref(join_ref: Any, payload: Any) -> None:
    effects = feed(new_session(), join_ref, "7", "phoenix", "heartbeat", payload=payload)
    assert sent(effects) == [reply(None, "7", "phoenix", "ok", {})]


def test_a_heartbeat_is_answered_even_if_its_topic_is_joined() -> None:
    session = new_session()
    joined(session, "phoenix")
    effects = feed(session, "9", "7", "phoenix", "heartbeat")
    assert sent(effects) == [reply(None, "7", "phoenix", "ok", {})]


def test_other_events_on_the_topic_of_heartbeats_are_ordinary() -> None:
    session = new_session()
    assert sent(feed(session, None, "7", "phoenix", "other")) == [unmatched("7", "phoenix")]
    membership = joined(session, "phoenix")
    (deliver,) = feed(session, None, "8", "phoenix", "other")
    assert isinstance(deliver, Deliver)
    assert deliver.membership is membership


def test_a_heartbeat_on_any_other_topic_is_an_ordinary_event() -> None:
    session = new_session()
    assert sent(feed(session, None, "7", "room:a", "heartbeat")) == [unmatched("7", "room:a")]
    joined(session)
    (deliver,) = feed(session, "1", "8", "room:a", "heartbeat")
    assert isinstance(deliver, Deliver)


# Joins.


def test_a_join_starts_the_channel_of_its_route() -> None:
    session = new_session()
    (start,) = feed(session, "1", "2", "room:a", "phx_join", payload={"name": "ann"})
    assert isinstance(start, Start)
    assert start.message == Message("1", "2", "room:a", "phx_join", {"name": "ann"})
    membership = start.membership
    assert (membership.topic, membership.join_ref, membership.ref) == ("room:a", "1", "2")
    assert (membership.route, membership.status) == (ROUTE, "joining")
    assert session.memberships == (membership,)


def test_the_payload_of_a_join_may_be_any_json_value() -> None:
    (start,) = feed(new_session(), "1", "1", "room:a", "phx_join", payload=[1])
    assert isinstance(start, Start)
    assert start.message.payload == [1]


def test_a_join_may_come_as_a_binary_message() -> None:
    data = bytes.fromhex("00010106083131726f6f6d3a617068785f6a6f696e01")
    (start,) = receive(new_session(), data, binary=True)
    assert isinstance(start, Start)
    assert start.message.payload == Binary(b"\x01")


def test_a_join_of_a_topic_without_a_route_is_answered_without_join_ref() -> None:
    session = new_session()
    note, *effects = feed(session, "1", "2", "nosuch:a", "phx_join")
    assert note == Unmatched("nosuch:a")
    assert sent(effects) == [unmatched("2", "nosuch:a")]
    assert session.memberships == ()


def test_a_join_beyond_the_limit_is_answered_with_both_refs() -> None:
    session = new_session(max_channels=2)
    memberships = (joined(session, "room:a"), join(session, "room:b", "2"))
    effects = feed(session, "3", "4", "room:c", "phx_join")
    (frame,) = sent(effects)
    assert frame == reply("3", "4", "room:c", "error", {"reason": "too many channels joined"})
    assert isinstance(effects[0], Send)
    assert session.memberships == memberships


def test_at_the_limit_a_topic_without_a_route_is_still_unmatched() -> None:
    session = new_session(max_channels=0)
    _, *effects = feed(session, "1", "2", "nosuch:a", "phx_join")
    assert sent(effects) == [unmatched("2", "nosuch:a")]


def test_a_topic_that_is_free_again_does_not_count_for_the_limit() -> None:
    session = new_session(max_channels=1)
    joined(session, "room:a").end()
    refuse(join(session, "room:b"))
    session.exited(joined(session, "room:c"))
    assert join(session, "room:d").status == "joining"


# Limits


def full_bucket(tokens: int, rate: float = 1.0) -> TokenBucket:
    return TokenBucket(rate=rate, burst=float(tokens), now=0.0)


def test_a_bucket_admits_a_burst_and_then_its_rate() -> None:
    bucket = TokenBucket(rate=4.0, burst=3.0, now=10.0)
    admitted = 0
    for step in range(101):
        bucket.refill(10.0 + step / 10)
        admitted += sum(bucket.take() for _ in range(5))
    assert admitted == 3 + 40


def test_a_bucket_never_holds_more_than_its_burst() -> None:
    bucket = full_bucket(2)
    bucket.refill(1_000_000.0)
    assert [bucket.take() for _ in range(3)] == [True, True, False]


def test_a_bucket_states_the_wait_for_the_next_token() -> None:
    bucket = TokenBucket(rate=4.0, burst=1.0, now=0.0)
    assert bucket.seconds_to_wait() == 0.0
    assert bucket.take()
    assert bucket.seconds_to_wait() == 0.25
    bucket.refill(0.25)
    assert bucket.take()


def test_a_push_without_a_token_is_answered_with_the_wait_and_not_delivered() -> None:
    session = new_session(messages=full_bucket(1))
    joined(session)
    assert isinstance(feed(session, "1", "2", "room:a", "ping")[0], Deliver)
    note, answer = feed(session, "1", "3", "room:a", "ping")
    assert note == Limited("max_messages_per_second")
    response = {"reason": "rate limited", "retry_after_ms": 1000}
    assert sent([answer]) == [reply("1", "3", "room:a", "error", response)]
    session.refill(1.0)
    assert isinstance(feed(session, "1", "4", "room:a", "ping")[0], Deliver)


def test_a_wait_that_is_longer_than_any_number_is_answered() -> None:
    session = new_session(messages=full_bucket(1, rate=5e-324))
    joined(session)
    feed(session, "1", "2", "room:a", "ping")
    _, answer = feed(session, "1", "3", "room:a", "ping")
    response = {"reason": "rate limited", "retry_after_ms": 2**53 - 1}
    assert sent([answer]) == [reply("1", "3", "room:a", "error", response)]


def test_a_push_without_a_token_and_without_a_ref_is_only_counted() -> None:
    session = new_session(messages=full_bucket(1))
    joined(session)
    feed(session, "1", "2", "room:a", "ping")
    assert feed(session, "1", None, "room:a", "ping") == [Limited("max_messages_per_second")]


def test_heartbeats_leaves_joins_and_stale_messages_take_no_token_of_messages() -> None:
    session = new_session(messages=full_bucket(1))
    joined(session, "room:b", "9")
    for event in ("ping", "phx_leave"):
        assert feed(session, "stale", "2", "room:b", event) == []
    assert isinstance(feed(session, None, "3", "phoenix", "heartbeat")[0], Send)
    joined(session)
    assert isinstance(feed(session, "1", "4", "room:a", "phx_leave")[0], Deliver)
    assert isinstance(feed(session, "9", "5", "room:b", "ping")[0], Deliver)
    assert isinstance(feed(session, "9", "6", "room:b", "ping")[0], Limited)
    assert isinstance(feed(session, None, "7", "phoenix", "heartbeat")[0], Send)
    assert isinstance(feed(session, "9", "8", "room:b", "phx_leave")[0], Deliver)


def test_a_join_without_a_token_changes_nothing_and_a_refused_topic_takes_none() -> None:
    session = new_session(joins=full_bucket(1))
    feed(session, "1", "1", "nosuch:a", "phx_join")
    membership = joined(session)
    for topic in ("room:a", "room:b"):
        note, answer = feed(session, "5", "6", topic, "phx_join")
        assert note == Limited("max_joins_per_second")
        response = {"reason": "rate limited", "retry_after_ms": 1000}
        assert sent([answer]) == [reply("5", "6", topic, "error", response)]
    assert session.memberships == (membership,)
    assert membership.status == "joined"


def test_joins_without_an_answer_are_bounded_and_answered_ones_do_not_count() -> None:
    session = new_session(max_joining=2)
    first, second = join(session, "room:a"), join(session, "room:b")
    note, answer = feed(session, "3", "3", "room:c", "phx_join")
    assert note == Limited("max_joining")
    response = {"reason": "too many joins in progress"}
    assert sent([answer]) == [reply("3", "3", "room:c", "error", response)]
    assert session.memberships == (first, second)
    accept(first)
    join(session, "room:c")
    assert isinstance(feed(session, "4", "4", "room:d", "phx_join")[0], Limited)


def test_a_join_that_waits_for_the_end_of_a_channel_counts_as_one_without_an_answer() -> None:
    session = new_session(max_joining=2)
    first = join(session)
    assert feed(session, "2", "2", "room:a", "phx_join")[0] != Limited("max_joining")
    assert feed(session, "3", "3", "room:a", "phx_join")[0] == Limited("max_joining")
    accept(first)
    feed(session, "4", "4", "room:a", "phx_join")
    assert feed(session, "5", "5", "room:a", "phx_join")[0] == Limited("max_joining")


# Reports of the channel about its join.


def test_joined_makes_a_membership_joined() -> None:
    session = new_session()
    membership = join(session)
    accept(membership)
    assert membership.status == "joined"
    assert session.memberships == (membership,)


def test_refused_frees_the_topic_without_a_frame() -> None:
    session = new_session()
    membership = join(session)
    assert refuse(membership) == [b"no"]
    assert membership.status == "gone"
    assert session.memberships == ()
    assert exited(session, membership) == []
    assert sent(feed(session, "1", "2", "room:a", "ping")) == [unmatched("2", "room:a")]


def test_an_exit_before_the_answer_is_a_crashed_join() -> None:
    session = new_session()
    membership = join(session, join_ref="1", ref="2")
    effects = exited(session, membership)
    assert sent(effects) == [reply("1", "2", "room:a", "error", {"reason": "join crashed"})]
    assert isinstance(effects[0], Send)
    assert membership.status == "gone"
    assert session.memberships == ()


def test_a_join_that_crashes_after_a_leave_is_a_crashed_join() -> None:
    session = new_session()
    membership = join(session)
    (deliver,) = feed(session, "1", "2", "room:a", "phx_leave")
    assert isinstance(deliver, Deliver)
    assert sent(exited(session, membership)) == [
        reply("1", "1", "room:a", "error", {"reason": "join crashed"})
    ]


# Messages to a joined topic.


@pytest.mark.parametrize("event", ["echo", "phx_reply", "phx_close", "phx_error", 5, None, ["x"]])
def test_any_event_with_the_join_ref_goes_to_the_channel(event: Any) -> None:
    session = new_session()
    membership = joined(session)
    (deliver,) = feed(session, "1", "2", "room:a", event, payload={"x": 1})
    assert isinstance(deliver, Deliver)
    assert deliver.membership is membership
    assert deliver.message == Message("1", "2", "room:a", event, {"x": 1})


def test_messages_go_to_a_channel_that_is_still_joining() -> None:
    session = new_session()
    membership = join(session)
    (deliver,) = feed(session, "1", "2", "room:a", "echo")
    assert isinstance(deliver, Deliver)
    assert deliver.membership is membership


def test_a_message_without_join_ref_goes_to_the_channel() -> None:
    session = new_session()
    joined(session)
    (deliver,) = feed(session, None, "2", "room:a", "echo")
    assert isinstance(deliver, Deliver)


@pytest.mark.parametrize("event", ["echo", "phx_leave"])
@pytest.mark.parametrize(
    ("known", "came"),
    [
        ("1", "9"),
        ("1", ""),
        ("1", 1),
        ("1", ["1"]),
        (1, "1"),
        (1, 1.0),
        (1, True),
        (0, False),
        (0.0, -0.0),
        ([1], [1.0]),
        ({"a": 1}, {"a": True}),
    ],
)
def test_a_message_with_another_join_ref_is_dropped_without_an_answer(
    known: Any, came: Any, event: str
) -> None:
    session = new_session()
    membership = joined(session, join_ref=known)
    assert feed(session, came, "2", "room:a", event) == []
    assert membership.status == "joined"


@pytest.mark.parametrize("ref", ["1", "", 1, 1.0, True, 2**70, [1, "a"], {"a": 1, "b": {}}])
def test_join_refs_of_any_type_are_compared_by_value(ref: Any) -> None:
    session = new_session()
    joined(session, join_ref=ref)
    (deliver,) = feed(session, ref, "2", "room:a", "echo")
    assert isinstance(deliver, Deliver)


def test_the_order_of_keys_in_a_join_ref_does_not_matter() -> None:
    session = new_session()
    joined(session, join_ref={"a": 1, "b": 2})
    (deliver,) = feed(session, {"b": 2, "a": 1}, "2", "room:a", "echo")
    assert isinstance(deliver, Deliver)


def test_a_join_without_join_ref_takes_only_messages_without_one() -> None:
    session = new_session()
    membership = join(session, join_ref=None, ref="7")
    accept(membership)
    assert membership.channel_ref == "7"
    assert feed(session, "7", "8", "room:a", "echo") == []
    (deliver,) = feed(session, None, "9", "room:a", "echo")
    assert isinstance(deliver, Deliver)
    assert sent(exited(session, membership)) == [
        [None, None, "room:a", "phx_error", {"reason": "channel_crash"}]
    ]


def test_a_join_ref_of_false_counts_as_none_in_pushes_of_the_channel() -> None:
    session = new_session()
    membership = join(session, join_ref=False, ref="7")
    accept(membership)
    assert (membership.join_ref, membership.channel_ref) == (False, "7")
    for join_ref, is_delivered in ((False, True), (None, True), ("7", False), (0, False)):
        assert bool(feed(session, join_ref, "9", "room:a", "echo")) == is_delivered


# Messages to a topic that is not joined.


@pytest.mark.parametrize("topic", ["room:a", "nosuch:a", "", 5, 1.5, None, True, ["a"], {"a": {}}])
def test_an_event_on_a_topic_that_is_not_joined_is_answered_unmatched(topic: Any) -> None:
    effects = feed(new_session(), "1", "2", topic, "echo")
    assert sent(effects) == [unmatched("2", topic)]
    assert isinstance(effects[0], Send)


@pytest.mark.parametrize("topic", [5, None, True, ["room:a"], {"room:a": 1}])
def test_a_join_of_a_topic_that_is_not_a_string_is_answered_unmatched(topic: Any) -> None:
    asked: list[Any] = []
    session = Session(CODEC, asked.append, NotingOwner())
    note, *effects = feed(session, "1", "2", topic, "phx_join")
    assert note == Unmatched(topic)
    assert sent(effects) == [unmatched("2", topic)]
    assert asked == []


@pytest.mark.parametrize("topic", ["room:a", "nosuch:a", "phoenix", 5, None, ["a"]])
def test_a_leave_of_a_topic_that_is_not_joined_is_answered_ok_with_both_refs(topic: Any) -> None:
    effects = feed(new_session(), "1", "2", topic, "phx_leave")
    assert sent(effects) == [reply("1", "2", topic, "ok", {})]


# Leaves and ends.


def test_a_leave_goes_to_the_channel_and_the_topic_stays_taken_until_it_closes() -> None:
    session = new_session()
    membership = joined(session)
    for ref in ("2", "3"):
        (deliver,) = feed(session, "1", ref, "room:a", "phx_leave")
        assert isinstance(deliver, Deliver)
        assert deliver.message.ref == ref
        assert membership.status == "leaving"
    membership.end()
    assert membership.status == "gone"
    assert session.memberships == ()
    assert exited(session, membership) == []


def test_an_exit_without_a_close_is_a_phx_error_with_the_join_ref_twice() -> None:
    session = new_session()
    membership = joined(session, join_ref="7")
    assert sent(exited(session, membership)) == [
        ["7", "7", "room:a", "phx_error", {"reason": "channel_crash"}]
    ]
    assert membership.status == "gone"
    assert sent(feed(session, "7", "8", "room:a", "ping")) == [unmatched("8", "room:a")]


def test_a_crash_while_leaving_is_a_phx_error() -> None:
    session = new_session()
    membership = joined(session)
    feed(session, "1", "2", "room:a", "phx_leave")
    assert sent(exited(session, membership)) == [
        ["1", "1", "room:a", "phx_error", {"reason": "channel_crash"}]
    ]


def test_an_exit_after_the_last_frame_sends_no_frame() -> None:
    session = new_session()
    membership = joined(session)
    membership.end()
    assert exited(session, membership) == []
    assert session.memberships == ()


def test_an_exit_changes_nothing_if_the_serializer_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    session = new_session()
    membership = joined(session)
    with monkeypatch.context() as patch:
        patch.setattr(Codec, "error", lambda *_: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            session.exited(membership)
    assert session.memberships == (membership,)
    assert len(exited(session, membership)) == 1


def test_a_crash_does_not_affect_other_memberships() -> None:
    session = new_session()
    membership, sibling = joined(session, "room:a", "1"), joined(session, "room:b", "2")
    session.exited(membership)
    assert session.memberships == (sibling,)
    assert sibling.status == "joined"
    (deliver,) = feed(session, "2", "3", "room:b", "ping")
    assert isinstance(deliver, Deliver)
    assert deliver.membership is sibling


def test_every_report_counts_once() -> None:
    session = new_session()
    membership = joined(session)
    assert len(exited(session, membership)) == 1
    assert exited(session, membership) == []
    assert accept(membership) == []
    assert membership.status == "gone"


# Memberships.


def new_membership(join_ref: object = "1", ref: object = "2") -> Membership:
    return Membership(Message(join_ref, ref, "room:a", "phx_join", {}), ROUTE)


def test_a_membership_begins_as_joining_with_what_the_join_message_said() -> None:
    new = new_membership("1", "2")
    assert (new.topic, new.join_ref, new.ref, new.route) == ("room:a", "1", "2", ROUTE)
    assert new.status == "joining"
    assert new.process is None
    assert not new.is_replaced
    assert accept(new) == [b"ok"]


@pytest.mark.parametrize(
    ("join_ref", "channel_ref"), [("1", "1"), (None, "2"), ("", ""), (0, 0), (5, 5)]
)
def test_channel_frames_contain_the_join_ref_or_else_the_ref(
    join_ref: object, channel_ref: object
) -> None:
    assert new_membership(join_ref, "2").channel_ref == channel_ref


def test_memberships_with_equal_fields_are_not_the_same() -> None:
    assert new_membership() != new_membership()


def test_the_repr_of_a_membership_shows_its_topic_and_status() -> None:
    assert repr(new_membership()) == "<membership of 'room:a' join_ref='1' joining>"


def test_the_close_of_the_replaced_membership_follows_the_answer() -> None:
    message = Message("1", "2", "room:a", "phx_join", {})
    for answer, frame in ((accept, b"ok"), (refuse, b"no")):
        new = Membership(message, ROUTE, close_of_replaced=b"close")
        assert answer(new) == [frame, b"close"]
        assert answer(new) == []


def test_a_membership_makes_its_join_message_again() -> None:
    payload = {"n": 1}
    message = Message("1", "2", "room:a", "phx_join", payload)
    assert new_membership().join_message(payload) == message


def test_a_long_message_counts_several_times() -> None:
    membership = new_membership()
    short, long = (Message("1", ref, "room:a", "new", {}) for ref in "34")
    membership.load(short, 1)
    assert membership.loads is None
    membership.load(long, 9)
    assert membership.waiting == 10
    membership.unload(long)
    assert membership.waiting == 1
    membership.unload(short)
    assert membership.waiting == 0


def test_a_membership_and_its_session_form_no_cycle() -> None:
    session = new_session()
    membership = joined(session)
    session.exited(membership)
    calls_of(session)
    gc.collect()
    gc.disable()
    try:
        del membership
        assert gc.collect() == 0
    finally:
        gc.enable()

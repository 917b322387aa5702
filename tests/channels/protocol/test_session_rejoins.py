"""A second join of a topic, from every state of the first; and input that is no message at all."""

from __future__ import annotations

import bisect

import pytest

from channels.protocol.session import Membership, Session
from tests.channels.fake_channels import FakeConnection
from tests.channels.sessions import (
    CODEC,
    Close,
    Deliver,
    Send,
    Start,
    Stop,
    Unmatched,
    accept,
    calls_of,
    exited,
    feed,
    join,
    joined,
    new_session,
    owner_of,
    receive,
    refuse,
    reply,
    sent,
    unmatched,
)

OLD_CLOSE = CODEC.close("1", "room:a")


def rejoin(session: Session, join_ref: str = "3", ref: str = "3") -> list[object]:
    return feed(session, join_ref, ref, "room:a", "phx_join", payload={"again": True})


def end_of(session: Session, old: Membership) -> Membership:
    """Report the end of a replaced channel. Return the membership of the next join."""
    (start, *_) = exited(session, old)
    assert isinstance(start, Start)
    return start.membership


@pytest.mark.parametrize("join_ref", ["3", "1"])
def test_a_second_join_stops_the_first_channel_and_its_answer_precedes_the_close(
    join_ref: str,
) -> None:
    session = new_session()
    old = joined(session)
    assert rejoin(session, join_ref) == [Stop(old)]
    assert (old.is_replaced, old.status) == (True, "joined")
    (start,) = exited(session, old)
    assert isinstance(start, Start)
    new = start.membership
    assert (new.status, new.join_ref, new.ref, new.route) == ("joining", join_ref, "3", old.route)
    assert start.message.payload == {"again": True}
    assert session.memberships == (new,)
    assert accept(new) == [b"ok", OLD_CLOSE]
    assert session.waiting == 0


def test_messages_for_the_topic_wait_for_the_end_of_the_replaced_channel() -> None:
    session = new_session()
    old = joined(session)
    rejoin(session)
    assert feed(session, "1", "4", "room:a", "ping") == []
    assert feed(session, "3", "5", "room:a", "ping") == []
    assert (session.waiting, owner_of(session).held_back) == (3, 3)
    start, deliver = exited(session, old)
    assert isinstance(start, Start)
    assert isinstance(deliver, Deliver)
    # The message with the join_ref of the old membership is dropped.
    assert (deliver.membership, deliver.message.ref) == (start.membership, "5")
    assert session.waiting == 0


def test_messages_wait_until_the_next_channel_has_started() -> None:
    session = new_session()
    old = joined(session)
    rejoin(session)
    feed(session, "3", "5", "room:a", "ping")
    owner_of(session).starts_at_once = False
    new = end_of(session, old)
    assert session.waiting == 1
    session.started(new, "a process")
    (deliver,) = calls_of(session)
    assert isinstance(deliver, Deliver)
    assert deliver.message.ref == "5"


def test_messages_that_waited_for_a_failed_start_are_answered() -> None:
    session = new_session()
    old = joined(session)
    rejoin(session)
    feed(session, "3", "5", "room:a", "ping")
    feed(session, "6", "6", "room:a", "phx_join")
    owner_of(session).starts_at_once = False
    new = end_of(session, old)
    *answers, start = exited(session, new)
    assert sent(answers) == [
        reply("3", "3", "room:a", "error", {"reason": "join crashed"}),
        ["1", "1", "room:a", "phx_close", {}],
        unmatched("5", "room:a"),
    ]
    assert isinstance(start, Start)
    assert start.membership.join_ref == "6"


def test_other_topics_and_heartbeats_do_not_wait() -> None:
    session = new_session()
    joined(session)
    other = joined(session, "room:b", "2")
    rejoin(session)
    (deliver,) = feed(session, "2", "4", "room:b", "ping")
    assert isinstance(deliver, Deliver)
    assert deliver.membership is other
    answers = feed(session, None, "5", "phoenix", "heartbeat")
    assert sent(answers) == [reply(None, "5", "phoenix", "ok", {})]


def test_a_second_join_needs_no_free_slot() -> None:
    session = new_session(max_channels=1)
    old = joined(session)
    rejoin(session)
    assert end_of(session, old).status == "joining"


def test_a_second_join_while_leaving_closes_the_first() -> None:
    session = new_session()
    old = joined(session)
    feed(session, "1", "2", "room:a", "phx_leave")
    assert rejoin(session) == [Stop(old)]
    assert accept(end_of(session, old)) == [b"ok", OLD_CLOSE]


def test_a_joining_channel_answers_before_it_is_replaced() -> None:
    session = new_session()
    old = join(session)
    assert rejoin(session) == [Stop(old)]
    assert accept(old) == [b"ok"]
    assert accept(end_of(session, old)) == [b"ok", OLD_CLOSE]


def test_all_joins_of_a_topic_wait_in_one_line() -> None:
    session = new_session()
    first = joined(session)
    rejoin(session, "3", "3")
    assert rejoin(session, "5", "5") == []
    second = end_of(session, first)
    assert second.is_replaced
    assert accept(second) == [b"ok", OLD_CLOSE]
    third = end_of(session, second)
    assert accept(third) == [b"ok", CODEC.close("3", "room:a")]
    assert session.memberships == (third,)


@pytest.mark.parametrize("is_refused", [False, True])
def test_a_replaced_join_that_fails_is_answered_without_a_close(is_refused: bool) -> None:
    session = new_session()
    old = join(session)
    rejoin(session)
    if is_refused:
        refuse(old)
    *answers, start = exited(session, old)
    crashed = [reply("1", "1", "room:a", "error", {"reason": "join crashed"})]
    assert sent(answers) == ([] if is_refused else crashed)
    assert isinstance(start, Start)
    assert accept(start.membership) == [b"ok"]
    assert exited(session, old) == []


def test_a_membership_that_has_ended_is_not_closed_or_stopped_again() -> None:
    session = new_session()
    old = joined(session)
    # The channel has written its phx_close, and its process has not ended yet.
    old.end()
    (start,) = rejoin(session)
    assert isinstance(start, Start)
    assert accept(start.membership) == [b"ok"]
    assert exited(session, old) == []
    assert session.memberships == (start.membership,)


def test_when_the_second_join_crashes_its_answer_comes_before_the_close_of_the_first() -> None:
    session = new_session()
    old = joined(session)
    rejoin(session)
    assert sent(exited(session, end_of(session, old))) == [
        reply("3", "3", "room:a", "error", {"reason": "join crashed"}),
        ["1", "1", "room:a", "phx_close", {}],
    ]
    assert session.memberships == ()


# Input that is no message.


@pytest.mark.parametrize(
    ("data", "binary", "code"),
    [
        (b'{"not json', False, 1011),
        (b"", False, 1011),
        (b"{}", False, 1011),
        (b'["1","1","room:a","phx_join"]', False, 1011),
        (b'["1","2","room:a","echo",{"a":"\\ud800"}]', False, 1011),
        (b'["1","2","room:a","echo",{"a":NaN}]', False, 1011),
        (b"[" * 100_000, False, 1011),
        (b'["1","2","room:a","echo",{"x":"\xff"}]', False, 1007),
        (b"\xff", False, 1007),
        (b"\x00\x01", True, 1011),
        (b"\xff", True, 1011),
        (b'["1","2","room:a","echo",{}]', True, 1011),
    ],
)
def test_a_malformed_message_closes_the_connection_without_a_reason(
    data: bytes, binary: bool, code: int
) -> None:
    session = new_session()
    membership = joined(session)
    (close,) = receive(session, data, binary=binary)
    assert isinstance(close, Close)
    assert close.code == code
    assert "a client sent" in close.cause
    assert session.memberships == (membership,)
    assert membership.status == "joined"


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


def deepest(session: Session, template: str) -> int:
    """Return the maximum depth of the decoder. One more level is malformed."""

    def too_deep(depth: int) -> bool:
        data = template.replace("DEEP", nested(depth)).encode()
        return isinstance(receive(session, data)[0], Close)

    return bisect.bisect_left(range(1, 1_000_000), True, key=too_deep)


@pytest.mark.parametrize(
    "template",
    [
        '[null,DEEP,"phoenix","heartbeat",{}]',
        '[null,"1",DEEP,"phx_join",{}]',
        '[null,"1",DEEP,"echo",{}]',
        '[DEEP,"1","room:b","phx_leave",{}]',
    ],
)
def test_the_session_does_not_raise_for_deeply_nested_refs_and_topics(template: str) -> None:
    session = new_session()
    membership = joined(session)
    limit = deepest(session, template)
    assert limit > 100
    for depth in range(limit - 20, limit + 20):
        data = template.replace("DEEP", nested(depth)).encode()
        *notes, effect = receive(session, data)
        # Only a join is reported, and not if the decoder has refused it.
        assert [type(each) for each in notes] in ([], [Unmatched] * ("phx_join" in template))
        assert isinstance(effect, Send | Close)
        if isinstance(effect, Send):
            # Not read back: Python's own decoder gives up earlier on some versions.
            assert b',"phx_reply",{"status":' in effect.frame
    assert session.memberships == (membership,)


def with_unwritable_refs(membership: Membership) -> None:
    """Pretend that refs came in which the decoder just managed and the encoder will not."""
    ref: list[object] = []
    for _ in range(100_000):
        ref = [ref]
    membership.join_ref = membership.ref = ref


def test_a_second_join_closes_the_connection_if_the_old_join_ref_cannot_be_encoded() -> None:
    session = new_session()
    old = joined(session)
    with_unwritable_refs(old)
    rejoin(session)
    (close,) = exited(session, old)
    assert isinstance(close, Close)
    assert close.code == 1011
    assert "cannot encode" in close.cause


@pytest.mark.parametrize("answered", [False, True])
def test_an_exit_closes_the_connection_if_the_join_ref_cannot_be_encoded(
    answered: bool,
) -> None:
    session = new_session()
    membership = join(session)
    if answered:
        accept(membership)
    with_unwritable_refs(membership)
    (close,) = exited(session, membership)
    assert isinstance(close, Close)
    assert close.code == 1011
    assert session.memberships == ()


def test_a_ref_that_cannot_be_encoded_does_not_match_the_join_ref() -> None:
    session = new_session()
    membership = joined(session, join_ref=5)
    with_unwritable_refs(membership)
    assert feed(session, 5, "2", "room:a", "echo") == []


def test_a_leave_and_a_rejoin_in_one_burst_are_both_answered() -> None:
    # A race in Phoenix, whose other outcome is recorded: here the channel handles the leave in time.
    connection = FakeConnection()
    connection.feed(b'["1","1","room:a","phx_join",{}]')
    connection.settle()
    connection.take()
    connection.feed(b'["1","2","room:a","phx_leave",{}]')
    connection.session.memberships[0].process.step()
    connection.feed(b'["3","3","room:a","phx_join",{}]')
    connection.settle()
    assert connection.take() == [
        'T:["1","2","room:a","phx_reply",{"status":"ok","response":{}}]',
        'T:["1","1","room:a","phx_close",{}]',
        'T:["3","3","room:a","phx_reply",{"status":"ok","response":{}}]',
    ]

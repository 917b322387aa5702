"""The ticket of a membership: what a channel reports through it, and the messages that wait for the channel."""

from __future__ import annotations

import gc

from channels.messages import Message
from channels.protocol.session import Membership
from channels.protocol.ticket import Ticket
from tests.channels.sessions import CODEC, ROUTE, feed, join, new_session


def new_ticket() -> Ticket:
    return Ticket(Membership(Message("1", "2", "room:a", "phx_join", {}), ROUTE))


def test_a_ticket_has_the_identity_of_its_membership() -> None:
    ticket = new_ticket()
    assert (ticket.topic, ticket.route) == ("room:a", ROUTE)
    assert (ticket.join_ref, ticket.ref, ticket.channel_ref) == ("1", "2", "1")
    payload = {"n": 1}
    assert ticket.join_message(payload) == Message("1", "2", "room:a", "phx_join", payload)


def test_the_answer_is_followed_by_the_closes_of_replaced_memberships() -> None:
    session = new_session()
    first = join(session)
    first.accepted()
    second = Ticket(join(session, join_ref="2"))
    written: list[bytes] = []
    second.accept(written.append, b"reply")
    assert written == [b"reply", CODEC.close("1", "room:a")]
    assert second.membership.status == "joined"


def test_a_superseded_join_is_gone_after_its_answer() -> None:
    session = new_session()
    first = Ticket(join(session))
    second = Ticket(join(session, join_ref="2"))
    written: list[bytes] = []
    assert first.membership.is_superseded
    first.accept(written.append, b"first")
    assert first.membership.is_gone
    second.accept(written.append, b"second")
    assert written == [b"first", b"second", CODEC.close("1", "room:a")]


def test_a_refusal_ends_the_membership_in_the_session() -> None:
    session = new_session()
    ticket = Ticket(join(session))
    written: list[bytes] = []
    ticket.end()
    ticket.answer(written.append, b"error")
    assert (written, session.exited(ticket.membership)) == ([b"error"], [])
    assert session.memberships == ()


def test_a_long_message_counts_several_times() -> None:
    ticket = new_ticket()
    short, long = (Message("1", ref, "room:a", "new", {}) for ref in "34")
    ticket.waiting += 1
    ticket.load(long, 9)
    assert ticket.waiting == 10
    ticket.unload(long)
    assert ticket.waiting == 1
    ticket.unload(short)
    assert ticket.waiting == 0


def test_a_ticket_and_its_membership_form_no_cycle() -> None:
    session = new_session()
    ticket = Ticket(join(session))
    ticket.accept(lambda frame: None, b"reply")
    feed(session, "1", "3", "room:a", "phx_leave")
    ticket.end()
    session.closed(ticket.membership)
    gc.collect()
    gc.disable()
    try:
        del ticket
        assert gc.collect() == 0
    finally:
        gc.enable()

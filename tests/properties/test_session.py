"""Properties of a session for all inputs of clients and all orders of its channels."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

import attrs
from hypothesis import event, given, settings
from hypothesis import strategies as st

from channels.protocol.session import Membership
from tests.channels.fake_channels import FakeChannel, FakeConnection
from tests.channels.sessions import (
    Close,
    Deliver,
    Send,
    Start,
    Stop,
    Unmatched,
    join,
    joined,
    new_session,
    receive,
)

# Hostile input.

NAMES = ["1", "2", "room:a", "room:b", "room:c", "phoenix", "phx_join", "phx_leave", "heartbeat"]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(NAMES),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
# Lone surrogates and NaN are wanted here: they are written the way that a client could.
PLAUSIBLE = st.tuples(
    st.sampled_from([None, "1", "2", 1]),
    st.sampled_from([None, "7", ["7"]]),
    st.sampled_from(["room:a", "room:b", "room:c", "room:d", "nosuch:a", "phoenix", ["room:a"]]),
    st.sampled_from(["phx_join", "phx_leave", "heartbeat", "ping", 5]),
    VALUES,
).map(lambda values: json.dumps(values).encode())
ARRAYS = st.lists(st.sampled_from(NAMES) | VALUES, min_size=3, max_size=7).map(
    lambda values: json.dumps(values).encode()
)
PACKED = st.builds(
    lambda strings, data: (
        b"\0" + bytes(map(len, strings)) + b"".join(string.encode() for string in strings) + data
    ),
    st.lists(st.sampled_from(NAMES), min_size=3, max_size=5),
    st.binary(max_size=4),
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    data = bytearray(draw(PLAUSIBLE | ARRAYS | PACKED))
    for _ in range(draw(st.integers(0, 3))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data)


# With the ten thousand examples of the deep profile, a quarter of a million frames.
FEWEST, MOST = (20, 32) if settings.get_current_profile_name() == "deep" else (0, 8)


@given(
    st.lists(
        st.tuples(st.binary() | PLAUSIBLE | ARRAYS | PACKED | damaged(), st.booleans()),
        min_size=FEWEST,
        max_size=MOST,
    )
)
def test_any_bytes_affect_at_most_the_membership_that_they_name(
    frames: list[tuple[bytes, bool]],
) -> None:
    session = new_session(max_channels=4)
    joined(session, "room:a", "1")
    join(session, "room:b", "2")
    joined(session, "room:c", None)
    for data, binary in frames:
        before = {membership: membership.status for membership in session.memberships}
        calls = receive(session, data, binary=binary)
        touched: set[Membership] = set()
        for call in calls:
            if isinstance(call, Start | Stop | Deliver):
                touched.add(call.membership)
                assert call.membership in session.memberships
            else:
                assert isinstance(call, Send | Close | Unmatched)
            event(type(call).__name__)
        assert len([call for call in calls if not isinstance(call, Unmatched)]) <= 1
        after = {membership: membership.status for membership in session.memberships}
        for membership in before.keys() - touched:
            assert after[membership] == before[membership]


# Lives of memberships.


@attrs.define
class Join:
    """A join that a client sent; its ref and join_ref are the same and used by no other."""

    ref: str
    topic: str
    undisturbed: bool = True


class Client:
    """A model that sends the frames of a schedule, runs the processes in its order, and keeps accounts."""

    def __init__(self, *, traps_exits: bool) -> None:
        self.connection = FakeConnection(max_channels=2, traps_exits=traps_exits)
        self.joins: list[Join] = []
        self.heartbeats: list[str] = []
        self.pushes: list[str] = []
        self.leaves: list[str] = []
        self.replacements: list[tuple[str, str]] = []
        self.refs = 0

    def next_ref(self) -> str:
        self.refs += 1
        return f"r{self.refs}"

    def send(self, *message: Any) -> None:
        self.connection.feed(json.dumps([*message, {}]).encode())

    def disturb(self, topic: str) -> None:
        for sent in self.joins:
            if sent.topic == topic:
                sent.undisturbed = False

    def join(self, topic: str) -> None:
        self.disturb(topic)
        ref = self.next_ref()
        earlier = [sent.ref for sent in self.joins if sent.topic == topic]
        self.joins.append(Join(ref, topic))
        self.send(ref, ref, topic, "phx_join")
        current = {each.topic: each for each in self.connection.session.memberships}.get(topic)
        if current is not None and current.is_replaced:
            self.replacements.append((earlier[-1], ref))

    def push(self, topic: str, event: str, *, stale: bool) -> None:
        if event != "ping" and not stale:
            self.disturb(topic)
        refs = [sent.ref for sent in self.joins if sent.topic == topic] or ["none"]
        ref = self.next_ref()
        (self.leaves if event == "phx_leave" else self.pushes).append(ref)
        self.send(refs[0] + "?" if stale else refs[-1], ref, topic, event)

    def heartbeat(self) -> None:
        self.heartbeats.append(self.next_ref())
        self.send(None, self.heartbeats[-1], "phoenix", "heartbeat")

    def run_channel(self, choice: int) -> None:
        waiting = [channel for channel in self.connection.channels if channel.inbox]
        if waiting:
            waiting[choice % len(waiting)].step()

    def take_report(self) -> None:
        if self.connection.ended:
            self.connection.step()

    def kill(self, choice: int) -> None:
        alive = [channel for channel in self.connection.channels if channel.alive]
        if alive:
            victim: FakeChannel = alive[choice % len(alive)]
            self.disturb(victim.membership.topic)
            victim.exit()


TOPICS = st.sampled_from(["room:a", "room:b", "room:c", "room:deny", "room:joinboom", "nosuch:a"])
EVENTS = st.sampled_from(["ping", "phx_leave", "boom", "stop", "stop_reply"])
STEPS = st.one_of(
    st.tuples(st.just("join"), TOPICS),
    st.tuples(st.just("push"), TOPICS, EVENTS, st.booleans()),
    st.tuples(st.just("heartbeat")),
    st.tuples(st.just("run_channel"), st.integers(0, 5)),
    st.tuples(st.just("take_report")),
    st.tuples(st.just("kill"), st.integers(0, 5)),
)


def follow(steps: list[tuple[Any, ...]], *, traps_exits: bool) -> Client:
    client = Client(traps_exits=traps_exits)
    for step in steps:
        match step:
            case ("push", topic, event_name, stale):
                client.push(topic, event_name, stale=stale)
            case (name, *arguments):
                getattr(client, name)(*arguments)
    client.connection.settle()
    assert client.connection.close is None
    return client


@given(st.lists(STEPS, max_size=30), st.booleans())
def test_every_join_has_one_answer_and_every_membership_one_end(
    steps: list[tuple[Any, ...]], traps_exits: bool
) -> None:
    """Check the frames of a join after all effects.

    Every join gets one answer, even if another join of the topic came before its answer. A
    join that was answered with an error has no other frame. A join that was answered with ok has
    exactly one end (phx_close or phx_error) if its membership is over and none if it is current. A
    membership that nobody left, stopped, crashed or replaced is current. The frames of a membership
    lie between its answer and its end, and if a join replaced another, the answer to the new one
    comes before the phx_close of the old one.
    """
    client = follow(steps, traps_exits=traps_exits)
    frames = [json.loads(frame) for frame in client.connection.written]
    current = {
        membership.join_ref: membership for membership in client.connection.session.memberships
    }
    # The reply to a leave has its join_ref, even if the topic is not joined.
    frames = [frame for frame in frames if frame[1] not in client.leaves]
    answers, ends, others = sort_frames(frames, {sent.ref for sent in client.joins})
    for sent in client.joins:
        answer, end = answers[sent.ref], ends[sent.ref]
        assert len(answer) == 1
        status = answer[0][1]["status"]
        event(f"{status} {end[0][1] if end else 'without end'}")
        if status == "error":
            assert not end
            assert not others[sent.ref]
            assert sent.ref not in current
            continue
        assert len(end) == (sent.ref not in current)
        if sent.ref in current:
            assert current[sent.ref].status in ("joined", "leaving")
        if sent.undisturbed:
            assert sent.ref in current
        assert all(answer[0][0] < position for position in others[sent.ref])
        if end and not traps_exits:
            assert all(position < end[0][0] for position in others[sent.ref])
    for old, new in client.replacements:
        if ends[old] and ends[old][0][1] == "phx_close":
            event("replaced")
            assert answers[new][0][0] + 1 == ends[old][0][0]


Found = dict[str, list[tuple[int, Any]]]


def sort_frames(frames: list[Any], joins: set[str]) -> tuple[Found, Found, dict[str, list[int]]]:
    """By join: answers with their payload, ends with their event, positions of other frames."""
    answers, ends = defaultdict(list), defaultdict(list)
    others: dict[str, list[int]] = defaultdict(list)
    for position, (join_ref, ref, _, event_name, payload) in enumerate(frames):
        if event_name in ("phx_close", "phx_error"):
            assert join_ref == ref
            ends[join_ref].append((position, event_name))
        elif ref in joins:
            answers[ref].append((position, payload))
        elif join_ref in joins:
            others[join_ref].append(position)
    return answers, ends, others


@given(st.lists(STEPS, max_size=30), st.booleans())
def test_every_heartbeat_is_answered_and_every_message_at_most_once(
    steps: list[tuple[Any, ...]], traps_exits: bool
) -> None:
    client = follow(steps, traps_exits=traps_exits)
    refs = [json.loads(frame)[1] for frame in client.connection.written]
    assert all(refs.count(ref) == 1 for ref in client.heartbeats)
    assert all(refs.count(ref) <= 1 for ref in client.pushes + client.leaves)


@given(st.lists(STEPS, max_size=30), st.booleans())
def test_the_session_contains_only_live_memberships_within_the_limit(
    steps: list[tuple[Any, ...]], traps_exits: bool
) -> None:
    connection = follow(steps, traps_exits=traps_exits).connection
    memberships = connection.session.memberships
    assert len(memberships) <= connection.session.max_channels
    assert len({membership.topic for membership in memberships}) == len(memberships)
    assert all(membership.process.alive for membership in memberships)
    for channel in connection.channels:
        if channel.membership not in memberships:
            assert channel.membership.status == "gone"
            assert traps_exits or not channel.alive

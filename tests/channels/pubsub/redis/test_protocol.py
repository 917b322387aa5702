"""The RESP3 protocol: bytes may be cut anywhere, replies find their commands, and nothing unexpected passes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import hiredis
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from channels.pubsub.redis.protocol import (
    Event,
    Pong,
    Protocol,
    ProtocolViolation,
    Ready,
    Refused,
    Reply,
    pack_command,
    pack_publish,
)
from channels.pubsub.redis.server_errors import ServerError
from channels.pubsub.redis.url import RedisUrl

HELLO = (
    b"%3\r\n$6\r\nserver\r\n$6\r\nvalkey\r\n$7\r\nversion\r\n$5\r\n9.1.2\r\n$5\r\nproto\r\n:3\r\n"
)
OK = b"+OK\r\n"
PONG = b"+PONG\r\n"
READY = Ready()
DB = RedisUrl.parse("redis://db")


def commands(data: bytes) -> list[list[bytes]]:
    """Read what a client sent, as a server does."""
    reader = hiredis.Reader()
    reader.feed(data)
    return list(iter(reader.gets, False))


def push(*items: bytes | int) -> bytes:
    parts = [
        b":%d\r\n" % i if isinstance(i, int) else b"$%d\r\n%b\r\n" % (len(i), i) for i in items
    ]
    return b">%d\r\n%b" % (len(items), b"".join(parts))


def message(channel: bytes, payload: bytes) -> bytes:
    return push(b"message", channel, payload)


def subscribed(channel: bytes) -> bytes:
    return push(b"subscribe", channel, 1)


def all_events(protocol: Protocol, limit: int = 100) -> Iterator[Event]:
    while True:
        yield from protocol.events(limit)
        if not protocol.more:
            return


def after(protocol: Protocol, data: bytes) -> list[Event]:
    protocol.feed(data)
    return list(all_events(protocol))


def ready(*channels: bytes, **options: Any) -> Protocol:
    """A protocol after its handshake."""
    protocol = Protocol(**options)
    protocol.hello(DB, client_name="a", channels=channels)
    answer = HELLO + OK + b"".join(map(subscribed, channels)) + PONG
    assert after(protocol, answer) == [READY]
    return protocol


# The handshake


def test_the_handshake_without_credentials_selects_nothing() -> None:
    sent = Protocol().hello(DB, client_name="ashtree")
    assert commands(sent) == [[b"HELLO", b"3"], [b"CLIENT", b"SETNAME", b"ashtree"], [b"PING"]]


def test_the_handshake_has_credentials_database_and_channels() -> None:
    url = RedisUrl.parse("redis://me:pw@db/2")
    sent = Protocol().hello(url, client_name="my node:é", channels=[b"a", b"b"])
    assert commands(sent) == [
        [b"HELLO", b"3", b"AUTH", b"me", b"pw"],
        [b"CLIENT", b"SETNAME", b"my-node:-"],
        [b"SELECT", b"2"],
        [b"SUBSCRIBE", b"a", b"b"],
        [b"PING"],
    ]


def test_a_password_without_a_user_is_that_of_the_default_user() -> None:
    sent = Protocol().hello(RedisUrl.parse("redis://:pw@db"), client_name="a")
    assert commands(sent)[0] == [b"HELLO", b"3", b"AUTH", b"default", b"pw"]


def test_ready_comes_after_the_last_subscription() -> None:
    protocol = Protocol()
    protocol.hello(DB, client_name="a", channels=[b"a", b"b"])
    assert after(protocol, HELLO + OK + subscribed(b"a")) == []
    assert after(protocol, subscribed(b"b")) == []
    assert after(protocol, PONG) == [READY]


def test_messages_may_come_before_ready() -> None:
    protocol = Protocol()
    protocol.hello(DB, client_name="a", channels=[b"a"])
    answer = HELLO + OK + subscribed(b"a") + message(b"a", b"1") + PONG + message(b"a", b"2")
    assert after(protocol, answer) == [(b"a", b"1"), READY, (b"a", b"2")]


def test_a_refused_client_name_does_no_harm() -> None:
    protocol = Protocol()
    protocol.hello(DB, client_name="a")
    assert after(protocol, HELLO + b"-NOPERM no client|setname\r\n" + PONG) == [READY]


@pytest.mark.parametrize("error", [b"-MISCONF disk full\r\n", b"-LOADING soon\r\n", b"-NOPERM\r\n"])
def test_a_server_that_answers_ping_with_an_error_is_ready(error: bytes) -> None:
    protocol = Protocol()
    protocol.hello(DB, client_name="a", channels=[b"a"])
    assert after(protocol, HELLO + OK + subscribed(b"a") + error) == [READY]
    protocol.ping()
    assert after(protocol, error) == [Pong()]


def test_a_wrong_password_is_refused_and_never_ready() -> None:
    protocol = Protocol()
    protocol.hello(RedisUrl.parse("redis://:pw@db"), client_name="a", channels=[b"a"])
    refusals = after(protocol, b"-WRONGPASS invalid\r\n" + b"-NOAUTH needed\r\n" * 3)
    assert refusals == [
        Refused("HELLO", ServerError("WRONGPASS", "invalid")),
        Refused("SUBSCRIBE", ServerError("NOAUTH", "needed")),
    ]


def test_an_old_server_that_answers_the_rest_in_resp2_is_refused_for_its_hello() -> None:
    protocol = Protocol()
    protocol.hello(DB, client_name="a", channels=[b"a", b"b"])
    arrays = b"".join(subscribed(channel).replace(b">", b"*") for channel in (b"a", b"b"))
    answer = b"-ERR unknown command `HELLO`\r\n" + OK + arrays + b"*2\r\n$4\r\npong\r\n$0\r\n\r\n"
    [refusal] = after(protocol, answer)
    assert isinstance(refusal, Refused)
    assert (refusal.command, refusal.error.code) == ("HELLO", "ERR")


def test_a_forbidden_channel_is_a_refusal_of_subscribe() -> None:
    protocol = Protocol()
    protocol.hello(DB, client_name="a", channels=[b"a"])
    assert after(protocol, HELLO + OK + b"-NOPERM no channel\r\n" + PONG) == [
        Refused("SUBSCRIBE", ServerError("NOPERM", "no channel"))
    ]


def test_an_error_that_comes_before_any_command_is_a_refusal() -> None:
    error = ServerError("ERR", "max number of clients reached")
    assert after(Protocol(), b"-ERR max number of clients reached\r\n") == [Refused("", error)]


def test_a_server_of_resp2_violates_the_protocol() -> None:
    protocol = Protocol()
    protocol.hello(DB, client_name="a")
    with pytest.raises(ProtocolViolation):
        after(protocol, b"*2\r\n$5\r\nproto\r\n:2\r\n")


# Publishing


def test_a_publish_command_has_the_channel_and_the_payload() -> None:
    payload = bytes(range(256))
    assert commands(pack_publish(b"a", payload)) == [[b"PUBLISH", b"a", payload]]


def test_replies_to_publish_are_counted_and_make_no_events() -> None:
    protocol = ready()
    protocol.publishing(2)
    protocol.publishing(1)
    assert after(protocol, b":0\r\n:3\r\n") == []
    assert (protocol.acknowledged, protocol.refused) == (2, 0)
    assert after(protocol, b":1\r\n") == []
    assert protocol.acknowledged == 3


def test_a_refused_publish_counts_as_answered() -> None:
    protocol = ready()
    protocol.publishing(3)
    refused = Refused("PUBLISH", ServerError("NOPERM", "no"))
    assert after(protocol, b":0\r\n-NOPERM no\r\n:0\r\n") == [refused]
    assert (protocol.acknowledged, protocol.refused) == (3, 1)


def test_replies_find_their_commands_in_order() -> None:
    protocol = ready()
    protocol.publishing(1)
    protocol.ping()
    protocol.publishing(1)
    protocol.ping()
    assert after(protocol, b":1\r\n") == []
    assert after(protocol, PONG) == [Pong()]
    assert after(protocol, b"-NOPERM no\r\n+PONG\r\n") == [
        Refused("PUBLISH", ServerError("NOPERM", "no")),
        Pong(),
    ]


def test_replies_to_other_commands_are_events_with_their_value() -> None:
    protocol = ready(b"a")
    assert commands(pack_command("GET", "a", 1, b"\xff")) == [[b"GET", b"a", b"1", b"\xff"]]
    protocol.calling(2)
    protocol.ping()
    protocol.calling(1)
    assert after(protocol, b"*2\r\n:7\r\n$1\r\nx\r\n" + message(b"a", b"m")) == [
        Reply([7, b"x"]),
        (b"a", b"m"),
    ]
    # An error is an answer like any other.
    assert after(protocol, b"-NOSCRIPT no\r\n" + PONG + b"%1\r\n$1\r\nx\r\n:1\r\n") == [
        Reply(ServerError("NOSCRIPT", "no")),
        Pong(),
        Reply({b"x": 1}),
    ]


# What comes in


def test_other_pushes_are_ignored_and_counted() -> None:
    protocol = ready(b"a")
    data = push(b"invalidate", b"x") + push(b"subscribe", b"other", 2) + push(b"message", b"a")
    assert after(protocol, data + push(b"message", b"a", 1)) == []
    assert protocol.ignored == 4


@pytest.mark.parametrize(
    "data",
    [
        b"?\r\n",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x15\x03\x01\x00\x02\x02\x0a\r\n",
        b"*-7\r\n",
        b"$-7\r\n",
        b":seven\r\n",
        b"%1\r\n*1\r\n:1\r\n:2\r\n",
        b"(12x\r\n",
    ],
)
def test_what_is_not_resp3_violates_the_protocol(data: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        after(ready(), data)


def test_a_reply_without_a_command_violates_the_protocol() -> None:
    with pytest.raises(ProtocolViolation, match="without a command"):
        after(ready(), PONG)


def test_an_ordinary_reply_to_subscribe_violates_the_protocol() -> None:
    protocol = Protocol()
    protocol.hello(DB, client_name="a", channels=[b"a"])
    with pytest.raises(ProtocolViolation, match="SUBSCRIBE"):
        after(protocol, HELLO + OK + PONG)


def test_a_reply_above_the_limit_is_refused_before_it_is_complete() -> None:
    protocol = ready(b"a", max_reply_bytes=10_000)
    protocol.feed(b">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1000000\r\n")
    fed = 0
    with pytest.raises(ProtocolViolation, match="max_reply_bytes"):
        while True:
            assert after(protocol, bytes(1000)) == []
            fed += 1000
    assert 10_000 <= fed < 13_000


def test_a_reply_of_many_parts_counts_as_one() -> None:
    protocol = ready(b"a", max_reply_bytes=10_000)
    protocol.ping()
    with pytest.raises(ProtocolViolation, match="max_reply_bytes"):
        after(protocol, b"*1000000\r\n")
        for _ in range(3_000):
            after(protocol, b":1\r\n")


def test_many_replies_may_exceed_the_limit_together() -> None:
    protocol = ready(b"a", max_reply_bytes=1_000)
    for _ in range(100):
        assert after(protocol, message(b"a", bytes(900))) == [(b"a", bytes(900))]
    assert len(after(protocol, message(b"a", bytes(900)) * 100)) == 100
    assert after(protocol, message(b"a", bytes(900))) == [(b"a", bytes(900))]


def test_the_limit_of_events_bounds_the_work_of_a_call() -> None:
    protocol = ready(b"a")
    protocol.publishing(5)
    protocol.feed(message(b"a", b"") * 5 + b":0\r\n" * 5)
    sizes = []
    while True:
        sizes.append(len(protocol.events(4)))
        if not protocol.more:
            break
    assert sizes == [4, 1, 0]
    assert protocol.acknowledged == 5


STREAM = st.lists(
    st.one_of(
        st.tuples(st.just("message"), st.binary(max_size=40)),
        st.tuples(st.just("pong"), st.just(b"")),
        st.tuples(st.just("published"), st.just(b"")),
        st.tuples(st.just("refused"), st.just(b"")),
        st.tuples(st.just("other"), st.just(b"")),
    ),
    max_size=12,
)


@given(kinds=STREAM, cuts=st.lists(st.integers(1, 30), min_size=1), limit=st.integers(1, 5))
@example(kinds=[("message", b"\r\n")] * 3, cuts=[1], limit=1)
def test_bytes_may_be_cut_anywhere(
    kinds: list[tuple[str, bytes]], cuts: list[int], limit: int
) -> None:
    protocol = Protocol(max_reply_bytes=100)
    protocol.hello(DB, client_name="a", channels=[b"a"])
    data = HELLO + OK + subscribed(b"a") + PONG
    expected: list[Event] = [READY]
    for kind, payload in kinds:
        match kind:
            case "message":
                data += message(b"a", payload)
                expected.append((b"a", payload))
            case "pong":
                protocol.ping()
                data += PONG
                expected.append(Pong())
            case "published":
                protocol.publishing(1)
                data += b":1\r\n"
            case "refused":
                protocol.publishing(1)
                data += b"-NOPERM no\r\n"
                expected.append(Refused("PUBLISH", ServerError("NOPERM", "no")))
            case "other":
                data += push(b"pmessage", b"*", b"a", b"x")
    got: list[Event] = []
    turn = 0
    while data:
        size = cuts[turn % len(cuts)]
        protocol.feed(data[:size])
        got += all_events(protocol, limit)
        data = data[size:]
        turn += 1
    assert got == expected
    assert protocol.ignored == sum(kind == "other" for kind, _ in kinds)


@given(data=st.binary(max_size=60))
def test_garbage_is_refused_or_waits_for_more(data: bytes) -> None:
    protocol = ready(b"a")
    try:
        # Without the signs before the length of an array: hiredis makes arrays as long as announced at once.
        events = after(protocol, data.translate(None, b"*%~>|"))
    except ProtocolViolation:
        return
    assert all(type(event) in (tuple, Refused) for event in events)

"""The protocol of a client: connections, heartbeats, channels and pushes, as in phoenix.js."""

from __future__ import annotations

from typing import Any

import pytest

from channels.client.backoff import RetryTable
from channels.client.errors import BufferFull, ChannelClosed
from channels.client.events import (
    ChannelEnded,
    ChannelLost,
    Connected,
    ConnectFailed,
    Disconnected,
    FellBack,
    Joined,
    JoinRejected,
    JoinTimedOut,
    Lost,
    Malformed,
    Rejoined,
    Rejoining,
    Retrying,
)
from channels.client.protocol import MAX_SHORT_CONNECTIONS, STABLE_AFTER
from channels.errors import EncodeError
from channels.messages import Binary
from tests.channels.client.driving import Driver, connected

RECONNECT_STEPS = [0.01, 0.05, 0.1, 0.15, 0.2, 0.25, 0.5, 1.0, 2.0, 5.0, 5.0]

# The connection


def test_connecting_opens_one_connection() -> None:
    client = Driver()
    client.connect()
    client.connect()
    assert client.opens() == ["websocket"]
    assert client.protocol.state == "connecting"


def test_connecting_while_the_connection_is_open_changes_nothing() -> None:
    client = connected()
    client.connect()
    assert client.effects == []


def test_an_open_connection_gives_an_event_with_its_time() -> None:
    client = Driver()
    client.connect()
    client.wait(0.5)
    client.opened()
    assert client.told() == [Connected("websocket", 1, 0.5)]


def test_a_failed_attempt_is_repeated_after_the_waits_of_the_table() -> None:
    client = Driver()
    client.connect()
    for attempt, step in enumerate(RECONNECT_STEPS, 1):
        client.opens()
        client.fail("refused", 503)
        assert client.told() == [ConnectFailed("refused", 503), Retrying(step, attempt)]
        client.wait(step * 0.999)
        assert client.opens() == []
        client.wait(step * 0.001 + 1e-9)
        assert client.protocol.state == "connecting"


def test_an_open_connection_starts_the_table_again() -> None:
    client = Driver()
    client.connect()
    for _ in range(5):
        client.fail()
        client.wait(1.0)
    client.opened()
    client.told()
    client.lose()
    assert client.told(Retrying) == [Retrying(0.01, 1)]


def flap(client: Driver, count: int) -> None:
    """Let the server end connections immediately."""
    for _ in range(count):
        client.opened()
        client.lose()
        client.wait(5.0)
    assert client.protocol.state == "connecting"
    client.told()


def test_the_waits_go_on_after_ten_short_connections_in_a_row() -> None:
    client = Driver()
    client.connect()
    waits = [0.01] * MAX_SHORT_CONNECTIONS + RECONNECT_STEPS[1:]
    for number, wait in enumerate(waits):
        client.opened()
        client.wait(STABLE_AFTER - 0.001)
        client.told()
        client.lose()
        attempt = max(1, number - MAX_SHORT_CONNECTIONS + 2)
        assert client.told(Retrying) == [Retrying(wait, attempt)]
        client.wait(wait + 1e-9)
        assert client.protocol.state == "connecting"


def test_a_connection_that_lasts_starts_the_table_again_after_many_short_ones() -> None:
    client = Driver()
    client.connect()
    flap(client, MAX_SHORT_CONNECTIONS + 3)
    client.opened()
    client.wait(STABLE_AFTER)
    client.told()
    client.lose()
    assert client.told(Retrying) == [Retrying(0.01, 1)]
    client.wait(0.01)
    for _ in range(MAX_SHORT_CONNECTIONS - 1):
        client.opened()
        client.told()
        client.lose()
        assert client.told(Retrying) == [Retrying(0.01, 1)]
        client.wait(0.01)


@pytest.mark.parametrize("lasts", [0.0, 1.0, STABLE_AFTER])
def test_a_server_that_closes_each_connection_cannot_make_the_client_reconnect_often(
    lasts: float,
) -> None:
    client = Driver()
    client.connect()
    flap(client, 20)
    assert connections_within(client, 600, [lasts]) <= 600 / 5.0 + 1


@pytest.mark.parametrize("short", [MAX_SHORT_CONNECTIONS - 1, MAX_SHORT_CONNECTIONS, 20])
def test_long_connections_between_short_ones_do_not_let_the_client_reconnect_often(
    short: int,
) -> None:
    client = Driver()
    client.connect()
    connections = connections_within(client, 600, [STABLE_AFTER, *[0.0] * short])
    assert connections <= 600 / STABLE_AFTER * (MAX_SHORT_CONNECTIONS + 1)


def connections_within(client: Driver, seconds: float, lasts: list[float]) -> int:
    """Let the server end each connection after the next of the given times, and count the connections."""
    end = client.now + seconds
    connections = 0
    while client.now < end:
        client.opened()
        client.wait(lasts[connections % len(lasts)])
        client.lose()
        connections += 1
        while client.protocol.state == "closed":
            client.wait(0.01)
    return connections


@pytest.mark.parametrize("code", [1000, 1001, 1006, 1011, 1012, 1013, 3000, 4000])
def test_a_lost_connection_is_opened_again_whatever_its_code(code: int) -> None:
    client = connected()
    client.lose(code, "bye")
    assert client.told() == [Lost("bye", code), Retrying(0.01, 1)]
    client.wait(0.01)
    assert client.opens() == ["websocket"]


def test_a_final_close_code_ends_the_socket() -> None:
    client = connected(final_close_codes=frozenset({1000}))
    channel = client.joined()
    push = client.push(channel)
    client.lose(1000, "over")
    assert client.settled() == [(push, "closed", "over")]
    assert client.ended() == [("room:a", False)]
    assert client.told(Disconnected) == [Disconnected("over", 1000)]
    client.wait(1000)
    client.connect()
    assert client.opens() == []
    assert client.protocol.has_ended


def test_a_code_that_is_not_final_does_not_end_the_socket() -> None:
    client = connected(final_close_codes=frozenset({1000}))
    client.lose(1001)
    assert client.told(Retrying) == [Retrying(0.01, 1)]


def test_the_jitter_shortens_the_waits() -> None:
    client = Driver(reconnect=RetryTable(jitter=0.5), random=1.0)
    client.connect()
    client.fail()
    assert client.told(Retrying) == [Retrying(0.005, 1)]


def test_disconnecting_closes_the_connection_and_every_channel_for_good() -> None:
    client = connected()
    channel = client.joined()
    push = client.push(channel)
    client.frames()
    client.run(client.protocol.disconnect(client.now))
    assert client.closes() == [(1000, "")]
    assert client.frames() == []
    assert client.settled() == [(push, "closed", "the program closed the socket")]
    assert client.ended() == [("room:a", True)]
    assert [type(event) for event in client.told()] == [ChannelEnded, Disconnected]
    client.wait(1000)
    assert client.effects == []


def test_disconnecting_ends_the_waiting_for_the_next_attempt() -> None:
    client = connected()
    client.lose()
    client.run(client.protocol.disconnect(client.now))
    assert client.closes() == []
    client.wait(1000)
    assert client.opens() == []


def test_disconnecting_twice_is_fine() -> None:
    client = connected()
    client.run(client.protocol.disconnect(client.now))
    client.effects = []
    client.run(client.protocol.disconnect(client.now))
    assert client.effects == []


def test_reports_about_a_connection_that_is_not_there_change_nothing() -> None:
    client = connected()
    client.opened()
    client.fail()
    client.lose()
    client.effects = []
    client.lose()
    client.hear(None, None, "room:a", "new", {})
    client.opened()
    assert client.effects == []


# Heartbeats


def test_a_heartbeat_is_sent_at_every_interval() -> None:
    client = connected()
    client.wait(29.5)
    assert client.frames() == []
    for _ in range(3):
        client.wait(0.5)
        (beat,) = client.frames()
        assert beat == [None, beat[1], "phoenix", "heartbeat", {}]
        client.answer(beat)
        client.wait(29.5)
        assert client.frames() == []


def test_a_heartbeat_without_an_answer_ends_the_connection() -> None:
    client = connected()
    channel = client.joined()
    client.wait(59.5)
    assert client.closes() == []
    client.wait(0.5)
    assert client.closes() == [(1000, "heartbeat timeout")]
    assert channel.state == "errored"
    assert client.told() == [
        Lost("heartbeat timeout", 1006),
        ChannelLost("room:a", "heartbeat_timeout"),
        Retrying(0.01, 1),
    ]


def test_only_the_answer_to_the_heartbeat_itself_counts() -> None:
    client = connected()
    client.wait(30)
    client.frames()
    client.hear(None, "99", "phoenix", "phx_reply", {"status": "ok", "response": {}})
    client.hear(None, None, "room:a", "new", {})
    client.wait(30)
    assert client.closes() == [(1000, "heartbeat timeout")]


def test_the_answer_to_a_heartbeat_may_come_late_in_its_interval() -> None:
    client = connected()
    client.wait(30)
    (beat,) = client.frames()
    client.wait(29.5)
    client.answer(beat)
    client.wait(29.5)
    assert client.closes() == []
    client.wait(0.5)
    assert len(client.frames()) == 1


def test_heartbeats_end_with_the_connection_and_begin_again_with_the_next() -> None:
    client = connected()
    client.wait(20)
    client.lose()
    client.wait(0.01)
    client.wait(30)
    assert client.frames() == []
    client.opened()
    client.wait(29.5)
    assert client.frames() == []
    client.wait(0.5)
    assert len(client.frames()) == 1


def test_a_late_answer_to_a_heartbeat_of_the_last_connection_changes_nothing() -> None:
    client = connected()
    client.wait(30)
    (beat,) = client.frames()
    client.lose()
    client.wait(0.01)
    client.opened()
    client.wait(20)
    client.answer(beat)
    client.wait(10)
    assert len(client.frames()) == 1


def test_long_polling_needs_no_heartbeats() -> None:
    client = connected(transport="longpoll")
    client.wait(1000)
    assert client.frames() == []


def test_a_ping_measures_the_time_to_its_answer() -> None:
    client = connected()
    ref, effects = client.protocol.ping(client.now)
    client.run(effects)
    (frame,) = client.frames()
    assert frame == [None, ref, "phoenix", "heartbeat", {}]
    client.wait(0.25)
    client.answer(frame)
    assert client.pongs() == [(ref, 0.25)]


def test_a_ping_ends_with_its_connection() -> None:
    client = connected()
    ref, _ = client.protocol.ping(client.now)
    client.lose()
    assert client.pongs() == [(ref, None)]


def test_there_is_no_ping_without_a_connection() -> None:
    assert Driver().protocol.ping(0.0) == (None, [])


# Joins


def test_the_defaults_are_those_of_phoenix_js() -> None:
    client = Driver()
    settings = client.protocol.settings
    assert (settings.timeout, settings.heartbeat_interval) == (10.0, 30.0)
    assert (settings.transport, settings.longpoll_fallback_after) == ("websocket", None)
    assert (client.protocol.state, client.protocol.channels) == ("closed", [])


def test_a_new_channel_is_closed_and_has_the_timeout_of_its_socket() -> None:
    client = Driver(timeout=7.0)
    channel = client.channel("room:a", {"name": "ann"})
    assert (channel.topic, channel.state, channel.timeout) == ("room:a", "closed", 7.0)
    assert (channel.params(), channel.joined_once, channel.join_ref) == (
        {"name": "ann"},
        False,
        None,
    )
    assert client.protocol.channels == [channel]


def test_a_channel_can_have_a_timeout_of_its_own() -> None:
    client = connected()
    client.join(client.channel(timeout=3.0))
    client.frames()
    client.wait(2.5)
    assert client.frames() == []
    client.wait(0.5)
    assert [frame[3] for frame in client.frames()] == ["phx_leave"]


@pytest.mark.parametrize("is_answered", [True, False])
def test_pushes_wait_on_when_a_join_is_refused_or_not_answered(is_answered: bool) -> None:
    client = connected()
    channel = client.channel()
    client.join(channel)
    (join,) = client.frames()
    client.push(channel, "waits", timeout=60.0)
    if is_answered:
        client.answer(join, "error")
    else:
        client.wait(10.0)
    assert "waits" not in [frame[3] for frame in client.frames()]
    client.wait(1.0)
    (join,) = client.frames()
    client.answer(join)
    assert [frame[3] for frame in client.frames()] == ["waits"]


def test_a_join_has_its_ref_as_join_ref_and_the_params_as_payload() -> None:
    client = connected()
    channel = client.channel(params={"name": "ann"})
    client.join(channel)
    (frame,) = client.frames()
    assert frame == [frame[1], frame[1], "room:a", "phx_join", {"name": "ann"}]
    assert channel.state == "joining"


def test_a_join_that_is_answered_with_ok_makes_the_channel_joined() -> None:
    client = connected()
    channel = client.channel()
    client.join(channel)
    (frame,) = client.frames()
    client.wait(0.5)
    client.answer(frame, response={"users": 3})
    assert channel.state == "joined"
    assert client.told() == [Joined("room:a", {"users": 3}, 0.5)]


def test_a_channel_is_joined_once() -> None:
    client = connected()
    channel = client.joined()
    with pytest.raises(RuntimeError, match="joined before"):
        client.join(channel)


def test_a_join_before_the_connection_is_sent_when_it_opens() -> None:
    client = Driver()
    channel = client.channel()
    client.connect()
    client.join(channel)
    assert client.frames() == []
    client.opened()
    (frame,) = client.frames()
    assert frame[3] == "phx_join"
    client.answer(frame)
    assert channel.state == "joined"


def test_a_join_whose_connection_does_not_open_is_sent_once_when_the_next_one_does() -> None:
    client = Driver()
    channel = client.channel()
    client.connect()
    client.join(channel)
    client.fail()
    assert str(channel.state) == "errored"
    client.wait(0.01)
    client.opened()
    (frame,) = client.frames()
    client.answer(frame)
    assert channel.state == "joined"


def test_a_refused_join_is_repeated_after_the_waits_of_the_table() -> None:
    client = connected()
    channel = client.channel()
    client.join(channel)
    for attempt, step in enumerate([1.0, 2.0, 5.0, 10.0, 10.0], 1):
        (frame,) = client.frames()
        client.answer(frame, "error", {"reason": "full"})
        assert str(channel.state) == "errored"
        assert client.told() == [
            JoinRejected("room:a", "error", {"reason": "full"}),
            Rejoining("room:a", step, attempt),
        ]
        client.wait(step - 0.001)
        assert client.frames() == []
        client.wait(0.001)
        assert channel.state == "joining"


def test_an_unknown_status_of_a_join_counts_as_an_error() -> None:
    client = connected()
    channel = client.channel()
    client.join(channel)
    (frame,) = client.frames()
    client.answer(frame, "weird")
    assert channel.state == "errored"


def test_a_join_without_an_answer_leaves_the_topic_and_is_repeated() -> None:
    client = connected()
    channel = client.channel()
    client.join(channel)
    (join,) = client.frames()
    client.wait(10)
    (leave,) = client.frames()
    assert leave == [join[1], leave[1], "room:a", "phx_leave", {}]
    assert channel.state == "errored"
    assert client.told() == [JoinTimedOut("room:a"), Rejoining("room:a", 1.0, 1)]
    client.wait(1.0)
    (again,) = client.frames()
    assert again[3] == "phx_join"
    assert again[1] != join[1]


def test_a_late_answer_to_a_join_that_timed_out_changes_nothing() -> None:
    client = connected()
    channel = client.channel()
    client.join(channel)
    (join,) = client.frames()
    client.wait(10)
    client.answer(join)
    assert channel.state == "errored"


def test_the_timeout_of_a_join_runs_while_there_is_no_connection() -> None:
    client = Driver()
    channel = client.channel()
    client.connect()
    client.join(channel)
    client.wait(10)
    assert channel.state == "errored"
    assert client.frames() == []
    client.opened()
    (frame,) = client.frames()
    assert frame[3] == "phx_join"


def test_params_that_are_a_function_are_called_at_every_join() -> None:
    client = connected()
    numbers = iter(range(10))
    channel = client.joined(params=lambda: {"n": next(numbers)})
    client.lose()
    client.wait(0.01)
    client.opened()
    (frame,) = client.frames()
    assert frame[4] == {"n": 1}
    client.hear(None, None, "room:a", "phx_error", {})
    assert channel.state == "errored"
    client.wait(1.0)
    (frame,) = client.frames()
    assert frame[4] == {"n": 2}


def test_params_that_fail_leave_the_state_as_it_was() -> None:
    client = connected()

    def params() -> Any:
        raise LookupError("no token")

    channel = client.channel(params=params)
    with pytest.raises(LookupError):
        client.join(channel)
    assert (channel.state, channel.joined_once) == ("closed", False)


def test_a_second_channel_of_a_topic_replaces_the_first() -> None:
    client = connected()
    first = client.joined()
    second = client.channel()
    client.join(second)
    leave, join = client.frames()
    assert (leave[3], join[3]) == ("phx_leave", "phx_join")
    assert leave[0] == first.join_ref
    assert first.state == "closed"
    client.answer(join)
    client.hear(leave[0], leave[0], "room:a", "phx_close", {})
    assert second.state == "joined"


# The loss of a channel, and the way back


def test_a_crash_of_the_channel_is_followed_by_a_join() -> None:
    client = connected()
    channel = client.joined()
    client.hear(channel.join_ref, channel.join_ref, "room:a", "phx_error", {"reason": "boom"})
    assert channel.state == "errored"
    assert client.told() == [
        ChannelLost("room:a", "boom", is_crash=True),
        Rejoining("room:a", 1.0, 1),
    ]
    client.wait(1.0)
    (join,) = client.frames()
    client.answer(join, response={"again": True})
    assert client.told() == [Rejoined("room:a", {"again": True}, 1.0)]


def test_the_time_of_a_rejoin_counts_from_the_first_loss() -> None:
    client = connected()
    channel = client.joined()
    client.hear(channel.join_ref, None, "room:a", "phx_error", {})
    client.wait(1.0)
    client.answer(client.frames()[0], "error")
    client.wait(2.0)
    client.answer(client.frames()[0])
    assert client.told(Rejoined) == [Rejoined("room:a", {}, 3.0)]


def test_a_joined_channel_starts_the_table_of_rejoins_again() -> None:
    client = connected()
    channel = client.joined()
    for _ in range(3):
        client.hear(None, None, "room:a", "phx_error", {})
        assert client.told(Rejoining) == [Rejoining("room:a", 1.0, 1)]
        client.wait(1.0)
        client.answer(client.frames()[0])
        assert channel.state == "joined"


def test_a_crash_while_joining_makes_the_answer_to_that_join_outdated() -> None:
    client = connected()
    channel = client.channel()
    client.join(channel)
    (join,) = client.frames()
    client.hear(join[1], join[1], "room:a", "phx_error", {})
    client.answer(join)
    assert channel.state == "errored"


def test_a_lost_connection_takes_every_channel_and_the_next_one_rejoins_them_at_once() -> None:
    client = connected()
    one, two = client.joined("room:1"), client.joined("room:2")
    client.lose()
    assert (one.state, two.state) == ("errored", "errored")
    assert client.told(Rejoining) == []
    client.wait(0.01)
    client.opened()
    assert [frame[2:4] for frame in client.frames()] == [
        ["room:1", "phx_join"],
        ["room:2", "phx_join"],
    ]


def test_a_lost_connection_says_nothing_of_channels_that_are_out_already() -> None:
    client = connected()
    client.joined()
    client.hear(None, None, "room:a", "phx_error", {})
    assert len(client.told(ChannelLost)) == 1
    client.lose()
    assert client.told(ChannelLost) == []


def test_a_rejoin_that_waits_when_the_connection_is_lost_is_made_by_the_next_connection() -> None:
    client = connected()
    client.joined()
    client.hear(None, None, "room:a", "phx_error", {})
    client.lose()
    client.wait(0.01)
    client.opened()
    assert len(client.frames()) == 1
    client.wait(5.0)
    assert client.frames() == []


def test_a_rejoin_that_comes_due_without_a_connection_is_not_made() -> None:
    client = connected()
    channel = client.joined()
    client.hear(None, None, "room:a", "phx_error", {})
    client.lose()
    client.wait(20)
    assert channel.state == "errored"
    assert client.frames() == []


def test_a_close_by_the_server_ends_the_channel() -> None:
    client = connected()
    channel = client.joined()
    push = client.push(channel)
    client.hear(channel.join_ref, channel.join_ref, "room:a", "phx_close", {})
    assert channel.state == "closed"
    assert client.settled() == [(push, "closed", "the server closed it")]
    assert client.ended() == [("room:a", True)]
    client.lose()
    client.wait(0.01)
    client.frames()
    client.opened()
    assert client.frames() == []


# Messages


def test_a_message_of_the_topic_arrives() -> None:
    client = connected()
    channel = client.joined()
    client.hear(None, None, "room:a", "new", {"n": 1})
    client.hear(channel.join_ref, None, "room:a", "new", {"n": 2})
    client.hear("", None, "room:a", "new", {"n": 3})
    assert client.arrived() == [("new", {"n": 1}), ("new", {"n": 2}), ("new", {"n": 3})]


def test_a_message_of_another_membership_or_topic_is_dropped() -> None:
    client = connected()
    client.joined()
    client.hear("999", None, "room:a", "new", {})
    client.hear(None, None, "room:b", "new", {})
    client.hear("999", "999", "room:a", "phx_error", {})
    client.hear("999", "999", "room:a", "phx_close", {})
    assert client.effects == []


def test_a_close_of_the_membership_before_a_rejoin_is_dropped() -> None:
    client = connected()
    channel = client.joined()
    old = channel.join_ref
    client.hear(old, old, "room:a", "phx_error", {})
    client.wait(1.0)
    client.answer(client.frames()[0])
    client.hear(old, old, "room:a", "phx_close", {})
    assert channel.state == "joined"


@pytest.mark.parametrize(
    "frame",
    [
        "",
        "{",
        "[]",
        '["1","2","3","4"]',
        "{}",
        "7",
        b"",
        b"\x09",
        b"\x00\x01",
        b"\x02\x01\x01\xff\xff",
    ],
)
def test_a_malformed_frame_is_dropped_and_counted(frame: str | bytes) -> None:
    client = connected()
    channel = client.joined()
    client.hear_frame(frame)
    assert [type(event) for event in client.told()] == [Malformed]
    assert client.protocol.malformed == 1
    assert channel.state == "joined"


@pytest.mark.parametrize(
    "message",
    [
        [[1], [2], ["room:a"], ["new"], []],
        [None, {}, "room:a", "phx_reply", {"status": "ok"}],
        [None, "1", "room:a", "phx_reply", []],
        [None, "1", "room:a", "phx_reply", {}],
        [None, 1, {}, 3, None],
    ],
)
def test_a_frame_of_unusual_values_does_no_harm(message: list[Any]) -> None:
    client = connected()
    channel = client.joined()
    client.hear(*message)
    assert channel.state == "joined"


def test_a_binary_message_arrives_as_binary() -> None:
    client = connected()
    client.joined()
    client.hear_frame(b"\x02\x06\x03room:anew\x01\xff")
    assert client.arrived() == [("new", Binary(b"\x01\xff"))]


# Pushes


def test_a_push_of_a_joined_channel_is_sent_at_once() -> None:
    client = connected()
    channel = client.joined()
    client.push(channel, "new", {"body": "hi"})
    (frame,) = client.frames()
    assert frame == [channel.join_ref, frame[1], "room:a", "new", {"body": "hi"}]
    assert frame[1] != channel.join_ref


@pytest.mark.parametrize(("status", "response"), [("ok", {"n": 1}), ("error", {}), ("weird", [1])])
def test_the_answer_settles_the_push(status: str, response: Any) -> None:
    client = connected()
    push = client.push(client.joined())
    (frame,) = client.frames()
    client.answer(frame, status, response)
    assert client.settled() == [(push, status, response)]
    client.answer(frame, status, response)
    client.wait(20)
    assert client.settled() == []


def test_a_push_without_an_answer_times_out_and_a_late_answer_is_dropped() -> None:
    client = connected()
    push = client.push(client.joined(), timeout=3.0)
    (frame,) = client.frames()
    client.wait(2.9)
    assert client.settled() == []
    client.wait(0.1)
    assert client.settled() == [(push, "timeout", None)]
    client.answer(frame)
    assert client.settled() == []


def test_an_answer_without_a_join_ref_counts() -> None:
    client = connected()
    push = client.push(client.joined())
    (frame,) = client.frames()
    client.hear(None, frame[1], "room:a", "phx_reply", {"status": "error", "response": {}})
    assert client.settled() == [(push, "error", {})]


def test_pushes_before_the_join_are_sent_after_its_answer_in_order() -> None:
    client = connected()
    channel = client.channel()
    client.join(channel)
    (join,) = client.frames()
    for number in range(3):
        client.push(channel, "new", {"n": number})
    assert client.frames() == []
    client.answer(join)
    frames = client.frames()
    assert [frame[4]["n"] for frame in frames] == [0, 1, 2]
    assert {frame[0] for frame in frames} == {channel.join_ref}
    assert len({frame[1] for frame in frames}) == 3


def test_a_buffered_push_gets_its_full_timeout_again_when_it_is_sent() -> None:
    client = connected()
    channel = client.channel(timeout=30.0)
    client.join(channel)
    (join,) = client.frames()
    push = client.push(channel, timeout=10.0)
    client.wait(9.0)
    client.answer(join)
    client.wait(9.0)
    assert client.settled() == []
    client.wait(1.0)
    assert client.settled() == [(push, "timeout", None)]


def test_a_push_that_times_out_in_the_buffer_is_never_sent() -> None:
    client = connected()
    channel = client.joined()
    client.lose()
    push = client.push(channel, timeout=3.0)
    client.wait(3.0)
    assert client.settled() == [(push, "timeout", None)]
    client.opened()
    (join,) = client.frames()
    client.answer(join)
    assert client.frames() == []


def test_a_push_during_an_outage_is_sent_after_the_rejoin() -> None:
    client = connected()
    channel = client.joined()
    client.lose()
    push = client.push(channel, "new", {"n": 1})
    client.wait(0.01)
    client.opened()
    (join,) = client.frames()
    client.answer(join)
    (frame,) = client.frames()
    assert frame == [join[1], frame[1], "room:a", "new", {"n": 1}]
    client.answer(frame)
    assert client.settled() == [(push, "ok", {})]


def test_a_push_that_was_sent_before_the_connection_was_lost_is_not_sent_again() -> None:
    client = connected()
    channel = client.joined()
    push = client.push(channel)
    client.frames()
    client.lose()
    client.wait(0.01)
    client.opened()
    client.answer(client.frames()[0])
    assert client.frames() == []
    client.wait(10)
    assert client.settled() == [(push, "timeout", None)]


def test_a_push_is_encoded_when_it_is_made() -> None:
    client = connected()
    channel = client.channel()
    client.join(channel)
    payload = {"n": 1}
    client.push(channel, "new", payload)
    payload["n"] = 2
    client.answer(client.frames()[0])
    assert client.frames()[0][4] == {"n": 1}


@pytest.mark.parametrize("is_joined", [True, False])
@pytest.mark.parametrize(
    ("event", "payload"),
    [
        ("new", {"x": object()}),
        ("e" * 256, Binary(b"x")),
        ("\ud800", {}),
        ("new", {"x": {1, "\ud800"}}),
    ],
)
def test_a_push_that_cannot_be_encoded_raises_at_once(
    event: str, payload: Any, is_joined: bool
) -> None:
    client = connected()
    channel = client.joined() if is_joined else client.channel()
    if not is_joined:
        client.join(channel)
    client.effects = []
    with pytest.raises(EncodeError):
        client.push(channel, event, payload)
    assert client.effects == []
    assert (channel.pending, channel.buffered) == ({}, 0)


def test_the_buffer_of_a_channel_is_bounded() -> None:
    client = connected(max_buffered=2)
    channel = client.joined()
    client.lose()
    client.push(channel)
    client.push(channel, timeout=1.0)
    with pytest.raises(BufferFull) as caught:
        client.push(channel, "third")
    assert (caught.value.topic, caught.value.event, caught.value.limit) == ("room:a", "third", 2)
    client.wait(1.0)
    client.push(channel)


def test_pushes_that_a_rejoin_has_sent_leave_room_for_others() -> None:
    client = connected(max_buffered=2)
    channel = client.joined()
    for _ in range(3):
        client.lose()
        client.push(channel)
        client.push(channel)
        client.wait(0.1)
        client.opened()
        client.answer(client.frames()[-1])
        assert channel.state == "joined"
        assert channel.buffered == 0


def test_a_push_that_waits_for_a_join_fails_at_once_when_its_channel_closes() -> None:
    client = connected()
    channel = client.joined()
    client.lose()
    push = client.push(channel)
    client.leave(channel)
    assert client.settled() == [(push, "closed", "the program left it")]


def test_a_cancelled_push_is_forgotten_wherever_it_is() -> None:
    client = connected()
    channel = client.joined()
    sent = client.push(channel)
    (frame,) = client.frames()
    client.protocol.cancel(sent)
    client.answer(frame)
    client.lose()
    kept = client.push(channel, "kept")
    buffered = client.push(channel, "cancelled")
    client.protocol.cancel(buffered)
    assert channel.buffered == 1
    client.wait(0.01)
    client.opened()
    client.answer(client.frames()[0])
    assert [frame[3] for frame in client.frames()] == ["kept"]
    client.wait(20)
    assert client.settled() == [(kept, "timeout", None)]


def test_a_push_to_a_closed_channel_raises() -> None:
    client = connected()
    channel = client.joined()
    client.leave(channel)
    with pytest.raises(ChannelClosed, match="the program left it"):
        client.push(channel)
    with pytest.raises(ChannelClosed, match="not joined"):
        client.push(client.channel("room:b"))


def test_a_binary_push_carries_its_refs() -> None:
    client = connected()
    channel = client.joined()
    push = client.push(channel, "new", Binary(b"\x00\xff"))
    join_ref, ref = str(channel.join_ref).encode(), str(push.ref).encode()
    sizes = bytes((0, len(join_ref), len(ref), 6, 3))
    assert client.frames() == [sizes + join_ref + ref + b"room:anew\x00\xff"]


# Leaving


def test_a_leave_closes_the_channel_before_the_server_answers() -> None:
    client = connected()
    channel = client.joined()
    client.leave(channel)
    (frame,) = client.frames()
    assert frame == [channel.join_ref, frame[1], "room:a", "phx_leave", {}]
    assert channel.state == "closed"
    assert client.ended() == [("room:a", True)]
    assert client.told() == [ChannelEnded("room:a", "the program left it")]
    assert client.left() == []
    client.answer(frame)
    assert client.left() == [channel]


def test_a_leave_without_an_answer_is_over_after_the_timeout() -> None:
    client = connected()
    channel = client.joined()
    client.leave(channel)
    client.wait(10)
    assert client.left() == [channel]


def test_a_leave_is_over_when_the_connection_is() -> None:
    client = connected()
    channel = client.joined()
    client.leave(channel)
    client.lose()
    assert client.left() == [channel]


def test_a_leave_without_a_connection_sends_nothing() -> None:
    client = connected()
    channel = client.joined()
    client.lose()
    client.leave(channel)
    assert client.left() == [channel]
    client.wait(0.01)
    client.opened()
    assert client.frames() == []


def test_a_leave_before_the_connection_opens_cancels_the_join() -> None:
    client = Driver()
    channel = client.channel()
    client.connect()
    client.join(channel)
    client.leave(channel)
    client.opened()
    assert client.frames() == []


def test_a_leave_ends_the_attempts_to_rejoin() -> None:
    client = connected()
    channel = client.joined()
    client.hear(None, None, "room:a", "phx_error", {})
    client.leave(channel)
    client.frames()
    client.wait(100)
    assert [frame[3] for frame in client.frames()] == ["heartbeat"]


def test_leaving_twice_is_fine() -> None:
    client = connected()
    channel = client.joined()
    client.leave(channel)
    client.effects = []
    client.leave(channel)
    assert client.effects == []


# The fallback to long polling


def test_a_failure_before_the_first_open_falls_back_at_once() -> None:
    client = Driver(longpoll_fallback_after=2.5)
    channel = client.channel()
    client.connect()
    client.join(channel)
    client.fail("no upgrade", 400)
    assert client.opens() == ["websocket", "longpoll"]
    assert client.told() == [ConnectFailed("no upgrade", 400), FellBack("no upgrade")]
    assert channel.state == "joining"
    client.opened()
    assert [frame[3] for frame in client.frames()] == ["phx_join"]


def test_a_connection_that_does_not_open_in_time_falls_back() -> None:
    client = Driver(longpoll_fallback_after=2.5)
    client.connect()
    client.wait(2.5)
    assert client.opens() == ["websocket", "longpoll"]
    assert client.closes() == [(1000, "")]
    assert client.told() == [FellBack("no answer in 2.5 s")]


def test_an_open_connection_that_answers_no_ping_falls_back() -> None:
    client = Driver(longpoll_fallback_after=2.5)
    client.open()
    assert [frame[3] for frame in client.frames()] == ["heartbeat"]
    channel = client.joined()
    client.wait(2.5)
    assert client.opens() == ["longpoll"]
    assert client.closes() == [(1000, "")]
    assert channel.state == "errored"
    client.opened()
    assert [frame[3] for frame in client.frames()] == ["phx_join"]


def test_a_connection_that_answers_the_ping_stays() -> None:
    client = Driver(longpoll_fallback_after=2.5)
    client.open()
    client.opens()
    (ping,) = client.frames()
    client.answer(ping)
    client.wait(20)
    assert client.opens() == []
    client.lose()
    client.wait(0.01)
    assert client.opens() == ["websocket"]


def test_long_polling_stays_after_a_fallback() -> None:
    client = Driver(longpoll_fallback_after=2.5)
    client.connect()
    client.fail()
    client.opened()
    client.lose()
    client.wait(0.01)
    assert client.opens() == ["websocket", "longpoll", "longpoll"]


def test_every_attempt_over_the_websocket_can_fall_back() -> None:
    client = Driver(longpoll_fallback_after=2.5)
    client.open()
    client.answer(client.frames()[0])
    client.lose()
    client.wait(0.01)
    client.opens()
    client.fail()
    assert client.opens() == ["longpoll"]

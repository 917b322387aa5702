"""Sockets: routes, facts about a request, and errors about wrong tables."""

from __future__ import annotations

import math
from typing import Any

import pytest

from actors import InvalidArgument, InvalidOption, Runtime
from channels import (
    Channel,
    ChannelsError,
    ConnectInfo,
    ConnectRefused,
    Endpoint,
    InvalidHandler,
    Route,
    Socket,
    handle_in,
)
from channels.socket import router_of


class Lobby(Channel):
    pass


class Room(Channel):
    pass


class Broken(Channel):
    @handle_in("new_msg")
    async def new_msg(self) -> None: ...


def socket(**members: Any) -> type[Socket]:
    return type("UserSocket", (Socket,), members)


def test_topics_are_routed_in_the_order_of_declaration_with_the_assigns_of_their_route() -> None:
    router = router_of(
        socket(channels={"room:lobby": Route("room:lobby", Lobby, {"n": 1}), "room:*": Room})
    )
    lobby, room = router.match("room:lobby"), router.match("room:1")
    assert lobby is not None
    assert room is not None
    assert (lobby.channel, lobby.assigns) == (Lobby, {"n": 1})
    assert (room.channel, room.assigns) == (Room, {})
    assert router.match("news") is None


def test_the_key_in_channels_overrides_the_pattern_of_a_route() -> None:
    router = router_of(socket(channels={"room:*": Route("other", Room, {"n": 1})}))
    assert router.match("room:1") is not None
    assert router.match("other") is None


def test_a_socket_without_channels_is_allowed() -> None:
    assert router_of(Socket).routes == ()


def not_async(self: Any, params: Any, connect_info: Any) -> None: ...


async def without_info(self: Any, params: Any) -> None: ...


async def async_id(self: Any) -> None: ...


@pytest.mark.parametrize(
    ("members", "sentence"),
    [
        (
            {"channels": {"room:*": "RoomChannel"}},
            (
                "UserSocket.channels routes 'room:*' to 'RoomChannel', which is not a subclass of Channel; "
                "write the class itself"
            ),
        ),
        (
            {"channels": {"room:*": Room()}},
            (
                "UserSocket.channels routes 'room:*' to <room>, which is not a subclass of Channel; "
                "write the class itself"
            ),
        ),
        (
            {"channels": {"room:*": Socket}},
            (
                "UserSocket.channels routes 'room:*' to <class 'channels.socket.Socket'>, "
                "which is not a subclass of Channel; write the class itself"
            ),
        ),
        (
            {"channels": [("room:*", Room)]},
            "UserSocket.channels is [('room:*', Room)]; write a dict of patterns to channels",
        ),
        (
            {"channels": {"room:*": Broken}},
            (
                'Broken.new_msg is declared for handle_in("new_msg") but cannot be called with (payload); '
                "it is `async def new_msg(self)`, write `async def new_msg(self, payload)`"
            ),
        ),
        (
            {"connect": not_async},
            "UserSocket.connect is not async; write `async def connect(self, params, connect_info)`",
        ),
        (
            {"connect": without_info},
            (
                "UserSocket.connect cannot be called with (params, connect_info); "
                "it is `async def connect(self, params)`, "
                "write `async def connect(self, params, connect_info)`"
            ),
        ),
        ({"id": async_id}, "UserSocket.id is async; write `def id(self)`"),
    ],
)
def test_an_invalid_socket_raises_with_a_correction(
    members: dict[str, Any], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Room, "__repr__", lambda _: "<room>", raising=False)
    with pytest.raises(InvalidHandler) as caught:
        router_of(socket(**members))
    assert str(caught.value).replace(repr(Room), "Room") == sentence


@pytest.mark.parametrize("pattern", ["room:*:private", "*:lobby", "**", 7])
def test_a_route_with_an_invalid_pattern_is_refused(pattern: Any) -> None:
    with pytest.raises(InvalidArgument) as caught:
        router_of(socket(channels={pattern: Room}))
    assert caught.value.value == pattern
    assert "\n" not in str(caught.value)


def test_header_returns_the_first_value_of_a_lower_case_name() -> None:
    info = ConnectInfo(headers=(("x-a", "1"), ("x-a", "2"), ("user-agent", "test")))
    assert (info.header("x-a"), info.header("x-b"), info.user_agent) == ("1", None, "test")


def test_the_repr_does_not_show_headers() -> None:
    assert "secret" not in repr(ConnectInfo(path="/", headers=(("cookie", "secret"),)))


def test_the_reason_of_a_refusal_appears_only_in_logs() -> None:
    assert ConnectRefused("no such token").reason == "no such token"


@pytest.mark.parametrize(
    ("limit", "value", "advice"),
    [
        ("max_channels", 0, "a whole number, 1 or more"),
        ("max_joining", 1.5, "a whole number, 1 or more"),
        ("max_messages_per_second", 0, "a number above 0"),
        ("max_joins_per_second", None, "a number above 0"),
    ],
)
def test_a_limit_that_is_not_a_number_above_0_is_refused_by_name(
    limit: str, value: Any, advice: str
) -> None:
    socket = type("RoomSocket", (Socket,), {limit: value})
    with pytest.raises(InvalidOption) as caught:
        router_of(socket)
    assert str(caught.value) == f"RoomSocket got {limit}={value}; write {advice}"


@pytest.mark.parametrize("seconds", [-1, math.nan, "5", True, None])
@pytest.mark.parametrize("owner", [Socket, Channel])
def test_a_deadline_that_is_no_number_of_seconds_is_refused(owner: type[Any], seconds: Any) -> None:
    with pytest.raises(InvalidOption) as caught:
        owner().expire_connection_after(seconds)
    assert str(caught.value) == (
        f"expire_connection_after got seconds={seconds!r}; write a number of seconds from 0, or math.inf"
    )


def test_a_deadline_above_the_largest_float_is_refused() -> None:
    with pytest.raises(InvalidOption) as refused:
        Socket().expire_connection_after(1 << 1024)
    assert refused.value.option == "seconds"


async def test_a_socket_that_lacks_what_it_needs_refuses_the_start_of_its_endpoint(
    runtime: Runtime,
) -> None:
    class Locked(Socket):
        @classmethod
        def check(cls) -> None:
            raise ChannelsError("SECRET is not set")

    endpoint = Endpoint(sockets={"/socket": Locked})
    with pytest.raises(ChannelsError, match="SECRET is not set"):
        endpoint.check()
    with pytest.raises(ChannelsError, match="SECRET is not set"):
        await endpoint.start_link(port=0)

"""The contract of an endpoint, from the types that its channels declare."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest
from attrs import frozen

from channels import Channel, InvalidHandler, Socket, handle_in
from channels.generators.contract import REFS, Contract, contract_of
from tests.channels.generators import typed_chat


def contract(*channels: type[Channel], taken: frozenset[str] = frozenset()) -> Contract:
    class OneSocket(Socket):
        pass

    OneSocket.channels = {f"topic{number}": each for number, each in enumerate(channels)}
    return contract_of({"/socket": OneSocket}, taken=taken)


@frozen
class Item:
    name: str = ""


@frozen
class OtherItem:
    size: int


OtherItem.__name__ = "Item"


class NamedChannel(Channel):
    pushes = {"one": Item, "other": OtherItem}


class FirstName(Channel):
    pass


class SecondName(Channel):
    pass


SecondName.__name__ = "FirstName"


class OptionalChannel(Channel):
    async def join(self, topic: str, payload: Item) -> None:
        pass

    @handle_in("size")
    async def size(self, payload: OtherItem) -> None:
        pass


class PathChannel(Channel):
    pushes = {"file": pathlib.Path}


class LostChannel(Channel):
    async def join(self, topic: str, payload: Any) -> Missing:  # type: ignore[name-defined] # noqa: F821
        pass


def test_a_channel_with_two_routes_and_a_socket_with_two_paths_appear_once() -> None:
    told = contract_of(typed_chat.endpoint.sockets)
    user, everything = told.sockets
    assert (user.name, user.paths) == ("UserSocket", ("/socket", "/poll"))
    assert user.routes == (
        ("room:`lobby`", "RoomChannel"),
        ("room:*", "RoomChannel"),
        ("clock", "ClockChannel"),
    )
    assert everything.routes == (("*", "OpenChannel"),)
    assert [each.name for each in told.channels] == ["RoomChannel", "ClockChannel", "OpenChannel"]


def test_two_channels_with_one_name_get_different_names() -> None:
    told = contract(FirstName, SecondName)
    assert [each.name for each in told.channels] == ["FirstName", "FirstName2"]


def test_two_types_with_one_name_get_different_names() -> None:
    told = contract(NamedChannel)
    (named,) = told.channels
    assert named.events is not None
    refs = {event: (each or {})["$ref"] for event, each in named.events.items()}
    assert refs == {"one": f"{REFS}Item", "other": f"{REFS}Item2"}
    assert list(told.types) == ["Item", "Item2"]


def test_a_taken_name_gets_a_number() -> None:
    told = contract(OptionalChannel, taken=frozenset({"Item", "OptionalChannel"}))
    assert [each.name for each in told.channels] == ["OptionalChannel2"]
    assert list(told.types) == ["Item2", "Item3"]


def test_a_payload_is_optional_if_an_empty_object_matches() -> None:
    (channel,) = contract(OptionalChannel).channels
    assert (channel.join.optional, channel.pushes[0].optional) == (True, False)


def test_a_channel_that_declares_nothing_has_no_schemas() -> None:
    (channel,) = contract(FirstName).channels
    assert (channel.join.payload, channel.events, channel.pushes) == (None, None, ())
    assert channel.join.replies == {"ok": None, "error": None}


def test_none_is_an_empty_object_where_the_server_sends_one() -> None:
    class NothingChannel(Channel):
        pushes = {"closed": None}
        replies = {"phx_join": None, "size": Item | None}

        @handle_in("size")
        async def size(self, payload: Any) -> None:
            pass

    empty = {"type": "object", "maxProperties": 0}
    (channel,) = contract(NothingChannel).channels
    assert (channel.events, channel.join.replies) == ({"closed": empty}, {"ok": empty})
    # A reply may be null.
    item = {"$ref": f"{REFS}Item"}
    assert channel.pushes[0].replies == {"ok": {"anyOf": [item, {"type": "null"}]}}


@pytest.mark.parametrize(
    ("channel", "handler", "problem"),
    [
        (PathChannel, "pushes", "declares the type Path, which has no JSON schema (type <class"),
        (LostChannel, "join", "declares its result as Missing, which does not resolve"),
    ],
)
def test_a_type_that_no_client_can_have_is_a_mistake(
    channel: type[Channel], handler: str, problem: str
) -> None:
    with pytest.raises(InvalidHandler) as error:
        contract(channel)
    assert (error.value.channel, error.value.handler) == (channel, handler)
    assert problem in str(error.value)

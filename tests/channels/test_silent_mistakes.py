"""Mistakes in a channel that would show nothing: shared values, replaced methods, statuses with a typo."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

import pytest

from channels import Channel, Endpoint, PushReply, Socket
from channels.handlers import InvalidHandler


def check(channel: type[Channel], socket: type[Socket] = Socket) -> None:
    """Check an endpoint with one channel, as a server does at its start."""
    mounted: Any = type("MountedSocket", (socket,), {"channels": {"room:*": channel}})
    Endpoint(sockets={"/socket": mounted}).check()


@pytest.mark.parametrize("value", [[], {}, set()], ids=lambda value: type(value).__name__)
def test_a_value_that_all_clients_would_share_is_warned_of(value: Any) -> None:
    shared = type("RoomChannel", (Channel,), {"lines": value, "__module__": __name__})
    with pytest.warns(
        UserWarning, match=r"RoomChannel\.lines is one \w+ that all clients share"
    ) as found:
        check(shared)
    assert f"write self.lines = {value!r} in join" in str(found[0].message)


def test_the_warning_shows_nothing_of_the_value_and_comes_once_for_a_class() -> None:
    mixin = type("Limits", (), {"users": {"ann": "hunter2"}, "__module__": __name__})
    for name in ("RoomChannel", "NewsChannel"):
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            check(type(name, (mixin, Channel), {"__module__": __name__}))
        texts = [str(each.message) for each in found]
        assert ["write self.users = {} in join" in text for text in texts] == (
            [True] if name == "RoomChannel" else []
        )
        assert "hunter2" not in "".join(texts)


class Sharing(Channel):
    BANNED = {"mallory"}
    names: ClassVar[list[str]] = []
    limits = (1, 2)
    pushes = {"moved": dict[str, int]}
    title = "room"


def test_a_value_that_the_author_means_to_share_is_not() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(Sharing)


class TopicChannel(Channel):
    async def join(self, topic: str, payload: Any) -> None:
        self.topic = topic.upper()


class PushChannel(Channel):
    async def join(self, topic: str, payload: Any) -> None:
        self.push: Any = payload


class AssignsChannel(Channel):
    async def join(self, topic: str, payload: Any) -> None:
        self.assigns = {"user": 1}
        self.my_topic = topic
        payload.topic = topic


@pytest.mark.parametrize(
    ("channel", "problem"),
    [
        (TopicChannel, "sets self.topic, which is an attribute that Ashtree sets for each channel"),
        (PushChannel, "sets self.push, which is a method of Channel; choose another name"),
    ],
)
def test_a_channel_must_not_replace_what_ashtree_uses(channel: type[Channel], problem: str) -> None:
    with pytest.raises(InvalidHandler) as refused:
        check(channel)
    assert problem in str(refused.value)
    assert f"{__file__}:" in str(refused.value)


class TopicSocket(Socket):
    async def connect(self, params: Any, connect_info: Any) -> None:
        self.topic = params["topic"]


class EndpointSocket(Socket):
    async def connect(self, params: Any, connect_info: Any) -> None:
        self.endpoint = params


def test_a_socket_may_set_a_topic_and_must_not_replace_its_endpoint() -> None:
    check(Channel, TopicSocket)
    with pytest.raises(InvalidHandler) as refused:
        check(Channel, EndpointSocket)
    problem = "sets self.endpoint, which is an attribute that Ashtree sets for each socket"
    assert problem in str(refused.value)


def test_a_channel_may_set_its_own_attributes_and_the_assigns() -> None:
    check(AssignsChannel)


@pytest.mark.parametrize(("status", "right"), [("err", "error"), ("Error", "error"), ("OK", "ok")])
def test_a_status_that_differs_from_those_of_phoenix_by_its_spelling_is_warned_of(
    status: str, right: str
) -> None:
    with pytest.warns(UserWarning, match=f"write status='{right}'") as found:
        assert PushReply(status=status).status == status
    assert found[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        PushReply(status="too_long")

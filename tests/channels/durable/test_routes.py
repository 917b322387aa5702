"""Routes with a history, which make the topics of a plain channel durable."""

from __future__ import annotations

from typing import Any

import pytest

from actors.errors import InvalidOption
from channels import Channel, Endpoint, PushReply, Route, Socket, handle_in, handle_out
from channels.durable import History, Recovery
from channels.durable.channel import durable_class
from channels.socket import router_of
from channels.testing import open_channel_test
from tests.channels.durable.documents import TOPIC, DocumentChannel, Reader, joined


class PlainDocument(Channel):
    """A channel that knows nothing of histories."""

    async def join(self, topic: str, payload: Any) -> dict[str, Any]:
        return {"title": self.assigns["title"]}

    @handle_in("edit")
    async def edit(self, payload: Any) -> PushReply:
        self.broadcast("edited", payload)
        return PushReply({})


class Snapshots(PlainDocument):
    async def on_recovered(self, recovery: Recovery) -> None:
        self.push("snapshot", {"reason": recovery.reason})

    @handle_out("edited")
    async def shout(self, payload: Any) -> None:
        self.push("edited", {**payload, "text": payload["text"].upper()})


def endpoint_of(channel: type[Channel], history: History) -> Endpoint:
    class UserSocket(Socket):
        channels = {
            "document:*": Route("document:*", channel, {"title": "Minutes"}, history=history)
        }

    return Endpoint(sockets={"/socket": UserSocket}, histories=[history])


async def test_a_route_with_a_history_keeps_the_broadcasts_of_a_plain_channel() -> None:
    async with open_channel_test(endpoint_of(PlainDocument, History())) as case:
        ann, bob = Reader(case), Reader(case)
        await ann.join()
        assert (await bob.join())["title"] == "Minutes"
        await bob.lose()
        await ann.edit("a")
        assert (await bob.join())["_recovered"] is True
        assert await bob.heard(1) == ["a"]


async def test_the_callbacks_of_durable_channels_work_in_a_plain_channel() -> None:
    async with open_channel_test(endpoint_of(Snapshots, History())) as case:
        ann = await joined(case)
        assert await ann.channel.assert_push("snapshot") == {"reason": "new"}
        await ann.edit("a")
        assert await ann.heard(1) == ["A"]


async def test_a_push_with_a_key_to_a_plain_channel_is_handled_once() -> None:
    history = History()
    async with open_channel_test(endpoint_of(PlainDocument, history)) as case:
        ann = await joined(case)
        for _ in range(2):
            ref = ann.channel.push("edit", {"text": "a", "_key": "k"})
            await ann.channel.assert_reply(ref, "ok")
        assert history.statistics()["appended"] == 1


async def test_the_history_of_a_route_takes_the_place_of_that_of_the_class() -> None:
    history = History()
    async with open_channel_test(endpoint_of(DocumentChannel, history)) as case:
        ann = await joined(case)
        await ann.edit("a")
        assert history.statistics()["appended"] == 1
    assert DocumentChannel.history is None


def test_the_class_of_a_route_with_a_history_has_the_name_of_the_channel() -> None:
    class UserSocket(Socket):
        channels = {"document:*": Route("document:*", PlainDocument, history=History())}

    route = router_of(UserSocket, durable=durable_class).match(TOPIC)
    assert route is not None
    assert route.channel is not PlainDocument
    assert (route.channel.__name__, route.channel.__module__) == ("PlainDocument", __name__)


def test_a_route_with_a_history_that_is_none_is_refused() -> None:
    class UserSocket(Socket):
        channels = {"document:*": Route("document:*", PlainDocument, history="here")}

    with pytest.raises(InvalidOption) as refused:
        router_of(UserSocket, durable=durable_class)
    assert refused.value.option == "history"

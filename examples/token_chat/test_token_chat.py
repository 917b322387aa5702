"""Tests of the socket and the room of the chat with tokens."""

from __future__ import annotations

from time import time
from typing import Any

import pytest

from channels import ConnectInfo, sign
from channels.pytest_plugin import OpenChannelTest
from channels.testing import ChannelTest, ConnectionRefused, TestChannel
from examples.log_in import MAX_FORM, TWO_WEEKS

from .server import SECRET, UserSocket, endpoint


@pytest.fixture
async def case(channel_test: OpenChannelTest) -> ChannelTest:
    return await channel_test(endpoint)


async def enter(case: ChannelTest, user: str) -> TestChannel:
    """Join the lobby as a tab whose page has a token for this user."""
    token = sign(SECRET, "user socket", user)
    client = await case.connect("/socket", connect_info=ConnectInfo(auth_token=token))
    _, room = await client.subscribe_and_join("room:lobby")
    return room


@pytest.mark.parametrize(
    "token",
    [
        None,
        "ann",
        sign(SECRET, "user socket", "ann")[:-1],
        sign(SECRET, "log-in", "ann"),
        sign("another secret, which is as long as it must be", "user socket", "ann"),
        sign(SECRET, "user socket", "ann", signed_at=time() - TWO_WEEKS - 1),
    ],
    ids=["none", "name", "changed", "cookie", "foreign", "expired"],
)
async def test_a_socket_without_a_valid_token_is_refused(
    case: ChannelTest, token: str | None
) -> None:
    with pytest.raises(ConnectionRefused):
        await case.connect("/socket", connect_info=ConnectInfo(auth_token=token))


async def test_only_the_lobby_may_be_joined(case: ChannelTest) -> None:
    client = await case.socket(UserSocket, assigns={"user": "ann"})
    answer, _ = await client.join("room:cellar")
    assert (answer.status, answer.response) == ("error", {"reason": "unauthorized"})


async def test_a_message_has_the_name_of_the_token_whatever_the_page_says(
    case: ChannelTest,
) -> None:
    ann, bob = await enter(case, "ann"), await enter(case, "bob")
    ann.push("new_msg", {"body": "hello", "user": "bob"})
    await bob.assert_push("new_msg", {"user": "ann", "body": "hello"})


@pytest.mark.parametrize("body", ["", "x" * 501, 5])
async def test_a_message_that_is_no_short_text_is_refused(case: ChannelTest, body: object) -> None:
    ann = await enter(case, "ann")
    ref = ann.push("new_msg", {"body": body})
    await ann.assert_reply(ref, "error", lambda response: response["reason"] == "invalid payload")


async def test_a_join_is_announced_to_all_who_do_not_ignore_the_user(case: ChannelTest) -> None:
    ann, bob = await enter(case, "ann"), await enter(case, "bob")
    await ann.assert_push("user_joined", {"user": "bob"})
    ann.push("ignore", {"user": "carl"})
    await enter(case, "carl")
    await bob.assert_push("user_joined", {"user": "carl"})
    await ann.refute_push("user_joined")


async def test_a_log_out_closes_all_tabs_of_the_user_and_no_other(case: ChannelTest) -> None:
    first, second, bob = [await enter(case, user) for user in ("ann", "ann", "bob")]
    case.endpoint.broadcast("user:ann", "disconnect", {})
    await first.client.assert_closed()
    await second.client.assert_closed()
    bob.push("new_msg", {"body": "still here"})
    await bob.assert_push("new_msg", {"user": "bob", "body": "still here"})


@pytest.mark.parametrize(
    ("form", "status"), [(b"user=ann", 303), (b"user=", 400), (b"user=" + b"a" * 25, 400)]
)
async def test_a_log_in_needs_a_short_name(form: bytes, status: int) -> None:
    assert await log_in([form]) == status


async def test_a_log_in_is_not_read_to_the_end_if_it_is_too_long() -> None:
    pieces = [b"user=ann&x=", *[b"x" * MAX_FORM] * 3]
    assert await log_in(pieces) == 400
    assert len(pieces) == 2


async def log_in(pieces: list[bytes]) -> int:
    """Send a form in pieces, and return the status of the answer. The pieces that were read are removed."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/login", "headers": [], "query_string": b""}
    http: Any = endpoint.http
    await http(scope, receive, send)
    status: int = sent[0]["status"]
    return status

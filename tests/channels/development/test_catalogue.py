"""The description of an endpoint for the development page."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from attrs import frozen
from msgspec import Meta

from channels import Channel, Mount, Socket, handle_in, handle_out
from channels.development.catalogue import describe, describe_type


@frozen
class Author:
    name: str
    age: int | None = None


@frozen
class Post:
    title: str
    author: Author
    tags: list[str]
    mood: Literal["good", "bad"] = "good"


@frozen
class Folder:
    name: str
    inside: list[Folder]


class PostChannel(Channel):
    """A channel of posts.

    It has a second paragraph.
    """

    async def join(self, topic: str, payload: Author) -> None:
        """Join with an author."""

    @handle_in("post", "repost")
    async def post(self, payload: Post) -> None:
        """Publish a post."""

    @handle_in("anything")
    async def anything(self, payload: Any) -> None:
        pass

    @handle_out("posted")
    async def posted(self, payload: Any) -> None:
        pass


class PlainChannel(Channel):
    pass


class PostSocket(Socket):
    channels = {"posts:*": PostChannel, "plain": PlainChannel}


def test_a_description_has_sockets_routes_events_and_payload_types() -> None:
    told = describe(
        {"/socket": PostSocket, "/poll": Mount(PostSocket, websocket=False, longpoll=True)}
    )
    first, second = told["sockets"]
    assert (first["path"], first["name"], first["suffix"]) == (
        "/socket",
        "PostSocket",
        "/websocket",
    )
    assert (first["websocket"], first["longpoll"]) == (True, False)
    assert (second["websocket"], second["longpoll"]) == (False, True)
    posts, plain = first["routes"]
    assert (posts["pattern"], posts["name"], posts["about"]) == (
        "posts:*",
        "PostChannel",
        "A channel of posts.",
    )
    assert "test_catalogue.py:" in posts["place"]
    assert posts["join"]["type"] == "Author"
    assert [each["event"] for each in posts["events"]] == ["post", "repost", "anything"]
    assert posts["events"][0]["about"] == "Publish a post."
    assert posts["events"][2]["payload"] is None
    assert posts["intercepts"] == ["posted"]
    assert (plain["about"], plain["events"], plain["join"]) == ("", [], None)
    assert told["observer"] is None


def test_a_payload_type_has_its_fields_and_an_example() -> None:
    told = describe_type(Post)
    assert told["fields"] == [
        {"name": "title", "type": "string", "required": True},
        {"name": "author", "type": "Author", "required": True},
        {"name": "tags", "type": "string[]", "required": True},
        {"name": "mood", "type": '"bad" | "good"', "required": False},
    ]
    assert told["example"] == {"title": "", "author": {"name": ""}, "tags": []}


@pytest.mark.parametrize(
    ("wanted", "text", "example"),
    [
        (int, "number", 0),
        (Annotated[int, Meta(ge=5)], "number", 5),
        (bool, "boolean", False),
        (str | None, "string | null", ""),
        (list[int | str], "(number | string)[]", []),
        (dict[str, float], "{ [name: string]: number }", {}),
        (list[Any], "unknown[]", []),
    ],
)
def test_types_are_written_as_in_typescript(wanted: Any, text: str, example: Any) -> None:
    told = describe_type(wanted)
    assert (told["type"], told["example"]) == (text, example)


def test_a_type_that_contains_itself_has_an_example() -> None:
    assert describe_type(Folder)["example"] == {"name": "", "inside": []}

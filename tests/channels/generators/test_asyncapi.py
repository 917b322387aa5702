"""The contract of an endpoint as AsyncAPI. An integration test checks it against the schema of AsyncAPI."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from channels.generators.asyncapi import asyncapi
from channels.generators.contract import contract_of
from tests.channels.generators import typed_chat


def document() -> dict[str, Any]:
    told = contract_of(typed_chat.endpoint.sockets, taken={"Refusal"})
    found: dict[str, Any] = json.loads(json.dumps(asyncapi(told, title="chat:endpoint")))
    return found


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, each in value.items():
            if key == "$ref":
                yield each
            else:
                yield from references(each)
    elif isinstance(value, list):
        for each in value:
            yield from references(each)


def test_every_reference_in_a_document_leads_to_a_part_of_it() -> None:
    told = document()
    found = set(references(told))
    assert "#/components/schemas/NewMessage" in found
    for ref in found:
        part: Any = told
        for key in ref.removeprefix("#/").split("/"):
            part = part[key]


def test_the_server_receives_pushes_with_replies_and_sends_events() -> None:
    told = document()
    key = "UserSocket-2-RoomChannel"
    room = told["channels"][key]
    assert (room["address"], list(room["parameters"])) == ("room:{rest}", ["rest"])
    push = told["operations"][f"{key}.receive.new_msg"]
    assert push["action"] == "receive"
    assert push["messages"] == [{"$ref": f"#/channels/{key}/messages/push.new_msg"}]
    assert [each["$ref"].rpartition("/")[2] for each in push["reply"]["messages"]] == [
        "reply.new_msg.ok",
        "reply.new_msg.error",
        "reply.new_msg.busy",
    ]
    sent = told["operations"][f"{key}.send.new_msg"]
    assert (sent["action"], "reply" in sent) == ("send", False)
    assert room["messages"]["send.new_msg"]["payload"] == {
        "$ref": "#/components/schemas/NewMessage"
    }


def test_tuples_are_written_in_the_dialect_of_asyncapi() -> None:
    place = document()["components"]["schemas"]["NewMessage"]["properties"]["place"]
    pair = next(each for each in place["anyOf"] if each["type"] == "array")
    assert pair["items"] == [{"type": "number"}, {"type": "number"}]
    assert "prefixItems" not in json.dumps(document())

"""The requests of `HttpPublish` as OpenAPI, and the answers of a server beside the document."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jsonschema  # type: ignore[import-untyped] # it has no types
import pytest

from channels import Endpoint
from channels.generators.contract import contract_of
from channels.generators.openapi import openapi
from channels.publishing.http import HttpPublish
from tests.channels.conftest import Serve
from tests.channels.generators import typed_chat
from tests.channels.polling import Poller

TOKEN = "a-token-for-the-tests"


def document() -> dict[str, Any]:
    contract = contract_of(typed_chat.endpoint.sockets, taken={"Published", "Refused"})
    made = openapi(contract, title="chat:endpoint", path="/publish", max_batch=100)
    found: dict[str, Any] = json.loads(json.dumps(made))
    return found


def validate(value: Any, schema: Any) -> None:
    """Raise an error if a value does not match a schema of the document."""
    components = {"components": document()["components"]}
    jsonschema.Draft202012Validator({**components, **schema}).validate(value)


def resolved(part: Any) -> Any:
    """Return the part of the document that a reference names, or the part itself."""
    while "$ref" in part:
        found: Any = document()
        for key in part["$ref"].removeprefix("#/").split("/"):
            found = found[key]
        part = found
    return part


def schemas(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for key, each in value.items():
            if key == "schema":
                yield each
            yield from schemas(each)
    elif isinstance(value, list):
        for each in value:
            yield from schemas(each)


def test_every_schema_of_a_document_is_a_json_schema() -> None:
    found = document()
    for each in (*schemas(found), *found["components"]["schemas"].values()):
        jsonschema.Draft202012Validator.check_schema(each)


def test_each_declared_event_has_a_path_with_the_schema_of_its_payload() -> None:
    paths = document()["paths"]
    assert {"/publish", "/publish/{topic}/{event}", "/publish/{topic}/new_msg"} <= set(paths)
    for path, item in paths.items():
        parameters = [resolved(each) for each in item["post"]["parameters"]]
        in_path = {f"{{{each['name']}}}" for each in parameters if each["in"] == "path"}
        assert in_path == {part for part in path.split("/") if part.startswith("{")}
    body = paths["/publish/{topic}/new_msg"]["post"]["requestBody"]["content"]["application/json"]
    validate({"body": "hello"}, body["schema"])
    with pytest.raises(jsonschema.ValidationError):
        validate({"body": 7}, body["schema"])


def test_an_event_with_raw_bytes_has_no_path() -> None:
    contract = contract_of(typed_chat.endpoint.sockets)
    raw = {
        event
        for channel in contract.channels
        for event, schema in (channel.events or {}).items()
        if schema is not None and schema.get("format") == "binary"
    }
    assert raw
    assert not {f"/publish/{{topic}}/{event}" for event in raw} & set(document()["paths"])


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({"authorization": f"Bearer {TOKEN}"}, b"{}", 202),
        ({}, b"{}", 401),
        ({"origin": "https://evil.example"}, b"{}", 403),
        ({"authorization": f"Bearer {TOKEN}"}, b" " * 21, 413),
        ({"authorization": f"Bearer {TOKEN}"}, b"[]", 422),
        ({"authorization": f"Bearer {TOKEN}", "idempotency-key": "1"}, b"{}", 422),
    ],
)
async def test_the_answers_of_a_server_match_the_document(
    serve: Serve, headers: dict[str, str], body: bytes, status: int
) -> None:
    publish = HttpPublish(token=TOKEN, max_body_bytes=20)
    server = await serve(Endpoint(sockets=typed_chat.endpoint.sockets, publish=publish))
    poller = Poller(server, path="/publish/room:a/left", query="")
    answer = await poller.ask("POST", body, *headers.items())
    assert answer.status == status
    responses = document()["paths"]["/publish/{topic}/{event}"]["post"]["responses"]
    described = resolved(responses[str(status)])
    validate(json.loads(answer.body), described["content"]["application/json"]["schema"])

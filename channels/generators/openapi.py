"""The requests of `HttpPublish` as an OpenAPI 3.1 document. *pure*.

Source: https://spec.openapis.org/oas/v3.1.0
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import quote

from channels.generators.contract import BINARY, REFS, Contract, Schema

__all__ = ["openapi"]

_TOPIC: Final = {
    "name": "topic",
    "in": "path",
    "required": True,
    "description": "The topic. Write %2F for each slash in it.",
    "schema": {"type": "string"},
}
_EVENT: Final = {**_TOPIC, "name": "event", "description": "The name of the event."}
_KEY: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "Durable topics keep only one message with the same key.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 128},
}
_PUBLISHED: Final = {
    "type": "object",
    "required": ["nodes"],
    "properties": {
        "nodes": {
            "type": "integer",
            "description": "The number of nodes that the messages were sent to.",
        },
        "positions": {
            "type": "array",
            "description": "The position of each message in its history; null for topics that are not durable.",
            "items": {"type": ["string", "null"]},
        },
    },
}
_REFUSED: Final = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {"type": "string"},
        "field": {"type": "string", "description": "The wrong field of the request."},
    },
}
_REFUSALS: Final = {
    "401": "The bearer token is missing or not valid.",
    "403": "Pages of this origin may not publish.",
    "408": "The body did not arrive in time.",
    "409": "A process owns the durable topic, so only this process may append.",
    "413": "The body or the message is too large.",
    "422": "A field of the request is not valid.",
    "429": "The token has sent too many messages. Send again after the seconds in Retry-After.",
    "503": "The server is too busy, or the history may not have kept the message. Send again with the same key.",
}


def openapi(contract: Contract, *, title: str, path: str, max_batch: int) -> dict[str, Any]:
    """Return the requests of `HttpPublish` as an OpenAPI 3.1 document, a JSON object.

    The document has a path for each event that a channel declares in `pushes`, with the schema of its payload.

    Args:
        contract: the contract, made with `taken={"Published", "Refused"}`.
        title: the title of the document, such as `chat.endpoint:endpoint`.
        path: the path of the `HttpPublish`.
        max_batch: the messages that one request may have.
    """
    events: dict[str, list[Schema | None]] = {}
    for channel in contract.channels:
        for event, schema in (channel.events or {}).items():
            if schema == BINARY:
                # A payload over HTTP is JSON.
                continue
            events.setdefault(event, []).append(schema)
    message = {
        "type": "object",
        "required": ["topic", "event", "payload"],
        "properties": {
            "topic": {"type": "string"},
            "event": {"type": "string"},
            "payload": {"type": "object"},
        },
    }
    messages = {"type": "array", "minItems": 1, "maxItems": max_batch, "items": message}
    batch = {"type": "object", "required": ["messages"], "properties": {"messages": messages}}
    one = f"{path}/{{topic}}"
    return {
        "openapi": "3.1.0",
        # OpenAPI wants a version of the application. Ashtree does not know it.
        "info": {"title": title, "version": "0.0.0"},
        "security": [{"bearer": []}],
        "paths": {
            path: _post("Publish several messages.", batch),
            f"{one}/{{event}}": _post("Publish a message.", {"type": "object"}, _TOPIC, _EVENT),
            **{
                f"{one}/{quote(event, safe='')}": _post(
                    f"Publish the event {event}.", _any_of(schemas), _TOPIC
                )
                for event, schemas in events.items()
            },
        },
        "components": {
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
            "schemas": {"Published": _PUBLISHED, "Refused": _REFUSED, **contract.types},
        },
    }


def _any_of(schemas: list[Schema | None]) -> Schema:
    """Return the schema of the payload of an event, which several channels may declare."""
    known = [{"type": "object"} if each is None else each for each in schemas]
    return known[0] if len(known) == 1 else {"anyOf": known}


def _post(summary: str, body: Schema, *parameters: Schema) -> dict[str, Any]:
    def answer(text: str, name: str) -> dict[str, Any]:
        schema = {"$ref": f"{REFS}{name}"}
        return {"description": text, "content": {"application/json": {"schema": schema}}}

    return {
        "post": {
            "summary": summary,
            "parameters": [*parameters, _KEY],
            "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
            "responses": {
                "202": answer("The messages are on their way.", "Published"),
                **{status: answer(text, "Refused") for status, text in _REFUSALS.items()},
            },
        }
    }

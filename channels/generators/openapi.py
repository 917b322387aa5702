"""The requests of `HttpPublish` as an OpenAPI 3.1 document, from the template `openapi.json`.

Source: https://spec.openapis.org/oas/v3.1.0
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from channels.generators.contract import BINARY, Contract, Schema
from channels.generators.files import render

__all__ = ["openapi"]


def openapi(contract: Contract, *, title: str, path: str, max_batch: int) -> dict[str, Any]:
    """Return the requests of `HttpPublish` as an OpenAPI 3.1 document, a JSON object.

    The document has a path for each event that a channel declares in `pushes`, with the schema of its payload.

    Args:
        contract: the contract, made with `taken={"Published", "Refused"}`.
        title: the title of the document, such as `chat.endpoint:endpoint`.
        path: the path of the `HttpPublish`.
        max_batch: the messages that one request may have.
    """
    values = {"title": json.dumps(title)[1:-1], "path": json.dumps(path)[1:-1]}
    text = render("openapi.json", {**values, "max_batch": str(max_batch)})
    document: dict[str, Any] = json.loads(text)
    document["components"]["schemas"] |= contract.types
    events: dict[str, list[Schema]] = {}
    for channel in contract.channels:
        for event, schema in (channel.events or {}).items():
            # A payload over HTTP is JSON.
            if schema != BINARY:
                events.setdefault(event, []).append(schema or {"type": "object"})
    any_event = document["paths"][f"{path}/{{topic}}/{{event}}"]["post"]
    for event, schemas in events.items():
        body = {"content": {"application/json": {"schema": {"anyOf": schemas}}}, "required": True}
        document["paths"][f"{path}/{{topic}}/{quote(event, safe='')}"] = {
            "post": {
                **any_event,
                "summary": f"Publish the event {event}.",
                # The event is a part of the path.
                "parameters": any_event["parameters"][:-1],
                "requestBody": body,
            }
        }
    return document

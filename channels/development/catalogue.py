"""Descriptions of the sockets, routes, channels and events of an endpoint, from their declarations.

*pure*. The development page shows these descriptions. They describe a payload only if its handler declares a type.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from typing import Any

import msgspec

from actors.places import place_of
from channels.generators.typescript import notation
from channels.handlers import names_of
from channels.payloads import payload_type
from channels.serving.mount import Mount
from channels.socket import router_of

__all__ = ["describe", "describe_type"]


def describe(sockets: Mapping[str, Any], *, observer: str | None = None) -> dict[str, Any]:
    """Return a description of sockets, as a JSON object.

    Args:
        sockets: the `sockets` of an endpoint.
        observer: the path of the observer page, or its URL if it has another port; None if there is none.
    """
    mounts = {
        path: value if isinstance(value, Mount) else Mount(value) for path, value in sockets.items()
    }
    return {
        "sockets": [_socket(path, mount) for path, mount in mounts.items()],
        "observer": observer,
    }


def _socket(path: str, mount: Mount) -> dict[str, Any]:
    routes = router_of(mount.socket).routes
    return {
        "path": path.rstrip("/"),
        "suffix": mount.path,
        **_about(mount.socket),
        "websocket": mount.websocket,
        "longpoll": mount.longpoll is not False,
        "routes": [
            {
                "pattern": route.pattern,
                "durable": route.history is not None,
                **_channel(route.channel),
            }
            for route in routes
        ],
    }


def _channel(channel: type) -> dict[str, Any]:
    return {
        **_about(channel),
        "join": _payload(channel, "join", 2),
        "events": [
            {
                "event": event,
                "handler": name,
                "about": _first_line(getattr(channel, name)),
                "payload": _payload(channel, name, 1),
            }
            for event, name in names_of(channel, "in").items()
        ],
        "intercepts": list(names_of(channel, "out")),
    }


def _about(thing: type) -> dict[str, Any]:
    place = place_of(thing)
    return {
        "name": thing.__name__,
        "about": _first_line(thing),
        "place": None if place is None else os.path.relpath(place),
    }


def _first_line(thing: Any) -> str:
    # Read `__doc__` of this class only. A class without a docstring would otherwise show the docstring of Channel.
    text = inspect.cleandoc(
        vars(thing).get("__doc__") or "" if isinstance(thing, type) else thing.__doc__ or ""
    )
    return text.partition("\n")[0]


def _payload(channel: type, name: str, position: int) -> dict[str, Any] | None:
    wanted = payload_type(channel, name, position)
    return None if wanted is None else describe_type(wanted)


def describe_type(wanted: Any) -> dict[str, Any]:
    """Return the name, the fields and an example of a payload type.

        >>> describe_type(dict[str, int])
        {'type': '{ [name: string]: number }', 'fields': [], 'example': {}}

    Returns:
        `type` is the type in the notation of TypeScript. `fields` has one object for each field: its `name`, its `type`
        and `required`. `example` is a payload with the required fields.
    """
    schema = msgspec.json.schema(wanted)
    names = schema.get("$defs", {})
    top = _resolve(schema, names)
    required = set(top.get("required", ()))
    return {
        "type": notation(schema),
        "fields": [
            {"name": name, "type": notation(each), "required": name in required}
            for name, each in top.get("properties", {}).items()
        ],
        "example": _example(schema, names, depth=0),
    }


def _resolve(schema: Mapping[str, Any], names: Mapping[str, Any]) -> Mapping[str, Any]:
    ref = schema.get("$ref")
    found: Mapping[str, Any] = schema if ref is None else names[ref.rpartition("/")[2]]
    return found


# The maximum depth of an example. The example of a recursive type would otherwise never end.
_DEEPEST = 6


def _example(schema: Mapping[str, Any], names: Mapping[str, Any], *, depth: int) -> Any:
    schema = _resolve(schema, names)
    if depth > _DEEPEST:
        return None
    match schema:
        case {"default": value} | {"const": value} | {"enum": [value, *_]}:
            return value
        case {"anyOf": [first, *_]}:
            return _example(first, names, depth=depth + 1)
        case {"type": "object"}:
            kinds = schema.get("properties", {})
            return {
                name: _example(kinds[name], names, depth=depth + 1)
                for name in schema.get("required", ())
            }
        case {"type": "integer" | "number"}:
            return schema.get("minimum", 0)
        case {"type": kind}:
            return {"string": "", "boolean": False, "array": []}.get(kind)
    return None

"""The contract of an endpoint as TypeScript, for phoenix.js. *pure*."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from channels.generators.contract import (
    BINARY,
    ChannelContract,
    Contract,
    Push,
    Schema,
    SocketContract,
)

__all__ = ["RESERVED", "notation", "typescript"]

RESERVED: Final = frozenset(
    {
        *("ChannelTypes", "Refusal", "TypedChannel", "TypedPush", "phoenix"),
        *("ArrayBuffer", "Omit"),
        *("any", "bigint", "boolean", "never", "null", "number", "object", "string", "symbol"),
        *("undefined", "unknown", "void"),
    }
)
"""The names that a generated file uses itself. No class of the server may have one of them there."""

_IDENTIFIER: Final = re.compile(r"[A-Za-z_$][\w$]*", re.ASCII)

_HELPERS: Final = """\
import type * as phoenix from "phoenix";

/** The reply of Ashtree itself with status "error", such as "invalid payload" or "rate limited". */
export interface Refusal {
  reason: string;
  field?: string | null;
  problem?: string;
}

/** The messages of a channel: its join, the events that it handles, and the events that it sends. */
export interface ChannelTypes {
  join: object;
  push: { [event: string]: { payload: unknown; replies: object } };
  on: object;
}

/** A Push of phoenix.js whose replies have types. */
export interface TypedPush<Replies> extends Omit<phoenix.Push, "receive"> {
  receive<Status extends keyof Replies & string>(
    status: Status,
    callback: (response: Replies[Status]) => unknown,
  ): this;
  receive(status: "timeout", callback: () => unknown): this;
}

/** A Channel of phoenix.js whose events and payloads have types. */
export interface TypedChannel<Types extends ChannelTypes>
  extends Omit<phoenix.Channel, "join" | "on" | "push"> {
  join(timeout?: number): TypedPush<Types["join"]>;
  on<Event extends keyof Types["on"] & string>(
    event: Event,
    callback: (payload: Types["on"][Event]) => unknown,
  ): number;
  push<Event extends keyof Types["push"] & string>(
    event: Event,
    payload: Types["push"][Event]["payload"],
    timeout?: number,
  ): TypedPush<Types["push"][Event]["replies"]>;
}
"""


def typescript(contract: Contract, *, source: str) -> str:
    """Return a contract as the text of a TypeScript module. The module has types alone, and no code that runs.

    Args:
        contract: the contract, made with `taken=RESERVED`.
        source: the endpoint, such as `chat.endpoint:endpoint`, for the first line.
    """
    joins = {channel.name: channel.join for channel in contract.channels}
    parts = [
        f"// Types of {source} for phoenix.js. `ashtree gen types` wrote this file: do not edit it.",
        "// It needs the npm package @types/phoenix.\n",
        _HELPERS,
        *(_socket(socket, joins) for socket in contract.sockets),
        *(_channel(channel) for channel in contract.channels),
        *(_type(name, schema) for name, schema in contract.types.items()),
    ]
    return "\n".join(parts)


def _socket(socket: SocketContract, joins: Mapping[str, Push]) -> str:
    lines = [
        *_comment(socket.about or f"The socket at {', '.join(socket.paths)}."),
        f'export interface {socket.name} extends Omit<phoenix.Socket, "channel"> {{',
    ]
    for pattern, channel in socket.routes:
        join = joins[channel]
        payload = "object" if join.payload is None else notation(join.payload)
        mark = "?" if join.optional else ""
        lines += [
            "  channel(",
            f"    topic: {_topic(pattern)},",
            f"    params{mark}: {payload} | (() => {payload}),",
            f"  ): TypedChannel<{channel}>;",
        ]
    return "\n".join([*lines, "}", ""])


def _topic(pattern: str) -> str:
    if pattern == "*":
        return "string"
    if not pattern.endswith("*"):
        return json.dumps(pattern)
    return "`" + re.sub(r"[`\\$]", r"\\\g<0>", pattern[:-1]) + "${string}`"


def _channel(channel: ChannelContract) -> str:
    lines = [
        *_comment(channel.about),
        f"export interface {channel.name} {{",
        *_comment(channel.join.about, "  "),
        f"  join: {_replies(channel.join)};",
        "  push: {",
    ]
    for push in channel.pushes:
        payload = "object" if push.payload is None else notation(push.payload)
        lines += [
            *_comment(push.about, "    "),
            f"    {_key(push.event)}: {{",
            f"      payload: {payload};",
            f"      replies: {_replies(push)};",
            "    };",
        ]
    if channel.handles_all:
        lines.append(
            "    [event: string]: { payload: object; replies: { [status: string]: unknown } };"
        )
    if lines[-1] == "  push: {":
        lines[-1] = "  push: {};"
    else:
        lines.append("  };")
    if channel.events is None:
        lines.append("  on: { [event: string]: unknown };")
    else:
        events = [f"    {_key(event)}: {_sent(each)};" for event, each in channel.events.items()]
        lines += ["  on: {", *events, "  };"] if events else ["  on: {};"]
    return "\n".join([*lines, "}", ""])


def _replies(push: Push) -> str:
    if push.replies is None:
        return "{ ok: unknown; error: unknown }"
    texts = {status: _sent(each) for status, each in push.replies.items()}
    error = texts.setdefault("error", "Refusal")
    if error not in ("Refusal", "unknown"):
        texts["error"] = f"{error} | Refusal"
    return "{ " + "; ".join(f"{_key(status)}: {text}" for status, text in texts.items()) + " }"


def _sent(schema: Schema | None) -> str:
    return "unknown" if schema is None else notation(schema)


def _type(name: str, schema: Schema) -> str:
    about = str(schema.get("description", "")).strip().partition("\n")[0]
    if schema.get("type") != "object" or "properties" not in schema:
        return "\n".join([*_comment(about), f"export type {name} = {notation(schema)};", ""])
    required = set(schema.get("required", ()))
    lines = [*_comment(about), f"export interface {name} {{"]
    for field, each in schema["properties"].items():
        lines += _comment(str(each.get("description", "")), "  ")
        lines.append(f"  {_key(field)}{'' if field in required else '?'}: {notation(each)};")
    return "\n".join([*lines, "}", ""])


def _comment(text: str, indent: str = "") -> list[str]:
    line = " ".join(text.split()).replace("*/", "*\\/")
    return [f"{indent}/** {line} */"] if line else []


def _key(name: str) -> str:
    return name if _IDENTIFIER.fullmatch(name) else json.dumps(name)


def notation(schema: Mapping[str, Any]) -> str:
    """Return a JSON schema in the notation of TypeScript.

    >>> notation({"type": "array", "items": {"anyOf": [{"type": "string"}, {"type": "null"}]}})
    '(string | null)[]'
    """
    if schema == BINARY:
        return "ArrayBuffer"
    match schema:
        case {"$ref": str(ref)}:
            return ref.rpartition("/")[2]
        case {"const": value}:
            return json.dumps(value)
        case {"enum": list(values) | tuple(values)}:
            return " | ".join(map(json.dumps, values))
        case {"anyOf": list(kinds) | tuple(kinds)}:
            return " | ".join(dict.fromkeys(map(notation, kinds)))
        case {"type": "integer" | "number"}:
            return "number"
        case {"type": "array", "prefixItems": list(items) | tuple(items)}:
            return f"[{', '.join(map(notation, items))}]"
        case {"type": "array", "items": Mapping() as items}:
            inner = notation(items)
            return f"({inner})[]" if " | " in inner else f"{inner}[]"
        case {"type": "array"}:
            return "unknown[]"
        case {"type": "object"}:
            return _object(schema)
        case {"type": "string" | "boolean" | "null" as kind}:
            return str(kind)
    return "unknown"


def _object(schema: Mapping[str, Any]) -> str:
    if schema.get("maxProperties") == 0:
        return "object"
    values = schema.get("additionalProperties")
    kind = notation(values) if isinstance(values, Mapping) else "unknown"
    return f"{{ [name: string]: {kind} }}"

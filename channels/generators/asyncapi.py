"""The contract of an endpoint as an AsyncAPI 3.0 document. *pure*.

Source: https://www.asyncapi.com/docs/reference/specification/v3.0.0
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from channels.generators.contract import REFS, ChannelContract, Contract, Push, Schema

__all__ = ["asyncapi"]

_FRAMES: Final = (
    "Each message is a frame of the protocol of Phoenix Channels, version 2: a JSON array "
    "[join_ref, ref, topic, event, payload]. The payloads in this document are the last element. A reply has the event "
    'phx_reply and the payload {"status": ..., "response": ...}. The messages of replies describe the response.'
)

_REFUSAL: Final = {
    "type": "object",
    "description": "The reply of Ashtree itself with status error.",
    "required": ["reason"],
    "properties": {
        "reason": {"type": "string"},
        "field": {"type": ["string", "null"]},
        "problem": {"type": "string"},
    },
}


def asyncapi(contract: Contract, *, title: str) -> dict[str, Any]:
    """Return a contract as an AsyncAPI 3.0 document, a JSON object.

    The document describes the server. It receives the pushes of clients, and sends events.

    Args:
        contract: the contract, made with `taken={"Refusal"}`.
        title: the title of the document, such as `chat.endpoint:endpoint`.
    """
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    contracts = {channel.name: channel for channel in contract.channels}
    for socket in contract.sockets:
        for number, (pattern, name) in enumerate(socket.routes, 1):
            key = f"{socket.name}-{number}-{name}"
            writer = _Writer(key, contracts[name])
            channels[key] = writer.channel(pattern, socket.paths)
            operations |= writer.operations
    return {
        "asyncapi": "3.0.0",
        # AsyncAPI wants a version of the application. Ashtree does not know it.
        "info": {"title": title, "version": "0.0.0", "description": _FRAMES},
        "channels": channels,
        "operations": operations,
        "components": {"schemas": {"Refusal": _REFUSAL, **_draft_7(contract.types)}},
    }


class _Writer:
    """The messages and operations of one route."""

    def __init__(self, key: str, contract: ChannelContract) -> None:
        self._key = key
        self._contract = contract
        self._messages: dict[str, Any] = {}
        self.operations: dict[str, Any] = {}

    def channel(self, pattern: str, paths: tuple[str, ...]) -> dict[str, Any]:
        for push in (self._contract.join, *self._contract.pushes):
            self._push(push)
        for event, schema in (self._contract.events or {}).items():
            message = self._message(f"send.{event}", event, schema)
            self._operation("send", event, message)
        beginning = pattern.removesuffix("*")
        described = f"{self._contract.about} Served by the socket at {', '.join(paths)}.".strip()
        found: dict[str, Any] = {
            "address": pattern if beginning == pattern else f"{beginning}{{rest}}",
            "description": described,
            "messages": self._messages,
        }
        if beginning != pattern:
            found["parameters"] = {
                "rest": {"description": "The rest of the topic. It may be empty."}
            }
        return found

    def _push(self, push: Push) -> None:
        message = self._message(f"push.{push.event}", push.event, push.payload, push.about)
        replies = [
            self._message(f"reply.{push.event}.{status}", f"{push.event} {status}", schema)
            for status, schema in _replies(push).items()
        ]
        self._operation("receive", push.event, message, replies)

    def _message(
        self, key: str, name: str, schema: Schema | None, about: str = ""
    ) -> dict[str, str]:
        key = _free(key, self._messages)
        self._messages[key] = {
            "name": name,
            **({"summary": about} if about else {}),
            **({} if schema is None else {"payload": _draft_7(schema)}),
        }
        return {"$ref": f"#/channels/{self._key}/messages/{key}"}

    def _operation(
        self,
        action: str,
        event: str,
        message: dict[str, str],
        replies: list[dict[str, str]] | None = None,
    ) -> None:
        where = {"$ref": f"#/channels/{self._key}"}
        found: dict[str, Any] = {"action": action, "channel": where, "messages": [message]}
        if replies:
            found["reply"] = {"channel": where, "messages": replies}
        self.operations[_free(f"{self._key}.{action}.{event}", self.operations)] = found


def _free(key: str, used: Mapping[str, Any]) -> str:
    """Return a key in the characters that AsyncAPI permits, which is not in use."""
    key = re.sub(r"[^\w.-]", "_", key, flags=re.ASCII)
    free, number = key, 1
    while free in used:
        number += 1
        free = f"{key}_{number}"
    return free


def _replies(push: Push) -> dict[str, Schema | None]:
    if push.replies is None:
        return {"ok": None, "error": None}
    refusal = {"$ref": f"{REFS}Refusal"}
    if "error" not in push.replies:
        return {**push.replies, "error": refusal}
    declared = push.replies["error"]
    return {
        **push.replies,
        "error": None if declared is None else {"anyOf": [declared, refusal]},
    }


def _draft_7(value: Any) -> Any:
    """Return a JSON schema in the dialect of AsyncAPI, which has no `prefixItems`."""
    if isinstance(value, list | tuple):
        return [_draft_7(each) for each in value]
    if not isinstance(value, Mapping):
        return value
    found = {key: _draft_7(each) for key, each in value.items()}
    if "prefixItems" in found:
        rest = found.pop("items", None)
        found["items"] = found.pop("prefixItems")
        if rest is not None:
            found["additionalItems"] = rest
    return found

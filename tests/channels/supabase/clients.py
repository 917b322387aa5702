"""An endpoint for supabase's clients, and clients that speak both versions of their protocol."""

from __future__ import annotations

import json
import time
from typing import Any, ClassVar

from channels import Endpoint, PubSub
from channels.durable import History
from channels.presence import Presence
from channels.supabase import (
    Action,
    Claims,
    SupabaseChannel,
    SupabaseHttp,
    SupabaseSocket,
    sign_jwt,
)
from tests.channels.support import Client, Data, Server, head, settle

SECRET = "a secret that only the tests of this folder know"
TOPIC = "realtime:lobby"


def token(role: str = "authenticated", *, seconds: float = 3600.0, **claims: Any) -> str:
    """Return a token that expires in some seconds."""
    return sign_jwt(SECRET, {"role": role, "exp": time.time() + seconds, **claims})


APIKEY = token("anon")


class Room(SupabaseChannel):
    """A channel whose private topics need a role from the claims: `reader` or `writer`."""

    refusal_delay = 0.0
    asked: ClassVar[list[tuple[Action, str]]]

    @classmethod
    async def authorize(cls, action: Action, topic: str, claims: Claims) -> bool:
        cls.asked.append((action, topic))
        return claims["role"] == "writer" or (action, claims["role"]) == ("read", "reader")


def endpoint_of(
    *,
    channel: type[SupabaseChannel] = Room,
    pubsub: PubSub | None = None,
    max_http: float = 100.0,
    **attributes: Any,
) -> Endpoint:
    """Return an endpoint with a channel class that has these attributes, a presence and a history."""
    presence, history = Presence(), History()
    has: dict[str, Any] = {"presence": presence, "messages": history, "asked": [], **attributes}
    has["__annotations__"] = {"asked": ClassVar[list[Any]]}
    room = type("Room", (channel,), has)
    socket: Any = type(
        "UserSocket", (SupabaseSocket,), {"secret": SECRET, "channels": {"realtime:*": room}}
    )
    return Endpoint(
        sockets={"/realtime/v1": socket.mount()},
        presences=[presence],
        histories=[has["messages"]] if has["messages"] else [],
        pubsub=pubsub,
        plugs=[SupabaseHttp(socket, max_messages_per_second=max_http)],
    )


def socket_of(endpoint: Endpoint) -> Any:
    """Return the socket class of an endpoint."""
    mount: Any = endpoint.sockets["/realtime/v1"]
    return mount.socket


def room_of(endpoint: Endpoint) -> Any:
    """Return the channel class of an endpoint."""
    return socket_of(endpoint).channels["realtime:*"]


def pushed(
    event: str,
    payload: Any,
    *,
    ref: str = "7",
    join_ref: str = "1",
    topic: str = TOPIC,
    metadata: Any = None,
) -> bytes:
    """Return a broadcast of kind 3, as the JavaScript client encodes it. Bytes are raw, all else is JSON."""
    is_raw = isinstance(payload, bytes)
    strings = (join_ref, ref, topic, event, "" if metadata is None else json.dumps(metadata))
    segments = [each.encode() for each in strings]
    header = bytes((3, *map(len, segments), 0 if is_raw else 1))
    return header + b"".join(segments) + (payload if is_raw else json.dumps(payload).encode())


def raw(event: str, data: bytes, topic: str = TOPIC) -> Data:
    """Return a raw broadcast of kind 4, as the server sends it."""
    names = topic.encode(), event.encode()
    return Data(2, bytes((4, len(names[0]), len(names[1]), 0, 0)) + b"".join(names) + data)


class Realtime:
    """A client of one version, which shows text messages as [join_ref, ref, topic, event, payload]."""

    def __init__(self, client: Client, vsn: str) -> None:
        self.client = client
        self.vsn = vsn

    @classmethod
    async def open(cls, server: Server, vsn: str = "2.0.0", apikey: str = APIKEY) -> Realtime:
        client = await server.accept()
        client.write(head(f"/realtime/v1/websocket?apikey={apikey}&vsn={vsn}"))
        await settle()
        answer = client.answer()
        assert answer is not None
        assert answer.status == 101, answer
        return cls(client, vsn)

    def send(self, event: str, payload: Any, *, ref: str = "7", topic: str = TOPIC) -> None:
        if self.vsn == "2.0.0" and event == "broadcast":
            more = {key: payload[key] for key in payload if key not in ("type", "event", "payload")}
            data = pushed(
                payload["event"], payload["payload"], ref=ref, topic=topic, metadata=more or None
            )
            self.client.send_binary(data)
        elif self.vsn == "2.0.0":
            self.client.send(("1", ref, topic, event, payload))
        else:
            message = {
                "topic": topic,
                "event": event,
                "payload": payload,
                "ref": ref,
                "join_ref": "1",
            }
            self.client.write_text(json.dumps(message))

    def shout(
        self, event: str, payload: Any, *, ref: str = "7", topic: str = TOPIC, **more: Any
    ) -> None:
        self.send(
            "broadcast",
            {"type": "broadcast", "event": event, "payload": payload, **more},
            ref=ref,
            topic=topic,
        )

    async def heard(self) -> list[Any]:
        """Return what has come since the last call: (event, payload), and raw messages as they are."""
        await settle()
        found: list[Any] = []
        for each in self.client.frames():
            if isinstance(each, list):
                found.append((each[3], each[4]))
            elif isinstance(each, dict):
                assert "ref" in each, "the Python client needs a ref, if only null"
                found.append((each["event"], each["payload"]))
            else:
                found.append(each)
        return found

    async def join(
        self, topic: str = TOPIC, access_token: str | None = None, **config: Any
    ) -> list[Any]:
        """Join with the options of a client that has no listeners."""
        payload: dict[str, Any] = {
            "config": {
                "broadcast": {"ack": False, "self": False},
                "presence": {"key": "", "enabled": False},
                "postgres_changes": [],
                "private": False,
                **config,
            }
        }
        if access_token is not None:
            payload["access_token"] = access_token
        self.send("phx_join", payload, ref="1", topic=topic)
        return await self.heard()


def ok(response: Any = None) -> tuple[str, Any]:
    return "phx_reply", {"status": "ok", "response": {} if response is None else response}


def error(response: Any) -> tuple[str, Any]:
    return "phx_reply", {"status": "error", "response": response}


JOINED = ok({"postgres_changes": []})


def system(text: str, status: str = "error", extension: str = "system") -> tuple[str, Any]:
    about = {"extension": extension, "status": status, "message": text, "channel": "lobby"}
    return "system", about


def said(event: str, payload: Any, **more: Any) -> tuple[str, Any]:
    return "broadcast", {"type": "broadcast", "event": event, "payload": payload, **more}

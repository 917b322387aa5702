"""Broadcasts over HTTP, as `httpSend` and `http_send` of supabase's clients send them.

    POST {path}/api/broadcast/{topic}/events/{event}?private=true&persist=true     the payload: JSON, or raw bytes
    POST {path}/api/broadcast      {"messages": [{"topic": ..., "event": ..., "payload": {...}, "private": false}]}

Each gets 202. The caller sends a token as a bearer token, or the API key in the header `apikey`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qs, unquote

import msgspec

from channels.durable.storage import AppendFailed
from channels.errors import EncodeError
from channels.messages import Binary
from channels.publishing.delivery import Delivered, Key, deliver
from channels.publishing.http import HttpPublish, decoded
from channels.serializers.json_values import read_float
from channels.serving.requests import Caller, RequestRefused
from channels.serving.services import Services
from channels.supabase.channel import PREFIX, SupabaseChannel, broadcast_of, stored_broadcast
from channels.supabase.serializers import PRIVATE
from channels.supabase.socket import SupabaseSocket
from channels.wire.request import Headers

__all__ = ["SupabaseHttp"]

_JSON, _RAW = "application/json", "application/octet-stream"


class _Message(msgspec.Struct, kw_only=True):
    topic: str
    event: str
    payload: dict[str, Any]
    private: bool | None = False


class _Batch(msgspec.Struct):
    messages: list[_Message]


class _Single(msgspec.Struct, kw_only=True):
    topic: str
    event: str
    payload: Any
    private: bool
    persist: bool


_decode_any = msgspec.json.Decoder(float_hook=read_float)
_decode_batch = msgspec.json.Decoder(_Batch, float_hook=read_float)


class SupabaseHttp(HttpPublish):
    """Broadcasts over HTTP for one socket, for `Endpoint(plugs=[SupabaseHttp(UserSocket)])`.

    Args:
        socket: the socket class, which checks tokens and has the channels.
        path: the path at which the socket is mounted. If it ends with `/socket`, the clients leave this part out.
        **options: the options of `HttpPublish`, except `token`. By default, pages of all origins may send, because each
            request needs a token.
    """

    def __init__(
        self, socket: type[SupabaseSocket], path: str = "/realtime/v1", **options: Any
    ) -> None:
        base = f"{path.removesuffix('/socket')}/api/broadcast"
        super().__init__(token=socket.verify, path=base, **{"origins": False, **options})
        self._socket = socket

    def _admit(self, headers: Headers) -> Caller:
        scheme, _, token = (headers.get("authorization") or "").partition(" ")
        caller = self._tokens.check(
            token.strip() if scheme.lower() == "bearer" else headers.get("apikey") or ""
        )
        if caller is None:
            raise RequestRefused(401, "Unauthorized")
        return caller

    def _messages(self, names: str, scope: Any, headers: Headers, body: bytes) -> Sequence[Any]:
        if not names:
            messages = decoded(_decode_batch, body, "messages").messages
            if len(messages) > self.max_batch:
                problem = f"the batch has {len(messages)} messages; send at most {self.max_batch}"
                raise RequestRefused(422, problem, field="messages")
            return messages
        topic, _, event = names.partition("/events/")
        kind = (headers.get("content-type") or _JSON).partition(";")[0].strip().lower()
        if kind not in (_JSON, _RAW):
            raise RequestRefused(415, f"Unsupported Media Type. Use {_JSON} or {_RAW}")
        query = parse_qs(scope["query_string"].decode("latin-1"))
        return [
            _Single(
                topic=unquote(topic),
                event=unquote(event),
                payload=Binary(body) if kind == _RAW else decoded(_decode_any, body, "payload"),
                private=query.get("private") == ["true"],
                persist=any(name in ("persist", "persist[ttl]") for name in query),
            )
        ]

    async def _deliver(
        self, services: Services, caller: Caller, message: Any, key: Key | None
    ) -> Delivered:
        mount = next(each for each in services.mounts.values() if each.socket is self._socket)
        topic = f"{PREFIX}{message.topic}"
        route = mount.router.match(topic)
        if route is None or not message.topic or not message.event:
            raise RequestRefused(422, "the topic or the event is not valid", field="topic")
        channel: type[SupabaseChannel] = route.channel
        allowed = not channel.private_only
        if message.private:
            allowed = await channel.authorize("write", message.topic, caller.data.data) is True
            topic = f"{PRIVATE}{topic}"
        is_single = type(message) is _Single
        if not allowed:
            if is_single:
                raise RequestRefused(403, "Unauthorized")
            return Delivered(nodes=0)
        try:
            if is_single and message.persist:
                return await self._store(channel, topic, message)
            body = broadcast_of(topic, message.event, message.payload)
        except EncodeError as error:
            raise RequestRefused(422, error.problem) from None
        return await deliver(services, topic, "broadcast", body)

    async def _store(
        self, channel: type[SupabaseChannel], topic: str, message: _Single
    ) -> Delivered:
        if channel.messages is None or not message.private or type(message.payload) is Binary:
            problem = (
                "only JSON payloads on private topics of a channel with `messages` can be stored"
            )
            raise RequestRefused(422, problem, field="persist")
        stored = stored_broadcast(message.event, message.payload)
        try:
            await channel.messages.append(topic, "broadcast", stored)
        except AppendFailed as error:
            raise RequestRefused(413 if error.is_too_large else 503, str(error)) from error
        return Delivered(nodes=1)

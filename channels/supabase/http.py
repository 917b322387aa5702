"""Broadcasts over HTTP, as `httpSend` and `http_send` of supabase's clients send them.

    POST {path}/api/broadcast/{topic}/events/{event}?private=true&persist=true     the payload: JSON, or raw bytes
    POST {path}/api/broadcast      {"messages": [{"topic": ..., "event": ..., "payload": {...}, "private": false}]}

Each gets 202. The caller sends a token as a bearer token, or the API key in the header `apikey`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Any
from urllib.parse import parse_qs

import msgspec

from actors.errors import InvalidOption
from channels.durable.storage import AppendFailed
from channels.errors import EncodeError
from channels.messages import Binary
from channels.publishing.delivery import Delivered, Key, deliver
from channels.publishing.http import HttpPublish, decoded, decoded_name
from channels.serializers.json_values import read_float
from channels.serving.requests import Caller, RequestRefused
from channels.serving.services import Services
from channels.supabase.channel import (
    NOT_STORED,
    PREFIX,
    TOO_LARGE,
    SupabaseChannel,
    broadcast_of,
    stored_broadcast,
)
from channels.supabase.serializers import PRIVATE
from channels.supabase.socket import SupabaseSocket, verified_by
from channels.wire.request import Headers

__all__ = ["SupabaseHttp"]

_JSON, _RAW = "application/json", "application/octet-stream"


_Name = Annotated[str, msgspec.Meta(min_length=1)]


class _Message(msgspec.Struct, kw_only=True):
    topic: _Name
    event: _Name
    payload: dict[str, Any]
    private: bool | None = False


class _Batch(msgspec.Struct):
    messages: Annotated[list[_Message], msgspec.Meta(min_length=1)]


class _Single(_Message, kw_only=True):
    payload: Any
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
        verify = partial(verified_by, socket)
        super().__init__(token=verify, path=base, **{"origins": False, **options})
        self._socket = socket

    def attach(self, services: Services) -> Callable[[], None]:
        mounts = services.mounts.values()
        routers = [each.router for each in mounts if each.socket is self._socket]
        if not routers:
            problem = "a socket class that the endpoint mounts"
            raise InvalidOption("SupabaseHttp", "socket", self._socket, problem)
        self._router = routers[0]
        return super().attach(services)

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
            return self._batch(_decode_batch, body)
        topic, _, event = names.partition("/events/")
        kind = (headers.get("content-type") or _JSON).partition(";")[0].strip().lower()
        if kind not in (_JSON, _RAW):
            raise RequestRefused(415, f"Unsupported Media Type. Use {_JSON} or {_RAW}")
        query = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        return [
            _Single(
                topic=decoded_name(topic, "topic"),
                event=decoded_name(event, "event"),
                payload=Binary(body) if kind == _RAW else decoded(_decode_any, body, "payload"),
                # Any other value, such as `True`, counts as private, because a public message cannot be taken back.
                private=query.get("private", ["false"])[-1].lower() not in ("false", "0"),
                persist=any(name in ("persist", "persist[ttl]") for name in query),
            )
        ]

    async def _deliver(
        self, services: Services, caller: Caller, message: Any, key: Key | None
    ) -> Delivered:
        topic = f"{PREFIX}{message.topic}"
        channel: Any = getattr(self._router.match(topic), "channel", object)
        if not issubclass(channel, SupabaseChannel) or not message.topic or not message.event:
            raise RequestRefused(422, "the topic or the event is not valid", field="topic")
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
            status, text = (413, TOO_LARGE) if error.is_too_large else (503, NOT_STORED)
            raise RequestRefused(status, text) from error
        return Delivered(nodes=1)

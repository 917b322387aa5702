"""Broadcasts over HTTP, as `httpSend` and `http_send` of supabase's clients send them.

    POST {path}/api/broadcast/{topic}/events/{event}?private=true&persist=true     the payload: JSON, or raw bytes
    POST {path}/api/broadcast      {"messages": [{"topic": ..., "event": ..., "payload": {...}, "private": false}]}

Each gets 202. The caller sends a token as a bearer token, or the API key in the header `apikey`.
"""

from __future__ import annotations

from functools import partial
from typing import Any
from urllib.parse import parse_qs, unquote

import msgspec
import trio

from actors.arguments import check_whole
from actors.errors import InvalidOption
from channels.durable.storage import AppendFailed
from channels.errors import EncodeError
from channels.messages import Binary
from channels.protocol.work_budget import COST_SHIFT
from channels.publishing.delivery import deliver
from channels.serializers.json_values import (
    DEFAULT_MAX_VALUES,
    NOT_DECODABLE,
    PIECE,
    JsonWeight,
    read_float,
)
from channels.serving.plug import Plug
from channels.serving.requests import (
    BearerTokens,
    CallerLimit,
    CrossOrigin,
    RequestRefused,
    headers_of,
    read_body,
    send_json,
)
from channels.serving.services import Services
from channels.supabase.access import Claims
from channels.supabase.channel import PREFIX, SupabaseChannel, broadcast_of, stored_broadcast
from channels.supabase.serializers import PRIVATE
from channels.supabase.socket import SupabaseSocket
from channels.telemetry import PUBLISH_ACCEPTED, PUBLISH_REFUSED
from channels.transports.asgi_stream import ASGIApplication, path_of
from channels.wire.cross_site import OriginRule
from channels.wire.request import Headers

__all__ = ["SupabaseHttp"]

_JSON, _RAW = "application/json", "application/octet-stream"
_TIMEOUT = 10.0


class _Message(msgspec.Struct, kw_only=True):
    topic: str
    event: str
    payload: Any
    private: bool | None = False
    persist: bool = False


class _BatchMessage(_Message, kw_only=True):
    payload: dict[str, Any]


class _Batch(msgspec.Struct):
    messages: list[_BatchMessage]


_decode_any = msgspec.json.Decoder(float_hook=read_float)
_decode_batch = msgspec.json.Decoder(_Batch, float_hook=read_float)


class SupabaseHttp(Plug):
    """Broadcasts over HTTP for one socket, for `Endpoint(plugs=[SupabaseHttp(UserSocket)])`.

    Args:
        socket: the socket class, which checks tokens and has the channels.
        path: the path at which the socket is mounted. If it ends with `/socket`, the clients leave this part out.
        origins: the origins of the pages that may send, as in `Mount(check_origin=)`. By default all, because each
            request needs a token.
        max_messages_per_second: the messages per second of each token or key; `math.inf` for no limit.
        max_batch: the most messages of one request.

    Raises:
        InvalidOption: an option is invalid.
    """

    public = True

    def __init__(
        self,
        socket: type[SupabaseSocket],
        path: str = "/realtime/v1",
        *,
        origins: OriginRule = False,
        max_messages_per_second: float = 100.0,
        max_batch: int = 100,
    ) -> None:
        owner = "SupabaseHttp"
        if not isinstance(path, str) or not path.startswith("/"):
            raise InvalidOption(owner, "path", path, 'a path such as "/realtime/v1"')
        check_whole(owner, "max_batch", max_batch)
        self.path = f"{path.rstrip('/').removesuffix('/socket')}/api/broadcast"
        self._socket = socket
        self._max_batch = max_batch
        self._tokens = BearerTokens(owner, socket.verify)
        self._origins = CrossOrigin(owner, origins)
        self._limit = CallerLimit(owner, "max_messages_per_second", max_messages_per_second)

    def find(self, scope: Any, services: Services) -> ASGIApplication | None:
        """Return the application for a broadcast."""
        path = path_of(scope)
        if path != self.path and not path.startswith(f"{self.path}/"):
            return None
        return partial(self._serve, path[len(self.path) :].split("/")[1:], services)

    async def _serve(
        self, names: list[str], services: Services, scope: Any, receive: Any, send: Any
    ) -> None:
        headers, extra = headers_of(scope), {}
        status, content = 202, None
        try:
            extra = self._origins.headers(scope, headers)
            preflight = self._origins.preflight(scope, headers)
            if preflight is not None:
                status, extra = 200, {**extra, **preflight}
            else:
                await self._receive(names, services, scope, headers, receive)
        except RequestRefused as refusal:
            status, content = refusal.status, refusal.content
            extra |= refusal.headers
            services.count(PUBLISH_REFUSED)
        await send_json(send, status, content, extra)

    async def _receive(
        self, names: list[str], services: Services, scope: Any, headers: Headers, receive: Any
    ) -> None:
        if scope["method"] != "POST":
            raise RequestRefused(405, "send POST", headers={"allow": "POST"})
        scheme, _, token = (headers.get("authorization") or "").partition(" ")
        token = token.strip() if scheme.lower() == "bearer" else headers.get("apikey") or ""
        caller = self._tokens.check(token)
        if caller is None:
            raise RequestRefused(401, "Unauthorized")
        self._limit.take(caller, trio.current_time())
        most = max(channel.max_payload_bytes for channel in self._channels())
        with await read_body(services, receive, max_bytes=most, timeout=_TIMEOUT) as body:
            kind = (headers.get("content-type") or _JSON).partition(";")[0].strip().lower()
            if kind != _RAW:
                await _weigh(services, body.data)
            if names:
                messages = [_single(names, scope, kind, body.data)]
            else:
                messages = _decoded(_decode_batch, body.data).messages
        if len(messages) > self._max_batch:
            problem = f"the batch has {len(messages)} messages; send at most {self._max_batch}"
            raise RequestRefused(422, problem, field="messages")
        self._limit.add(caller, len(messages) - 1)
        for each in messages:
            allowed = await self._send(services, each, caller.data.data)
            if names and not allowed:
                raise RequestRefused(403, "Unauthorized")
            # A message may go to thousands of clients, so other tasks get their turn before the next message.
            await trio.lowlevel.checkpoint()
        services.count(PUBLISH_ACCEPTED)

    def _channels(self) -> list[type[SupabaseChannel]]:
        return [each for each in map(_class_of, self._socket.channels.values()) if each]

    async def _send(self, services: Services, message: _Message, claims: Claims) -> bool:
        """Send a message. Return False if the caller may not send it."""
        topic = f"{PREFIX}{message.topic}"
        mount = next(each for each in services.mounts.values() if each.socket is self._socket)
        channel = _class_of(getattr(mount.router.match(topic), "channel", None))
        if channel is None or not message.topic or not message.event:
            raise RequestRefused(422, "the topic or the event is not valid", field="topic")
        if not message.private:
            if channel.private_only:
                return False
        elif await channel.authorize("write", message.topic, claims) is not True:
            return False
        else:
            topic = f"{PRIVATE}{topic}"
        if not message.persist:
            try:
                body = broadcast_of(topic, message.event, message.payload)
            except EncodeError as error:
                raise RequestRefused(422, error.problem) from None
            await deliver(services, topic, "broadcast", body)
            return True
        if channel.messages is None or not message.private or type(message.payload) is Binary:
            problem = (
                "only JSON payloads on private topics of a channel with `messages` can be stored"
            )
            raise RequestRefused(422, problem, field="persist")
        try:
            stored = stored_broadcast(message.event, message.payload)
            await channel.messages.append(topic, "broadcast", stored)
        except AppendFailed as error:
            raise RequestRefused(413 if error.is_too_large else 503, str(error)) from error
        return True


def _class_of(channel: Any) -> type[SupabaseChannel] | None:
    found = getattr(channel, "channel", channel)
    return found if isinstance(found, type) and issubclass(found, SupabaseChannel) else None


def _single(names: list[str], scope: Any, kind: str, body: bytes) -> _Message:
    """Return the message of a request with the topic and the event in its path."""
    if len(names) != 3 or names[1] != "events":
        raise RequestRefused(422, "POST to /api/broadcast/{topic}/events/{event}")
    if kind not in (_JSON, _RAW):
        raise RequestRefused(415, f"Unsupported Media Type. Use {_JSON} or {_RAW}")
    query = parse_qs(scope["query_string"].decode("latin-1"))
    return _Message(
        topic=unquote(names[0]),
        event=unquote(names[2]),
        payload=Binary(body) if kind == _RAW else _decoded(_decode_any, body),
        private=query.get("private") == ["true"],
        persist=any(name in ("persist", "persist[ttl]") for name in query),
    )


async def _weigh(services: Services, body: bytes) -> None:
    """Refuse a JSON body with too many values, because nothing can interrupt its decoding."""
    weight = JsonWeight()
    for start in range(0, len(body), PIECE):
        await services.budget.take(PIECE >> COST_SHIFT)
        weight.feed(body[start : start + PIECE])
        if weight.values > DEFAULT_MAX_VALUES:
            raise RequestRefused(413, f"the body has more than {DEFAULT_MAX_VALUES} JSON values")


def _decoded(decoder: Any, body: bytes) -> Any:
    try:
        return decoder.decode(body)
    except NOT_DECODABLE as error:
        raise RequestRefused(422, str(error)) from None

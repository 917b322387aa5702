"""Publishing over HTTP: any program that can send a POST sends messages to the clients of all nodes.

    from channels.publishing.http import HttpPublish

    endpoint = Endpoint(sockets={"/socket": UserSocket}, publish=HttpPublish(token=os.environ["PUBLISH_TOKEN"]))

    $ curl -H "Authorization: Bearer $PUBLISH_TOKEN" -d '{"body": "hello"}' http://localhost:4000/publish/news/announced
    {"nodes":2}

A request is a POST to `/publish/TOPIC/EVENT` with a JSON object, or a POST to `/publish` with a batch:
`{"messages": [{"topic": ..., "event": ..., "payload": {...}}]}`. A batch is checked as a whole before any of its
messages is sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, TypeVar
from urllib.parse import unquote

import msgspec
import trio

from actors.arguments import check_positive, check_whole
from actors.text import bounded
from channels.payloads import explain
from channels.protocol.work_budget import COST_SHIFT
from channels.publishing.delivery import KEY_HEADER, Delivered, Key, check_key, check_names, deliver
from channels.serializers.json_values import NOT_DECODABLE, read_float
from channels.serving.plug import Plug, check_path
from channels.serving.requests import (
    BearerTokens,
    Caller,
    CallerLimit,
    CrossOrigin,
    RequestRefused,
    Verifier,
    headers_of,
    read_body,
    send_json,
)
from channels.serving.services import Services
from channels.telemetry import PUBLISH_ACCEPTED, PUBLISH_REFUSED
from channels.transports.asgi_stream import ASGIApplication, path_of
from channels.wire.cross_site import OriginRule
from channels.wire.request import Headers

__all__ = ["HttpPublish", "decoded"]

T = TypeVar("T")


class _Message(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    topic: str
    event: str
    payload: dict[str, Any]


class _Batch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    messages: Annotated[list[_Message], msgspec.Meta(min_length=1)]


_decode_payload = msgspec.json.Decoder(dict[str, Any], float_hook=read_float)
_decode_batch = msgspec.json.Decoder(_Batch, float_hook=read_float)


class HttpPublish(Plug):
    """Messages over HTTP for one endpoint, for `Endpoint(publish=HttpPublish(...))`.

        HttpPublish(token=os.environ["PUBLISH_TOKEN"])
        HttpPublish(token=lambda token: verify(SECRET, "publish", token, max_age=3600))

    Args:
        token: the bearer token that every request must contain. It is a shared secret of at least 16 characters of
            ASCII without spaces; or a function that takes a token and returns its data, such as `verify`, and raises a
            `TokenError` for a token that is not valid. A holder of the token can publish to every topic.
        path: the path of batches. The path of one message is this path, the topic and the event.
        origins: the origins of the pages that may publish, as in `Mount(check_origin=)`. By default only pages of the
            endpoint's own scheme, host and port. Requests without an `Origin` do not come from a page.
        public: False serves the requests only on the internal port, if the endpoint has one.
        max_messages_per_second: the messages per second of each token; `math.inf` for no limit. After a pause, a token
            may send the messages of ten seconds at once.
        max_batch: the messages of one request.
        max_body_bytes: the largest body in bytes.
        body_timeout: seconds for a client to send its body.

    Raises:
        InvalidOption: an option is invalid.

    The endpoint counts accepted and refused requests as `PUBLISH_ACCEPTED` and `PUBLISH_REFUSED`. A batch that failed
    after its first message counts as both. Delivery is at most
    once, except on durable topics.
    """

    def __init__(
        self,
        *,
        token: str | Verifier,
        path: str = "/publish",
        origins: OriginRule = "conn",
        public: bool = True,
        max_messages_per_second: float = 100.0,
        max_batch: int = 100,
        max_body_bytes: int = 64 * 1024,
        body_timeout: float = 10.0,
    ) -> None:
        owner = "HttpPublish"
        check_path(owner, path, example="/publish")
        check_whole(owner, "max_batch", max_batch)
        check_whole(owner, "max_body_bytes", max_body_bytes)
        check_positive(owner, "body_timeout", body_timeout)
        self.path = path
        self.public = public
        self.max_batch = max_batch
        self.max_body_bytes = max_body_bytes
        self._body_timeout = body_timeout
        self._tokens = BearerTokens(owner, token)
        self._origins = CrossOrigin(owner, origins)
        self._limit = CallerLimit(owner, "max_messages_per_second", max_messages_per_second)

    def __repr__(self) -> str:
        return f"<publishing at {self.path}>"

    def find(self, scope: Any, services: Services) -> ASGIApplication | None:
        """Return the application for a request to publish."""
        path = path_of(scope)
        if path != self.path and not path.startswith(f"{self.path}/"):
            return None
        return partial(self._serve, path[len(self.path) + 1 :], services)

    async def _serve(
        self, names: str, services: Services, scope: Any, receive: Any, send: Any
    ) -> None:
        headers, extra = headers_of(scope), {}
        try:
            extra = self._origins.headers(scope, headers)
            preflight = self._origins.preflight(scope, headers)
            if preflight is not None:
                await send_json(send, 200, None, {**extra, **preflight})
                return
            if scope["method"] != "POST":
                raise RequestRefused(405, "send POST", headers={"allow": "POST"})
            status, content = 202, await self._publish(names, services, scope, headers, receive)
        except RequestRefused as refusal:
            status, content = refusal.status, refusal.content
            extra |= refusal.headers
            services.count(PUBLISH_REFUSED)
            about = {"status": status, "problem": str(refusal), "field": refusal.field}
            services.runtime.telemetry.execute(
                PUBLISH_REFUSED, {}, {"endpoint": services.endpoint, **about}
            )
        await send_json(send, status, content, extra)

    async def _publish(
        self, names: str, services: Services, scope: Any, headers: Headers, receive: Any
    ) -> dict[str, Any]:
        """Publish the messages of a request. Return the content of the answer."""
        caller = self._admit(headers)
        self._limit.take(caller, trio.current_time())
        key = headers.get(KEY_HEADER)
        # The body counts until its messages are sent, because they may wait for a history.
        with await read_body(
            services, receive, max_bytes=self.max_body_bytes, timeout=self._body_timeout
        ) as body:
            await services.budget.take(1 + (len(body.data) >> COST_SHIFT))
            messages = self._messages(names, scope, headers, body.data)
            self._limit.add(caller, len(messages) - 1, trio.current_time())
            if key is not None:
                for each in messages:
                    check_key(services, each.topic, key)
            nodes, positions = 0, []
            try:
                for number, each in enumerate(messages):
                    own = None if key is None else (key, number)
                    delivered = await self._deliver(services, caller, each, own)
                    nodes = max(nodes, delivered.nodes)
                    positions.append(delivered.position)
                    # A message may go to thousands of clients, so other tasks get their turn before the next message.
                    await trio.lowlevel.checkpoint()
            except RequestRefused as refusal:
                if not names:
                    # The sender learns that the messages before this one were sent.
                    refusal.field = f"messages[{len(positions)}]"
                raise
            finally:
                # Also when a batch failed in the middle, because the messages before the failure were sent.
                if positions:
                    services.count(PUBLISH_ACCEPTED)
                    about = {"endpoint": services.endpoint, "nodes": nodes}
                    measured = {"messages": len(positions)}
                    services.runtime.telemetry.execute(PUBLISH_ACCEPTED, measured, about)
        return {"nodes": nodes, **({"positions": positions} if any(positions) else {})}

    # Subclasses for other clients override these.

    def _admit(self, headers: Headers) -> Caller:
        """Return the owner of the token in a request."""
        return self._tokens.admit(headers)

    async def _deliver(
        self, services: Services, caller: Caller, message: Any, key: Key | None
    ) -> Delivered:
        """Deliver one message of `_messages`."""
        return await deliver(services, message.topic, message.event, message.payload, key=key)

    def _messages(self, names: str, scope: Any, headers: Headers, body: bytes) -> Sequence[Any]:
        """Return the messages of a request. All of them are valid."""
        if names:
            topic, slash, event = names.partition("/")
            if not slash or "/" in event:
                problem = f"POST to {self.path}/TOPIC/EVENT, and write %2F for each slash in them"
                raise RequestRefused(404, problem)
            payload = decoded(_decode_payload, body, "payload")
            topic, event = _decoded_name(topic, "topic"), _decoded_name(event, "event")
            check_names(topic, event)
            return [_Message(topic=topic, event=event, payload=payload)]
        messages = decoded(_decode_batch, body, "messages").messages
        if len(messages) > self.max_batch:
            problem = f"the batch has {len(messages)} messages; send at most {self.max_batch}"
            raise RequestRefused(422, problem, field="messages")
        for number, each in enumerate(messages):
            check_names(each.topic, each.event, within=f"messages[{number}].")
        return messages


def _decoded_name(text: str, field: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise RequestRefused(422, f"the {field} in the path is not UTF-8", field=field) from None


def decoded(decoder: msgspec.json.Decoder[T], body: bytes, field: str) -> T:
    """Decode a body. `field` is the name of a body that is not even JSON, or has a value without a name of its own."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        invalid = explain(error)
        found = invalid.field or "["
        # The problem may quote a name of the sender's, of any length.
        problem = bounded(invalid.problem)
        raise RequestRefused(422, problem, field=field if found[0] == "[" else found) from None
    except NOT_DECODABLE as error:
        raise RequestRefused(422, f"the body is not JSON: {error}", field=field) from None

"""The parts of a plug that answers HTTP requests with bearer tokens: tokens, their limits, origins, bodies, answers.

    caller = self._tokens.admit(headers)                        # 401
    self._limit.take(caller, trio.current_time())               # 429
    with await read_body(services, receive, max_bytes=65_536, timeout=10) as body:      # 413
        ...
    await send_json(send, 202, {"nodes": 2}, cors)

Each part raises a `RequestRefused`, whose `content` is the body of the answer: `{"error": "...", "field": "..."}`.
"""

from __future__ import annotations

import hashlib
import hmac
import inspect
import math
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

import msgspec

from actors.arguments import check_positive
from actors.errors import InvalidArgument, InvalidOption
from actors.text import brief
from channels.errors import ChannelsError, InvalidResult
from channels.messages import ConnectRefused
from channels.protocol.session import BURST, TokenBucket
from channels.serving.services import Services
from channels.tokens.token import TokenError
from channels.transports.asgi_responses import send_response
from channels.transports.bodies import Bodies, Body
from channels.wire.cross_site import OriginRule, origin_allowed, parse_rule, preflight_headers
from channels.wire.request import Headers

__all__ = [
    "MAX_CALLERS",
    "MIN_TOKEN",
    "BearerTokens",
    "Caller",
    "CallerLimit",
    "CrossOrigin",
    "RequestRefused",
    "Verifier",
    "headers_of",
    "read_body",
    "send_json",
]

Verifier: TypeAlias = Callable[[str], Any]
"""A function that takes a bearer token, and returns its data. It refuses the token with a `TokenError`, a
`ConnectRefused`, None or False."""

MIN_TOKEN: Final = 16
"""The fewest characters of a shared secret."""

MAX_CALLERS: Final = 10_000
"""The number of tokens whose limits a server remembers. It forgets the token that was used least recently."""

# Other characters would not survive the way through a header, and each request would get 401.
_SECRET: Final = re.compile(rf"[!-~]{{{MIN_TOKEN},}}")


class RequestRefused(ChannelsError):
    """A refused request. The client gets the text.

    Attributes:
        status: the HTTP status.
        field: the field of the request that is wrong, or None.
        headers: additional headers of the answer.
    """

    def __init__(
        self,
        status: int,
        problem: str,
        *,
        field: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(problem)
        self.status = status
        self.field = field
        self.headers = dict(headers or {})

    @property
    def content(self) -> dict[str, Any]:
        """The body of the answer."""
        return {"error": str(self), **({} if self.field is None else {"field": self.field})}


def headers_of(scope: Any) -> Headers:
    """Return the headers of an ASGI request."""
    return Headers(
        [
            (name.decode("latin-1").lower(), value.decode("latin-1"))
            for name, value in scope["headers"]
        ]
    )


class Caller(msgspec.Struct, frozen=True):
    """The owner of a valid token.

    Attributes:
        key: a digest of the token.
        data: the result of the verifier; None for a shared secret.
    """

    key: bytes
    data: Any = None


class BearerTokens:
    """The check of the header `Authorization: Bearer TOKEN`.

    Args:
        owner: the name of the class with the option `token`, for errors.
        token: the shared secret, at least 16 characters of ASCII without spaces; or a `Verifier`.
        verifiers: False refuses a `Verifier`.

    Raises:
        InvalidOption: the token is neither such a secret nor an allowed function.
    """

    def __init__(self, owner: str, token: str | Verifier, *, verifiers: bool = True) -> None:
        is_secret = isinstance(token, str) and _SECRET.fullmatch(token) is not None
        is_verifier = verifiers and callable(token) and not inspect.iscoroutinefunction(token)
        if not is_secret and not is_verifier:
            expected = f"a secret of at least {MIN_TOKEN} characters of ASCII without spaces"
            if verifiers:
                expected += ", or a plain function, without async, that takes the token and raises TokenError"
            # Without the value, which may be a real secret.
            raise InvalidOption(owner, "token", "...", expected)
        self._verify = token if callable(token) else None
        self._secret = _digest(token) if isinstance(token, str) else b""

    def admit(self, headers: Headers) -> Caller:
        """Return the owner of the token in a request.

        Raises:
            RequestRefused: the request has no valid token (401).
        """
        scheme, _, token = (headers.get("authorization") or "").partition(" ")
        token = token.strip(" ")
        if scheme.lower() != "bearer" or not token:
            raise _unauthorized("send the header Authorization: Bearer TOKEN")
        caller = self.check(token)
        if caller is None:
            raise _unauthorized("the bearer token is not valid")
        return caller

    def check(self, token: str) -> Caller | None:
        """Return the owner of a token; None if the token is not valid.

        Raises:
            InvalidResult: the verifier returned an awaitable.
        """
        # Digests have the same length, so the comparison takes the same time for every token.
        key = _digest(token)
        if self._verify is None:
            return Caller(key) if hmac.compare_digest(key, self._secret) else None
        # Padding does not make it another token, so it must not get a limit of its own.
        key = _digest(token.rstrip("="))
        try:
            data = self._verify(token)
        except (TokenError, ConnectRefused):
            return None
        if inspect.isawaitable(data):
            # An awaitable is neither None nor False, so it would admit every token.
            raise InvalidResult(
                "the function that verifies bearer tokens",
                data,
                ("the data of the token", "None"),
                advice="write a plain function, `def`",
            )
        return None if data is None or data is False else Caller(key, data)


def _unauthorized(problem: str) -> RequestRefused:
    return RequestRefused(401, problem, headers={"www-authenticate": "Bearer"})


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


class CallerLimit:
    """A limit on the messages per second of each token.

    Args:
        owner: the name of the class with the option, for errors.
        option: the name of the option.
        rate: messages per second; `math.inf` for no limit. After a pause, a caller may send the messages of ten seconds
            at once, as the clients of a socket may.

    Raises:
        InvalidOption: the rate is not above 0.
    """

    def __init__(self, owner: str, option: str, rate: float) -> None:
        check_positive(owner, option, rate)
        self._option = option
        self._rate = rate
        # Only valid tokens get an entry, so that strangers cannot fill the table.
        self._buckets: OrderedDict[bytes, TokenBucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, caller: Caller, now: float) -> None:
        """Count one message of a caller.

        Raises:
            RequestRefused: the caller has sent too many messages (429, with `Retry-After`).
        """
        if self._rate == math.inf:
            return
        bucket = self._buckets.pop(caller.key, None)
        if bucket is None:
            bucket = TokenBucket(rate=self._rate, burst=max(1.0, BURST * self._rate), now=now)
            if len(self._buckets) >= MAX_CALLERS:
                self._buckets.popitem(last=False)
        # The caller moves to the end, behind all callers that have been quiet for longer.
        self._buckets[caller.key] = bucket
        bucket.refill(now)
        self._check(bucket, bucket.take())

    def add(self, caller: Caller, messages: int, now: float) -> None:
        """Count further messages of a batch. They may make the caller wait for longer than a burst.

        Raises:
            RequestRefused: another batch makes the caller wait already (429, with `Retry-After`).
        """
        bucket = self._buckets.get(caller.key)
        if bucket is not None and messages:
            bucket.refill(now)
            self._check(bucket, bucket.tokens >= 0)
            bucket.tokens -= messages

    def _check(self, bucket: TokenBucket, may_send: bool) -> None:
        if not may_send:
            seconds = max(1, math.ceil(bucket.seconds_to_wait()))
            raise RequestRefused(
                429,
                f"this token may send {self._rate:g} messages a second ({self._option}); send again in {seconds} s",
                headers={"retry-after": str(seconds)},
            )


class CrossOrigin:
    """The origins whose pages may send requests (CORS).

    Args:
        owner: the name of the class with the option `origins`, for errors.
        origins: the rule, as for `Mount(check_origin=)`.
        methods: the methods that pages may use.

    Raises:
        InvalidOption: the rule is not valid.
    """

    def __init__(self, owner: str, origins: OriginRule, *, methods: str = "POST") -> None:
        try:
            self._rule = parse_rule(origins)
        except InvalidArgument:
            expected = 'a rule as for check_origin, such as ["https://example.org"]'
            raise InvalidOption(owner, "origins", origins, expected) from None
        self._methods = methods

    def headers(self, scope: Any, headers: Headers) -> dict[str, str]:
        """Return the headers with which the page that sent a request may read the answer; none without a page.

        Raises:
            RequestRefused: pages of the origin may not send requests (403).
        """
        origin, host = headers.get("origin"), headers.get("host")
        if not origin_allowed(self._rule, origin, scheme=scope.get("scheme", "http"), host=host):
            raise RequestRefused(
                403, f"pages of the origin {brief(origin)} may not send this; allow it in origins="
            )
        if origin is None:
            return {}
        return {
            "access-control-allow-origin": origin,
            "access-control-expose-headers": "retry-after",
            "vary": "origin",
        }

    def preflight(self, scope: Any, headers: Headers) -> dict[str, str] | None:
        """Return the additional headers of the answer to a preflight request; None for any other request.

        Call `headers` first, which checks the origin.
        """
        if scope["method"] != "OPTIONS" or "access-control-request-method" not in headers:
            return None
        return preflight_headers(self._methods, headers.get("access-control-request-headers") or "")


async def read_body(services: Services, receive: Any, *, max_bytes: int, timeout: float) -> Body:
    """Read the body of a request. Use the result as a context manager: the memory counts until the block ends.

    Args:
        services: the services of the endpoint.
        receive: the ASGI `receive` of the request.
        max_bytes: the largest body in bytes.
        timeout: seconds for the whole body.

    Raises:
        RequestRefused: the body is too large (413) or too slow (408), the client left (400), or the bodies of all
            clients are too large together (503).
    """
    bodies = Bodies(services.transports.incoming, on_shed=services.body_shed)
    body = await bodies.read(receive, max_bytes=max_bytes, timeout=timeout)
    if isinstance(body, Body):
        return body
    services.count(("http", "body_refused"))
    problems = {
        413: f"the body has more than {max_bytes} bytes",
        408: f"the body did not arrive within {timeout:g} s",
        503: "the server is too busy; send again later",
    }
    status = 400 if body is None else body
    raise RequestRefused(status, problems.get(status, "the request ended early"))


async def send_json(
    send: Any, status: int, content: Any, headers: Mapping[str, str] | None = None
) -> None:
    """Send an answer whose body is JSON, and which caches do not store. The content None sends no body."""
    body = b"" if content is None else msgspec.json.encode(content)
    every = {"cache-control": "no-store", **(headers or {})}
    if body:
        every["content-type"] = "application/json"
    await send_response(send, status, body, every)

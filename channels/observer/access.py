"""Admission to an observer page.

A token or a check admits a browser to the page, and a ticket admits the page to its socket.

The page gets a ticket over HTTP and sends it with the socket's parameters. So the socket needs no cookie, and a page of
another origin cannot get a ticket.
"""

from __future__ import annotations

import hashlib
import hmac
import inspect
import logging
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeAlias

import msgspec

from actors.text import log_exception
from channels.tokens.token import TokenError, sign, verify
from channels.topics import INTERNAL
from channels.wire.cross_site import parse_cookies

__all__ = ["TICKET_SECONDS", "Access", "Check", "cookie_name"]

Check: TypeAlias = Callable[[Mapping[str, str]], bool | Awaitable[bool]]
"""A function that gets the headers of a request, by lower-case name. Only the result True gives access."""

TICKET_SECONDS: Final = 300.0
"""Seconds for which a ticket is valid. A page gets a new ticket before each attempt to connect."""

REQUEST_SECONDS: Final = 30.0
"""Seconds for which a request to another node is valid. The clocks of two nodes may differ by less than this."""

MAX_ACTIONS: Final = 10_000
"""The largest number of actions of other nodes whose ids an observer remembers. At this limit, it refuses further
actions until it forgets some ids."""

_SALT = "ashtree observer"
_REQUEST_SALT = "ashtree observer request"
_logger = logging.getLogger("channels.observer")


def cookie_name(token: str) -> str:
    """Return the name of the cookie that holds a token.

    Browsers send the cookies of a host to all of its ports. If the name were the same, two programs on one host would
    overwrite each other's cookie.
    """
    return f"ashtree_observer_{_digest(token).hex()[:12]}"


class Access:
    """The admission of one observer.

    Args:
        token: the token of the page; None makes one.
        check: decides about access instead of a token; None uses the token.

    Attributes:
        token: the token; None if there is a check.
        is_generated: True if this object generated the token, and no one else knows it yet.
    """

    def __init__(self, token: str | None, check: Check | None) -> None:
        self._check = check
        self._secret = secrets.token_bytes(32)
        # The ids of the actions that other nodes asked for, with their times of arrival, the oldest first.
        self._actions: OrderedDict[str, float] = OrderedDict()
        self.is_generated = token is None and check is None
        self.token = secrets.token_urlsafe(24) if self.is_generated else token

    def derive_from(self, secret: bytes) -> None:
        """Derive the generated secrets from a secret of the endpoint, so that they are the same on all nodes and after
        a restart.
        """  # noqa: D205 # one sentence
        if self.is_generated:
            self.token = hmac.digest(secret, b"ashtree observer token", "sha256").hex()[:32]
        self._secret = hmac.digest(secret, b"ashtree observer tickets", "sha256")

    def takes_token(self, given: str | None) -> bool:
        """Return True if a token is the right one. This takes constant time."""
        if self.token is None or not given:
            return False
        return hmac.compare_digest(_digest(given), _digest(self.token))

    async def admits(self, headers: Mapping[str, str]) -> bool:
        """Return True if a request may see the page. If the check raises, return False."""
        if self._check is None:
            assert self.token is not None  # there is a check, or else a token
            cookies = parse_cookies((("cookie", headers.get("cookie", "")),))
            return self.takes_token(cookies.get(cookie_name(self.token)))
        try:
            answer = self._check(headers)
            if inspect.isawaitable(answer):
                answer = await answer
        except (
            Exception
        ) as error:  # the check is the application's, and any exception means no access
            log_exception(
                _logger,
                "The check of the observer page raised an exception, so the page refused the request",
                exception=error,
            )
            return False
        return answer is True

    def topic(self) -> str:
        """Return the topic that the observers of all nodes with the same secret use. A client cannot guess it."""
        return f"{INTERNAL}observer:{hmac.digest(self._secret, b'topic', 'sha256').hex()[:32]}"

    def ticket(self) -> str:
        """Return a new ticket for the socket."""
        return sign(self._secret, _SALT, "page", max_age=TICKET_SECONDS)

    def takes_ticket(self, ticket: object) -> bool:
        """Return True if a ticket is genuine and not too old."""
        try:
            return bool(verify(self._secret, _SALT, ticket, max_age=TICKET_SECONDS) == "page")
        except TokenError:
            return False

    def seal(self, request: Mapping[str, Any]) -> str:
        """Return a request to the observer of another node as a signed text. Send the text only to that node."""
        content = {**request, "id": secrets.token_hex(16)}
        text = msgspec.json.encode(content).decode()
        return sign(self._secret, _REQUEST_SALT, text, max_age=REQUEST_SECONDS)

    def unseal(self, sealed: object, now: float) -> dict[str, Any] | None:
        """Return the request in a sealed text. Return None if the text is false or too old, or if it repeats an action.

        A repeated request without an action does no harm: the same node gets another answer.

        Args:
            sealed: the text.
            now: the time on any clock that does not go back.
        """
        try:
            text = verify(self._secret, _REQUEST_SALT, sealed, max_age=REQUEST_SECONDS)
        except TokenError:
            return None
        request: dict[str, Any] = msgspec.json.decode(text)
        if "action" not in request:
            return request
        actions = self._actions
        # The time of a token may be up to a minute in the future, so remember its id for longer than it is valid.
        while actions and now - next(iter(actions.values())) >= REQUEST_SECONDS + 120:
            actions.popitem(last=False)
        if request["id"] in actions or len(actions) >= MAX_ACTIONS:
            return None
        actions[request["id"]] = now
        return request


def _digest(text: str) -> bytes:
    # Compare digests, which all have the same length.
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()

"""Long polling: one connection polls for messages, another posts them.

A poll is a GET, which the server holds until it has messages. One POST carries all waiting messages, a hundred at most.
While a POST is open, further messages wait for the next one.

Source: phoenix.js 1.8, `longpoll.js`, with the same close codes: 1005 after a timeout, 1008 for 403, 1011 for an error
of the server, 3410 if the server does not know the session any more. There is one difference: phoenix.js polls again
immediately after each answer. This client polls at most fifty times a second, and at most once a second while the
answers contain no messages.
"""

from __future__ import annotations

import base64
import math
from collections import deque
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import quote

import msgspec
import trio

from channels.client.transports.contract import LinkFailed, LinkLost, Opening, refused
from channels.client.transports.http import HttpClient, Response
from channels.client.wire import Frame

__all__ = ["EMPTY_POLL_INTERVAL", "MAX_BATCH", "POLL_INTERVAL", "LongPollLink", "open_longpoll"]

MAX_BATCH: Final = 100
"""The most messages of one POST. The server ignores further messages."""

POLL_INTERVAL: Final = 0.02
"""The least seconds from the start of a poll to the start of the next one. Messages wait at the server meanwhile."""

EMPTY_POLL_INTERVAL: Final = 1.0
"""The same seconds after an answer without messages. A server holds a poll for much longer before it answers so."""

_NO_STATUS, _FORBIDDEN, _SERVER_ERROR, _SESSION_GONE = 1005, 1008, 1011, 3410


class _Answer(msgspec.Struct):
    status: int
    token: str | None = None
    messages: list[str] = []


_decode = msgspec.json.Decoder(_Answer).decode


async def open_longpoll(opening: Opening) -> LongPollLink:
    """Begin a session.

    Raises:
        LinkFailed: there is no server, it refused, or it did not answer in time.
    """
    link = LongPollLink(opening)
    try:
        with trio.move_on_after(opening.options.connect_timeout):
            answer, response = await link.poll()
            if answer is not None and answer.status == 410 and answer.token is not None:
                link.token = answer.token
                return link
            status = response.status if answer is None else answer.status
            raise refused("long polling", status, opening.address)
        raise LinkFailed(f"no answer within {opening.options.connect_timeout:g} seconds")
    except BaseException:
        await link.aclose(_NO_STATUS, "")
        raise


class LongPollLink:
    """One session.

    Attributes:
        token: the token of the session; empty before the session begins.
    """

    def __init__(self, opening: Opening) -> None:
        self.token = ""
        self._is_token_known = False
        self._is_token_in_url = False
        self._opening = opening
        self._polls = HttpClient(opening)
        self._posts = HttpClient(opening)
        self._messages: deque[Frame] = deque()
        self._loss: LinkLost | None = None
        self._polling: trio.CancelScope | None = None
        self._next_poll_at = -math.inf
        self._headers = [(name.encode(), value.encode()) for name, value in opening.options.headers]
        if opening.auth_token is not None:
            self._headers.append((b"x-phoenix-authtoken", opening.auth_token.encode()))

    async def receive(self) -> Frame:
        """Return the next message. Poll, if none waits."""
        while not self._messages:
            if self._loss is not None:
                raise self._loss
            await self._poll()
        await trio.lowlevel.checkpoint()
        return self._messages.popleft()

    async def send(self, frames: Sequence[Frame]) -> None:
        """Post messages, in as many requests as they need."""
        for start in range(0, len(frames), MAX_BATCH):
            await self._post(frames[start : start + MAX_BATCH])

    async def aclose(self, code: int, reason: str) -> None:
        """Close both connections. The server ends the session when no more polls arrive."""
        try:
            await self._polls.aclose()
        finally:
            # Close the second connection too if this task is cancelled.
            await self._posts.aclose()

    async def poll(self) -> tuple[_Answer | None, Response]:
        """Poll once, and return the answer; None if the answer does not follow the protocol."""
        return await self._ask(self._polls, "GET", (b"accept", b"application/json"))

    async def _ask(
        self, http: HttpClient, method: str, header: tuple[bytes, bytes], body: bytes = b""
    ) -> tuple[_Answer | None, Response]:
        """Send a request with the token of the session, in a header if the server takes it there.

        The header keeps the token out of the logs of proxies, which show URLs. But Phoenix before 1.8.10 reads the
        token only from the URL. It answers 410 to a request without one, and does not handle the request.
        """
        target, headers = self._opening.address.target, [header, *self._headers]
        if self._is_token_in_url:
            target = f"{target}&token={quote(self.token, safe='')}"
        elif self.token:
            headers.append((b"x-phoenix-longpoll-token", self.token.encode()))
        response = await http.request(method, target, headers, body)
        answer = _read(response)
        if self.token and not self._is_token_known:
            if answer is not None and answer.status == 410 and not self._is_token_in_url:
                self._is_token_in_url = True
                return await self._ask(http, method, header, body)
            self._is_token_known = answer is not None and answer.status in (200, 204)
        return answer, response

    async def _poll(self) -> None:
        answer: _Answer | None = None
        try:
            with trio.CancelScope() as self._polling:
                await trio.sleep_until(self._next_poll_at)
                began = trio.current_time()
                self._polling.deadline = began + self._opening.options.poll_timeout
                answer, _ = await self.poll()
                is_empty = answer is None or not answer.messages
                self._next_poll_at = began + (EMPTY_POLL_INTERVAL if is_empty else POLL_INTERVAL)
        except LinkFailed:
            # Treat this as a failure of the server: the client opens a new session.
            answer = None
        finally:
            polling, self._polling = self._polling, None
        if self._loss is None and polling is not None and polling.cancelled_caught:
            self._lose(_NO_STATUS, "timeout")
        if self._loss is not None:
            raise self._loss
        match None if answer is None else answer.status:
            case 200 if answer is not None:
                self._messages.extend(answer.messages)
            case 204:
                pass
            case 410:
                raise self._lose(_SESSION_GONE, "session_gone")
            case 403:
                raise self._lose(_FORBIDDEN, "forbidden")
            case _:
                raise self._lose(_SERVER_ERROR, "internal server error")

    async def _post(self, frames: Sequence[Frame]) -> None:
        lines = [
            frame.encode() if isinstance(frame, str) else base64.b64encode(frame)
            for frame in frames
        ]
        header = b"content-type", b"application/x-ndjson"
        answer: _Answer | None = None
        try:
            with trio.move_on_after(self._opening.options.poll_timeout) as posting:
                answer, _ = await self._ask(self._posts, "POST", header, b"\n".join(lines))
        except LinkFailed:
            # The server may have got the messages. Like phoenix.js, do not send them again.
            answer = None
        if posting.cancelled_caught:
            raise self._lose(_NO_STATUS, "timeout")
        if answer is None or answer.status != 200:
            raise self._lose(_SERVER_ERROR, "internal server error")

    def _lose(self, code: int, reason: str) -> LinkLost:
        if self._loss is None:
            self._loss = LinkLost(code, reason)
            if self._polling is not None:
                self._polling.cancel()
        return self._loss


def _read(response: Response) -> Any:
    try:
        return _decode(response.body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None

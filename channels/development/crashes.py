"""The latest crashes of channels and sockets, with their tracebacks, for the development page.

`Crashes` is a plug that an endpoint has only in development. A server in production does not load this module.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from traceback import format_exception_only
from typing import Any, Final

import msgspec
import trio

from actors.exits import Crash
from channels.serving.plug import Plug
from channels.serving.services import Services
from channels.telemetry import CHANNEL_CRASHED, SOCKET_CONNECT_FAILED
from supervision.applications.command_line.program_frames import program_traceback

__all__ = ["Crashes", "RecordedCrash"]

_MAX_CRASHES: Final = 20
# The maximum number of characters of a traceback. An exception may contain a text of any length.
_LONGEST: Final = 10_000
_LONGEST_SUMMARY: Final = 200


class RecordedCrash(msgspec.Struct, frozen=True):
    """A crash of a channel, or of a callback of a socket.

    Attributes:
        number: the number of the crash, from 1.
        owner: the class of the channel or the socket.
        topic: the topic of the channel; None for a socket.
        summary: the type and the text of the exception, in one line.
        text: the traceback, without the frames of Ashtree.
        time: the time of the crash, on Trio's clock.
    """

    number: int
    owner: str
    topic: str | None
    summary: str
    text: str
    time: float


class Crashes(Plug):
    """A plug that keeps the latest crashes of an endpoint.

    Attributes:
        count: the number of crashes since the start.
    """

    def __init__(self) -> None:
        self.count = 0
        self._latest: deque[RecordedCrash] = deque(maxlen=_MAX_CRASHES)

    def attach(self, services: Services) -> Callable[[], None]:
        """Record the crashes of an endpoint, until the caller calls the returned function."""

        def crashed(event: Any, measurements: Any, about: Mapping[str, Any]) -> None:
            reason = about["reason"]
            if about["endpoint"] is services.endpoint and isinstance(reason, Crash):
                self._record(about["channel"], about["topic"], reason.exception)

        def failed(event: Any, measurements: Any, about: Mapping[str, Any]) -> None:
            if about["endpoint"] is services.endpoint:
                self._record(about["socket"], None, about["exception"])

        telemetry = services.runtime.telemetry
        detaches = (
            telemetry.attach(CHANNEL_CRASHED, crashed),
            telemetry.attach(SOCKET_CONNECT_FAILED, failed),
        )

        def detach() -> None:
            for each in detaches:
                each()

        return detach

    def latest(self) -> list[dict[str, Any]]:
        """Return the latest crashes as JSON objects, the newest first, with their `age` in seconds."""
        now = trio.current_time()
        return [
            {
                "number": crash.number,
                "owner": crash.owner,
                "topic": crash.topic,
                "summary": crash.summary,
                "text": crash.text,
                "age": max(0.0, now - crash.time),
            }
            for crash in reversed(self._latest)
        ]

    def _record(self, owner: type, topic: str | None, error: BaseException) -> None:
        self.count += 1
        crash = RecordedCrash(
            self.count,
            owner.__name__,
            None if topic is None else _bounded(topic),
            _bounded(format_exception_only(error)[0].partition("\n")[0], _LONGEST_SUMMARY),
            _bounded(program_traceback(error)),
            trio.current_time(),
        )
        self._latest.append(crash)


def _bounded(text: str, longest: int = _LONGEST) -> str:
    """Return a text that JSON can express. If it is long, return its two ends.

    A traceback names the file at its beginning and the error at its end.
    """
    text = text.encode("utf-8", "backslashreplace").decode()
    if len(text) > longest:
        text = f"{text[: longest // 2]}\n...\n{text[-longest // 2 :]}"
    return text

"""The requests of the clients of a run, for the report: how many were answered in time, late, or not at all.

with world.request("say hello", client=7):
    await channel.push("new_msg", {"body": "hello"})
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self

from supervision.recording.trace import Trace
from supervision.viewer.service import ANSWERED, OPEN, UNANSWERED, Request

__all__ = ["OpenRequest", "RequestLog"]


class OpenRequest:
    """A request that waits for its answer. `ScenarioWorld.request` makes it.

    As a context manager, it is answered if its block ends without an exception, and unanswered otherwise.
    """

    def __init__(self, log: RequestLog, name: str, client: str, within: float) -> None:
        self.name = name
        self.client = client
        self.within = within
        self.began = log.now()
        self._log = log

    def answered(self) -> None:
        """Record the answer. Only the first of `answered` and `unanswered` counts."""
        self._log.end(self, ANSWERED)

    def unanswered(self) -> None:
        """Record that no answer will come, for example because the connection was lost."""
        self._log.end(self, UNANSWERED)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            self.answered()
        else:
            self.unanswered()


class RequestLog:
    """The requests of one run.

    Args:
        trace: the trace, which gets an event of the kind `request` at the end of each request.
        now: returns the seconds since the start of the run.
        within: the time limit in seconds for an answer, unless a request has its own.

    Attributes:
        ended: the requests that have ended, in the order of their ends.
    """

    def __init__(self, trace: Trace, now: Callable[[], float], within: float = 1.0) -> None:
        self.now = now
        self.within = within
        self.ended: list[Request] = []
        self._trace = trace
        # A dictionary without values, because its order is the order of the requests.
        self._open: dict[OpenRequest, None] = {}
        self._closed = False

    def begin(self, name: str, client: object, within: float | None) -> OpenRequest:
        """Begin a request."""
        limit = self.within if within is None else within
        request = OpenRequest(self, name, "" if client is None else str(client), limit)
        if not self._closed:
            self._open[request] = None
        return request

    def end(self, request: OpenRequest, status: str) -> None:
        """End a request, unless it has ended."""
        if request not in self._open:
            return
        del self._open[request]
        seconds = round(self.now() - request.began, 6)
        began = round(request.began, 6)
        ended = Request(request.name, request.client, began, seconds, request.within, status)
        self.ended.append(ended)
        fields = {
            "name": ended.name,
            "client": ended.client,
            "began": began,
            "seconds": seconds,
            "within": ended.within,
            "status": status,
        }
        self._trace.add("request", {"pid": None, **fields})

    def close(self) -> None:
        """End the open requests, because the experiment is over. Later requests do not count."""
        for request in list(self._open):
            self.end(request, OPEN)
        self._closed = True

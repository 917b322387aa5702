"""The requests of a run's clients. The report counts the requests that were answered in time, late, or not at all.

    with world.request("say hello", client=7):
        await channel.push("new_msg", {"body": "hello"})

Each request adds an event of the kind `request` to the trace when it ends.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self

from attrs import asdict

from supervision.recording.reader.service import ANSWERED, OPEN, UNANSWERED, Request
from supervision.recording.trace import Trace

__all__ = ["OpenRequest", "RequestLog"]


class OpenRequest:
    """A request that waits for its answer. `ScenarioWorld.request` returns it.

    You can use it as a context manager. If the block ends without an exception, the request counts as answered.
    Otherwise it counts as unanswered.
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
        trace: the trace of the run. Each request adds an event of the kind `request` when it ends.
        now: returns the seconds since the start of the run.
        within: the time limit in seconds for an answer, unless the request has its own limit.

    Attributes:
        ended: the requests that have ended, first ended first.
    """

    def __init__(self, trace: Trace, now: Callable[[], float], within: float = 1.0) -> None:
        self.now = now
        self.within = within
        self.ended: list[Request] = []
        self._trace = trace
        # A dictionary and not a set, because a dictionary keeps the order of the requests.
        self._open: dict[OpenRequest, None] = {}
        self._closed = False

    def begin(self, name: str, client: object, within: float | None) -> OpenRequest:
        """Begin a request. `client` is shown as text; None stands for no client."""
        limit = self.within if within is None else within
        request = OpenRequest(self, name, "" if client is None else str(client), limit)
        if not self._closed:
            self._open[request] = None
        return request

    def end(self, request: OpenRequest, status: str) -> None:
        """End a request with its status. Do nothing if the request has already ended."""
        if request not in self._open:
            return
        del self._open[request]
        seconds = round(self.now() - request.began, 6)
        began = round(request.began, 6)
        ended = Request(request.name, request.client, began, seconds, request.within, status)
        self.ended.append(ended)
        self._trace.add("request", {"pid": None, **asdict(ended)})

    def close(self) -> None:
        """End the open requests at the end of the experiment. Requests that begin later do not count."""
        for request in list(self._open):
            self.end(request, OPEN)
        self._closed = True

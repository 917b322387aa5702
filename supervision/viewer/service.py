"""The quality of service of a run: the lag of its event loop, and the requests of its clients.

    loop = measure_loop(ticks, late_after=0.1, max_late_share=0.1)
    loop.overloaded                        # True: the figures of the run say nothing about recovery

*pure*: the input is a list of ticks or of requests. `supervision.chaos.live.service` and `supervision.chaos.requests`
collect them during a run, and the trace has them as events of the kinds `loop_lag` and `request`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from attrs import frozen

from supervision.viewer.history import History

__all__ = [
    "ANSWERED",
    "OPEN",
    "UNANSWERED",
    "LoopMeasures",
    "Request",
    "RequestMeasures",
    "loop_of",
    "measure_loop",
    "measure_requests",
    "percentile",
    "requests_of",
]

ANSWERED, UNANSWERED, OPEN = "answered", "unanswered", "open"


class LoopMeasures(msgspec.Struct, frozen=True, kw_only=True):
    """The lag of the event loop, from the start of the faults to the end of the experiment.

    A probe is due at regular times. The lag is the time from a due time until the probe ran. Each due time within a
    long stall counts. Stalls by a planned `StallLoop` do not count.

    `ticks` counts the due times. `median`, `p99` and `longest` are seconds. `late_share` is the share of due times with
    a lag above `late_after` seconds. The run is `overloaded` if this share is above `max_late_share`.
    """

    ticks: int
    median: float
    p99: float
    longest: float
    late_after: float
    late_share: float
    max_late_share: float
    overloaded: bool


class RequestMeasures(msgspec.Struct, frozen=True, kw_only=True):
    """The requests with one name, from the start of the faults to the end of the experiment.

    `in_time` counts requests with an answer within their time limit, `late` requests with a later answer, and
    `unanswered` requests without an answer. A request that was still open at the end is unanswered if its time limit
    had passed, and is not counted otherwise. `median`, `p99` and `longest` are the seconds until the answers; None
    without answers. `clients` counts the clients that made requests. `clients_in_time` counts the clients that got an
    answer in time for at least half of their requests.
    """

    name: str
    count: int
    in_time: int
    late: int
    unanswered: int
    median: float | None
    p99: float | None
    longest: float | None
    clients: int
    clients_in_time: int

    @property
    def share_in_time(self) -> float:
        """The share of requests with an answer in time."""
        return self.in_time / self.count

    @property
    def share_of_clients(self) -> float:
        """The share of clients that got an answer in time for at least half of their requests."""
        return self.clients_in_time / self.clients


@frozen
class Request:
    """One request of a client.

    Attributes:
        name: the name of the request.
        client: the name of the client; empty if the scenario gave none.
        began: the time of the request, in seconds since the start of the run.
        seconds: the time until the answer, or until the client gave up.
        within: the time limit in seconds.
        status: "answered"; "unanswered" if the client gave up; "open" if the run ended before.
    """

    name: str
    client: str
    began: float
    seconds: float
    within: float
    status: str

    @property
    def counts(self) -> bool:
        """False for a request that the end of the run cut off before its time limit."""
        return self.status != OPEN or self.seconds >= self.within

    @property
    def is_in_time(self) -> bool:
        """True if the answer came within the time limit."""
        return self.status == ANSWERED and self.seconds <= self.within


def percentile(values: Iterable[float], share: float) -> float | None:
    """Return a percentile by the nearest-rank method; None without values.

        percentile([1, 2, 3, 4], 0.5)      # 2

    Args:
        values: the values, in any order.
        share: the share, such as 0.5 for the median.
    """
    ordered = sorted(values)
    if not ordered:
        return None
    position = -int(-share * len(ordered) // 1)
    return ordered[max(position, 1) - 1]


def measure_loop(
    lags: Sequence[float], *, late_after: float, max_late_share: float
) -> LoopMeasures | None:
    """Compute the figures of the event loop; None without a due time.

    Args:
        lags: the lag in seconds at each due time.
        late_after: the lag in seconds above which a due time counts as late.
        max_late_share: the largest share of late due times of a run that is not overloaded.
    """
    if not lags:
        return None
    share = sum(lag > late_after for lag in lags) / len(lags)
    return LoopMeasures(
        ticks=len(lags),
        median=percentile(lags, 0.5) or 0.0,
        p99=percentile(lags, 0.99) or 0.0,
        longest=max(lags),
        late_after=late_after,
        late_share=share,
        max_late_share=max_late_share,
        overloaded=share > max_late_share,
    )


def measure_requests(requests: Iterable[Request]) -> list[RequestMeasures]:
    """Compute the figures of the requests, one entry for each name, in the order of the first requests."""
    by_name: dict[str, list[Request]] = {}
    for request in requests:
        if request.counts:
            by_name.setdefault(request.name, []).append(request)
    return [_of_name(name, named) for name, named in by_name.items()]


def _of_name(name: str, requests: list[Request]) -> RequestMeasures:
    times = [request.seconds for request in requests if request.status == ANSWERED]
    in_time = sum(request.is_in_time for request in requests)
    by_client: dict[str, list[bool]] = {}
    for request in requests:
        by_client.setdefault(request.client, []).append(request.is_in_time)
    return RequestMeasures(
        name=name,
        count=len(requests),
        in_time=in_time,
        late=len(times) - in_time,
        unanswered=len(requests) - len(times),
        median=percentile(times, 0.5),
        p99=percentile(times, 0.99),
        longest=max(times, default=None),
        clients=len(by_client),
        clients_in_time=sum(2 * sum(each) >= len(each) for each in by_client.values()),
    )


# From a trace


def loop_of(history: History) -> LoopMeasures | None:
    """Compute the figures of the event loop from a history; None if no probe ran."""
    began = _began(history)
    events = [event for event in history.events if event["kind"] == "loop_lag"]
    if not events:
        return None
    lags = [lag for event in events for due, lag in event["lags"] if due >= began]
    first = events[0]
    return measure_loop(
        lags, late_after=first["late_after"], max_late_share=first["max_late_share"]
    )


def requests_of(history: History) -> list[RequestMeasures]:
    """Compute the figures of the requests from a history."""
    began = _began(history)
    requests = [_request(event) for event in history.events if event["kind"] == "request"]
    return measure_requests(request for request in requests if request.began >= began)


def _request(event: Any) -> Request:
    return Request(
        event["name"],
        event["client"],
        event["began"],
        event["seconds"],
        event["within"],
        event["status"],
    )


def _began(history: History) -> float:
    """Return the time from which the service counts: the start of the faults, if there is one."""
    return next((phase.begin for phase in history.phases if phase.name == "during"), 0.0)

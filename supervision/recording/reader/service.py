"""The quality of service of a run: the lag of its event loop, the load of its machine, the requests of its clients.

    loop = measure_loop(ticks, late_after=0.1, max_late_share=0.1)
    loop.overloaded                        # True: the figures of the run say nothing about recovery

*pure*: the input is a list of ticks or of requests. An experiment collects them during a run, and the trace has them as
events of the kinds `loop_lag` and `request`. The load of the machine is an event of the kind `machine`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise

import msgspec
from attrs import frozen

from supervision.recording.reader.figures import percentile
from supervision.recording.reader.records import History

__all__ = [
    "ANSWERED",
    "OPEN",
    "UNANSWERED",
    "LoopMeasures",
    "MachineMeasures",
    "Request",
    "RequestMeasures",
    "loop_of",
    "machine_of",
    "measure_loop",
    "measure_machine",
    "measure_requests",
    "requests_of",
]

ANSWERED, UNANSWERED, OPEN = "answered", "unanswered", "open"

_FEWEST = 3
"""The requests of a client before the faults that show how long its pauses are."""


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


class MachineMeasures(msgspec.Struct, frozen=True, kw_only=True):
    """The load of the machine while the run applied its faults.

    `wait_share` is the share of the time for which the thread of the run was ready and waited for a processor, and
    `load` is the load average of the last minute per core. Each is None if the system does not count it. The machine
    is `overloaded` if `wait_share` is above `max_wait_share`, or `load` above `max_load`. Without a limit for the load,
    `max_load` is None.
    """

    wait_share: float | None
    max_wait_share: float
    load: float | None
    max_load: float | None
    overloaded: bool


class RequestMeasures(msgspec.Struct, frozen=True, kw_only=True):
    """The requests with one name, from the start of the faults to the end of the experiment.

    `in_time` counts requests with an answer within their time limit, `late` requests with a later answer, and
    `unanswered` requests without an answer. A request that was still open at the end is unanswered if its time limit
    had passed, and is not counted otherwise. `median`, `p99` and `longest` are the seconds until the answers; None
    without answers. `clients` counts the clients that made requests, and the silent clients. `clients_in_time` counts
    the clients that got an answer in time for at least half of their requests. A silent client is not among them.

    `silent` counts the clients that made requests until the faults began, and none during the faults. Such a client may
    wait for a connection. The client must have made at least three requests before, the last one shortly before the
    faults, and the faults must be much longer than its pauses between requests.
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
    silent: int

    @property
    def share_in_time(self) -> float:
        """The share of requests with an answer in time; 0.0 if all clients are silent."""
        return self.in_time / self.count if self.count else 0.0

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


def measure_machine(
    seconds: float,
    waited: float | None,
    load: float | None,
    *,
    max_wait_share: float,
    max_load: float | None,
) -> MachineMeasures:
    """Compute the figures of the machine.

    Args:
        seconds: the duration of the faults.
        waited: the seconds for which the thread of the run waited for a processor; None if unknown.
        load: the load average per core; None if unknown.
        max_wait_share: the largest share of the time that the thread may wait.
        max_load: the largest load average per core; None allows any load.
    """
    share = None if waited is None or seconds <= 0 else min(1.0, max(0.0, waited / seconds))
    return MachineMeasures(
        wait_share=share,
        max_wait_share=max_wait_share,
        load=load,
        max_load=max_load,
        overloaded=(share or 0.0) > max_wait_share
        or (max_load is not None and (load or 0.0) > max_load),
    )


def measure_requests(
    requests: Iterable[Request], *, since: float = 0.0, until: float = math.inf
) -> list[RequestMeasures]:
    """Compute the figures of the requests, one entry for each name, in the order of the first requests.

    Args:
        requests: the requests of the run. The figures count those that began at `since` or later. The earlier ones
            show which clients are silent.
        since: the time at which the faults began, in seconds since the start of the run.
        until: the time at which the faults ended.
    """
    by_name: dict[str, dict[str, list[Request]]] = {}
    for request in sorted(requests, key=lambda request: request.began):
        by_name.setdefault(request.name, {}).setdefault(request.client, []).append(request)
    measured = [_of_name(name, clients, since, until) for name, clients in by_name.items()]
    return [each for each in measured if each.clients]


def _of_name(
    name: str, clients: dict[str, list[Request]], since: float, until: float
) -> RequestMeasures:
    silent = {client for client, made in clients.items() if _is_silent(made, since, until)}
    counted = {
        client: [request for request in made if request.began >= since and request.counts]
        for client, made in clients.items()
    }
    active = {client: made for client, made in counted.items() if made}
    every = [request for made in active.values() for request in made]
    times = [request.seconds for request in every if request.status == ANSWERED]
    in_time = sum(request.is_in_time for request in every)
    return RequestMeasures(
        name=name,
        count=len(every),
        in_time=in_time,
        late=len(times) - in_time,
        unanswered=len(every) - len(times),
        median=percentile(times, 0.5),
        p99=percentile(times, 0.99),
        longest=max(times, default=None),
        clients=len(active.keys() | silent),
        clients_in_time=sum(
            2 * sum(request.is_in_time for request in made) >= len(made)
            for client, made in active.items()
            if client not in silent
        ),
        silent=len(silent),
    )


def _is_silent(made: Sequence[Request], since: float, until: float) -> bool:
    """Return True if a client made requests until the faults began, and none during the faults.

    The longest pause between its earlier requests decides. The last of them must be at most two such pauses before the
    faults; otherwise the client had finished. The faults must be longer than two such pauses; otherwise the next
    request was not due. The time limit of a request that was open when the faults began does not count. A client with
    fewer than three earlier requests is not silent: it may have no more to ask, as after a join.

    Args:
        made: the requests of the client with one name, first begun first.
        since: the time at which the faults began.
        until: the time at which the faults ended.
    """
    before = [request for request in made if request.began < since]
    if len(before) < _FEWEST or any(since <= request.began < until for request in made):
        return False
    allowed = 2 * max(later.began - earlier.began for earlier, later in pairwise(before))
    last = before[-1]
    free_from = max(since, last.began + min(last.seconds, last.within))
    return since - last.began <= allowed < until - free_from


# From a trace


def loop_of(history: History) -> LoopMeasures | None:
    """Compute the figures of the event loop from a history; None if no probe ran."""
    began, _ = _faulty(history)
    events = [event for event in history.events if event["kind"] == "loop_lag"]
    if not events:
        return None
    lags = [lag for event in events for due, lag in event["lags"] if due >= began]
    first = events[0]
    return measure_loop(
        lags, late_after=first["late_after"], max_late_share=first["max_late_share"]
    )


def machine_of(history: History) -> MachineMeasures | None:
    """Compute the figures of the machine from a history; None if the run did not measure it."""
    event = next((event for event in history.events if event["kind"] == "machine"), None)
    if event is None:
        return None
    return measure_machine(
        event["seconds"],
        event["waited"],
        event["load"],
        max_wait_share=event["max_wait_share"],
        max_load=event["max_load"],
    )


def requests_of(history: History) -> list[RequestMeasures]:
    """Compute the figures of the requests from a history."""
    began, ended = _faulty(history)
    requests = [
        msgspec.convert(event, Request) for event in history.events if event["kind"] == "request"
    ]
    return measure_requests(requests, since=began, until=ended)


def _faulty(history: History) -> tuple[float, float]:
    """Return the start and the end of the phase with the faults; 0.0 and infinity without this phase.

    The service counts from this start on.
    """
    during = history.during
    return (0.0, math.inf) if during is None else (during.begin, during.end)

"""Workloads that send at a fixed rate, even if the server answers late.

A closed loop sends less while the server is slow, so it hides the pauses of the server. An open loop sends each push
when it is due, and measures the latency from the due time.
"""

from __future__ import annotations

import http.client
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from attrs import define, evolve

from tests.benchmarks.channels.clients import Client, Crowd
from tests.benchmarks.channels.wire import PLACEHOLDER, numbered
from tests.benchmarks.channels.workloads import (
    Echo,
    Load,
    Window,
    Workload,
    clock,
    collect_no_more,
    drain,
    join_crowd,
    run_enough,
    times,
    topics_of,
)

__all__ = ["OPEN_LOOPS", "Beat", "keep_time"]

HEARTBEAT_SECONDS = 30.0
"""The interval in which phoenix.js sends heartbeats."""

_PAUSES_RATE = 2000.0
_VISITORS = 100
_VISITS_RATE = 20.0


@define
class Beat:
    """An action that repeats at a fixed rate.

    Attributes:
        rate: calls per second.
        act: the action. It gets the time at which it was due.
        late: seconds between the due time and the call, if `samples` is True.
    """

    rate: float
    act: Callable[[float], None]
    late: array[float]
    done: int = 0


def keep_time(crowd: Crowd, seconds: float, beats: Sequence[Beat], *, spins: bool = False) -> None:
    """Call each action when it is due, and serve the sockets between the calls.

    Args:
        crowd: the clients.
        seconds: the time after which this returns.
        beats: the actions.
        spins: True checks the time without sleeping. False sleeps for whole milliseconds, so an action may run a
            millisecond late.
    """
    began = clock()
    end = began + seconds
    first = [beat.done for beat in beats]
    while (now := clock()) < end:
        nearest = end
        for beat, start in zip(beats, first, strict=True):
            while (due := began + (beat.done - start) / beat.rate) <= now:
                beat.done += 1
                beat.late.append(now - due)
                beat.act(due)
            nearest = min(nearest, due)
        crowd.turn(0 if spins else max(0.0, nearest - clock()))


def _in_turn(clients: Sequence[Client], send: Callable[[Client, float], None]) -> Any:
    """Return an action that takes the next client at each call, and sends from this client."""
    turn = iter(_forever(clients))
    return lambda due: send(next(turn), due)


def _forever(clients: Sequence[Client]) -> Iterable[Client]:
    while True:
        yield from clients


def _late_ms(beat: Beat) -> float | None:
    return times(beat.late)["p99_ms"]


def half(crowd: Crowd, load: Load) -> dict[str, Any]:
    """Measure the latency of echoes at half the saturation rate of the server.

    First, a closed loop measures the saturation rate.
    """
    clients = crowd.join_many(topics_of("h", load.connections), 64, timeout=load.timeout)
    collect_no_more()
    work = Echo(crowd, load, array("d"))
    for client in clients:
        work.begin(client)
    crowd.run_for(load.warm_up)
    full, work.counts = Window(load.pids), True
    run_enough(crowd, load, work.taken, clients)
    saturated = full.end(len(work.taken))
    work.counts = work.goes_on = False

    def all_answered() -> bool:
        return all(client.expected == client.counter for client in clients)

    drain(crowd, load.drain, all_answered)
    work.taken = array("d")
    rate = (saturated["rate"] or 0.0) / 2
    beat = Beat(rate, _in_turn(clients, work.fire_at), array("d"))
    keep_time(crowd, load.warm_up, [beat], spins=True)
    beat.late, work.counts = array("d"), True
    window = Window(load.pids)
    keep_time(crowd, load.seconds, [beat], spins=True)
    result = window.end(len(work.taken))
    work.counts = False
    drain(crowd, load.drain, all_answered)
    return {
        **result,
        **times(work.taken),
        "saturation_rate": saturated["rate"],
        "saturation_share": saturated["server_share"],
        # The generator checks the time without sleeping, so it always uses its whole core.
        "generator_share": None,
        "late_ms": _late_ms(beat),
        "lost": sum(client.counter - client.expected for client in clients),
        "wrong": work.wrong,
    }


@define(eq=False)
class _Heartbeats:
    """The heartbeats of all clients, and their answers."""

    sent: int = 0
    answered: int = 0

    def send(self, client: Client, due: float) -> None:
        before, after = client.waiting
        client.send(b"%b%d%b" % (before, client.counter, after))
        client.counter += 1
        self.sent += 1

    def heard(self, client: Client, text: bytes, now: float) -> None:
        if b'"phx_reply"' in text:
            self.answered += 1


def heartbeats(crowd: Crowd, load: Load) -> dict[str, Any]:
    """Measure the server's CPU time for connections that each send only a heartbeat every 30 s."""
    clients = join_crowd(crowd, topics_of("b", load.connections), load)
    collect_no_more()
    work = _Heartbeats()
    frame = numbered(f'[null,"{PLACEHOLDER}","phoenix","heartbeat",{{}}]')
    for client in clients:
        client.waiting, client.on_text = frame, work.heard
    beat = Beat(len(clients) / HEARTBEAT_SECONDS, _in_turn(clients, work.send), array("d"))
    keep_time(crowd, load.warm_up, [beat])
    before = work.answered
    window = Window(load.pids)
    keep_time(crowd, load.seconds, [beat])
    result = window.end(work.answered - before)
    drain(crowd, load.drain, lambda: work.answered >= work.sent)
    share = result["server_share"]
    return {
        **result,
        "core_percent": None if share is None else share * 100,
        "late_ms": _late_ms(beat),
        # The clients also send heartbeats while they join. A late answer to one of these counts as answered here.
        "lost": max(0, work.sent - work.answered),
        "wrong": 0,
    }


@define(eq=False)
class _Visits:
    """Clients that connect, join, stay for a while and leave."""

    crowd: Crowd
    staying: deque[Client]
    limit: int
    count: int = 0

    def next(self, due: float) -> None:
        self.count += 1
        topic = topics_of("v", 1)[0] + f"-{self.count}"
        self.crowd.join(self.count, topic, self.joined)

    def joined(self, client: Client) -> None:
        client.on_text = self.crowd.ignore
        self.staying.append(client)
        if len(self.staying) > self.limit:
            self.staying.popleft().close()


def pauses(crowd: Crowd, load: Load) -> dict[str, Any]:
    """Measure the longest pause of the server's loop while clients push, connect and leave at a moderate rate."""
    residents = load.connections - _VISITORS
    # The first clients make the server load modules. The request then resets the server's figures.
    crowd.join_many(topics_of("w", 10), 10, timeout=load.timeout)
    _longest_pause(crowd.address)
    clients = join_crowd(crowd, topics_of("p", residents), load)
    while_joining = _longest_pause(crowd.address)
    collect_no_more()
    work = Echo(crowd, evolve(load, in_flight=0), array("d"), goes_on=False)
    for client in clients:
        work.begin(client)
    visits = _Visits(crowd, deque(), _VISITORS)
    echoes = Beat(_PAUSES_RATE, _in_turn(clients, work.fire_at), array("d"))
    beats = [echoes, Beat(_VISITS_RATE, visits.next, array("d"))]
    keep_time(crowd, load.warm_up, beats)
    _longest_pause(crowd.address)
    echoes.late, work.counts = array("d"), True
    window = Window(load.pids)
    keep_time(crowd, load.seconds, beats)
    result = window.end(len(work.taken))
    longest = _longest_pause(crowd.address)
    work.counts = False
    drain(crowd, load.drain, lambda: all(client.expected == client.counter for client in clients))
    return {
        **result,
        **times(work.taken),
        "pause_ms": longest[0],
        "pause_cpu_ms": longest[1],
        "joining_pause_ms": while_joining[0],
        "collector_ms": longest[2],
        "late_ms": _late_ms(echoes),
        "lost": sum(client.counter - client.expected for client in clients),
        "wrong": work.wrong,
    }


def _longest_pause(address: tuple[str, int]) -> list[float]:
    """Ask the server for its longest pauses since the last request, in milliseconds."""
    connection = http.client.HTTPConnection(*address, timeout=30)
    try:
        connection.request("GET", "/blocked")
        return [float(number) for number in connection.getresponse().read().split()]
    finally:
        connection.close()


OPEN_LOOPS: dict[str, Workload] = {"half": half, "heartbeats": heartbeats, "pauses": pauses}
"""The workloads by name."""

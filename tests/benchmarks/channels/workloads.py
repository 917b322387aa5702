"""The workloads of the load generator. Each workload measures one row of the table with a crowd of clients.

These workloads are closed loops: a client waits for an answer before it sends again. So a slow server gets fewer
requests, and the measured latency is the latency under full load. `open_loop` has the workloads that send at a fixed
rate.
"""

from __future__ import annotations

import gc
import json
import os
import time
from array import array
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle
from typing import Any

from attrs import Factory, define, evolve, frozen

from tests.benchmarks.channels.clients import Client, Crowd
from tests.benchmarks.channels.figures import latencies
from tests.benchmarks.channels.proc import busy_seconds, cpu_seconds, processes, resident, slab
from tests.benchmarks.channels.wire import PLACEHOLDER, numbered

__all__ = [
    "CLOSED_LOOPS",
    "FEW",
    "Echo",
    "Load",
    "Window",
    "Workload",
    "collect_no_more",
    "drain",
    "join_crowd",
    "run_enough",
    "times",
    "topics_of",
]

_ECHO = json.dumps({"x": "x" * 32})
_PAD = "x" * 91
_NEW = f'{{"m":"{_PAD}_{PLACEHOLDER}"}}'
_FIRST = 10_000_000
_HEARTBEAT = '[null,"1","phoenix","heartbeat",{}]'
_STEP = 500
_SILENCE = 15.0

FEW = 100
"""The number of clients with which the flat rows compare the whole crowd."""

clock = time.perf_counter


@frozen
class Load:
    """The size of a workload.

    Attributes:
        connections: clients at a time.
        in_flight: unanswered pushes per client, or unfinished broadcasts per room.
        concurrency: clients that connect, join or crash at a time.
        operations: the total number of joins or crashes. The other workloads are limited by time.
        seconds: measured time.
        warm_up: seconds before the measured time.
        pids: processes of the server. Their descendants count too.
        reconnects: True if a crash ends the whole connection, so that the client has to connect again.
        timeout: seconds for all clients to join.
        drain: seconds for the last answers to arrive. Answers that arrive later count as lost.
        extra: seconds of further measured time for a server that is too slow for `seconds`.
    """

    connections: int = 100
    in_flight: int = 1
    concurrency: int = 32
    operations: int = 0
    seconds: float = 3.0
    warm_up: float = 0.5
    pids: Sequence[int] = ()
    reconnects: bool = False
    timeout: float = 60.0
    drain: float = 20.0
    extra: float = 20.0


class Window:
    """The measured time: CPU of the server, of the generator and of everything else."""

    def __init__(self, pids: Sequence[int]) -> None:
        self._pids = [each for pid in pids for each in processes(pid)]
        self._server = cpu_seconds(self._pids)
        self._own, self._busy, self._began = time.process_time(), busy_seconds(), clock()

    def end(self, operations: int) -> dict[str, float | None]:
        """Return the figures of the window, given its number of operations."""
        seconds = clock() - self._began
        own = time.process_time() - self._own
        server = cpu_seconds(self._pids) - self._server
        others = busy_seconds() - self._busy - own - server
        knows = bool(self._pids)
        return {
            "operations": operations,
            "seconds": seconds,
            "rate": operations / seconds,
            "us_per_op": server / operations * 1e6 if knows and operations else None,
            "server_share": server / seconds if knows else None,
            "generator_share": own / seconds,
            "other_share": max(0.0, others / seconds) if knows else None,
        }


def times(seconds: Sequence[float]) -> dict[str, float | None]:
    found = latencies(seconds)
    names = ("p50", "p99", "mean", "most")
    return {f"{name}_ms": getattr(found, name) if found else None for name in names}


def topics_of(prefix: str, count: int, *, shared: bool = False) -> list[str]:
    # A server at a URL may still have the rooms of an earlier run, so each generator uses new names.
    run = os.getpid()
    return [f"room:{prefix}{run}" if shared else f"room:{prefix}{run}-{n}" for n in range(count)]


def join_crowd(
    crowd: Crowd, topics: Sequence[str], load: Load, others: Sequence[Client] = ()
) -> list[Client]:
    """Join many clients. Meanwhile, send heartbeats from clients that have joined already.

    The server closes clients that send nothing for a minute. On a busy machine, thousands of joins take that long.

    Args:
        crowd: the crowd of the new clients.
        topics: the topic of each new client.
        load: its `timeout` limits each step of 500 joins.
        others: clients that have joined before. They now send only heartbeats.
    """
    clients: list[Client] = []
    heard = dict.fromkeys(others, clock())
    for client in others:
        client.on_text = crowd.ignore
    for start in range(0, len(topics), _STEP):
        joined = crowd.join_many(topics[start : start + _STEP], 64, timeout=load.timeout)
        clients += joined
        now = clock()
        heard.update(dict.fromkeys(joined, now))
        for client, since in heard.items():
            if now - since > _SILENCE:
                client.say(_HEARTBEAT)
                heard[client] = now
    crowd.run_for(0.3)
    return clients


def collect_no_more() -> None:
    gc.collect()
    gc.disable()


@define(eq=False)
class Echo:
    """Each client pushes, and pushes again after each answer."""

    crowd: Crowd
    load: Load
    taken: array[float]
    counts: bool = False
    goes_on: bool = True
    wrong: int = 0

    def begin(self, client: Client) -> None:
        text = self.crowd.dialect.push(client.topic, "1", PLACEHOLDER, "echo", _ECHO)
        client.waiting = (*numbered(text), deque[float]())
        client.on_text = self.answered
        for _ in range(self.load.in_flight):
            self.fire(client)

    def fire(self, client: Client) -> None:
        before, after, sent = client.waiting
        sent.append(clock())
        client.send(b"%b%d%b" % (before, client.counter, after))
        client.counter += 1

    def fire_at(self, client: Client, intended: float) -> None:
        """Push once, and measure the latency from the intended time, even if the generator is late."""
        before, after, sent = client.waiting
        sent.append(intended)
        client.send(b"%b%d%b" % (before, client.counter, after))
        client.counter += 1

    def answered(self, client: Client, text: bytes, now: float) -> None:
        if self.crowd.dialect.reply_number(text) != client.expected:
            if self.crowd.dialect.keep_alive(text) is None:
                self.wrong += 1
            self.crowd.ignore(client, text, now)
            return
        client.expected += 1
        sent = client.waiting[2].popleft()
        if self.counts:
            self.taken.append(now - sent)
        if self.goes_on:
            self.fire(client)


@define(eq=False)
class _Rotation(Echo):
    """After each answer, the next client pushes. So all clients take turns, with few pushes in flight."""

    turn: Iterator[Client] = Factory(lambda: iter(()))

    def fire(self, client: Client) -> None:
        del client  # the next client pushes instead
        Echo.fire(self, next(self.turn))


def echo(crowd: Crowd, load: Load) -> dict[str, Any]:
    """Measure pushes that the server answers with their payload."""
    clients = crowd.join_many(topics_of("e", load.connections), 64, timeout=load.timeout)
    collect_no_more()
    return _echo_of(crowd, load, clients)


def _echo_of(crowd: Crowd, load: Load, clients: Sequence[Client]) -> dict[str, Any]:
    work = Echo(crowd, load, array("d"))
    for client in clients:
        work.begin(client)
    return _measured(work, clients)


def _rotation_of(crowd: Crowd, load: Load, clients: Sequence[Client]) -> dict[str, Any]:
    work = _Rotation(crowd, evolve(load, in_flight=0), array("d"), turn=cycle(clients))
    for client in clients:
        work.begin(client)
    for client in clients[:FEW]:
        work.fire(client)
    return _measured(work, clients)


def _measured(work: Echo, clients: Sequence[Client]) -> dict[str, Any]:
    crowd, load = work.crowd, work.load
    crowd.run_for(load.warm_up)
    window, work.counts = Window(load.pids), True
    run_enough(crowd, load, work.taken, clients)
    result = window.end(len(work.taken))
    work.counts = work.goes_on = False
    drain(crowd, load.drain, lambda: all(client.expected == client.counter for client in clients))
    lost = sum(client.counter - client.expected for client in clients)
    return {**result, **times(work.taken), "lost": lost, "wrong": work.wrong}


def flat_echo(crowd: Crowd, load: Load) -> dict[str, Any]:
    """Measure echo with a few clients, with the same few among many silent ones, and twice with all clients.

    The first measurement of all clients has as many pushes in flight as that of the few clients. It shows the cost of
    cache misses, because the server's memory for all clients exceeds the processor's cache. In the second measurement,
    each client has a push in flight.
    """
    topics = topics_of("e", load.connections)
    few = crowd.join_many(topics[:FEW], 64, timeout=load.timeout)
    collect_no_more()
    alone = _echo_of(crowd, load, few)
    others = join_crowd(crowd, topics[FEW:], load, few)
    among = _echo_of(crowd, load, few)
    everyone = [*few, *others]
    in_turn = _rotation_of(crowd, load, everyone)
    compared = _compared(alone, among, _echo_of(crowd, load, everyone))
    return {**compared, "us_in_turn": in_turn["us_per_op"]}


def _compared(
    alone: dict[str, Any], among: dict[str, Any], together: dict[str, Any]
) -> dict[str, Any]:
    """Return the figures of the whole crowd, and its cost compared with that of the few clients alone."""
    few, many, everyone = (each["us_per_op"] for each in (alone, among, together))
    phases = (alone, among, together)
    return {
        **together,
        "us_alone": few,
        "us_among": many,
        "among_to_alone": many / few if few and many else None,
        "all_to_alone": everyone / few if few and everyone else None,
        "lost": sum(phase["lost"] for phase in phases),
        "wrong": sum(phase["wrong"] for phase in phases),
    }


def run_enough(crowd: Crowd, load: Load, taken: Sequence[float], clients: Sequence[Client]) -> None:
    """Run for the measured time. If there were few answers, run longer, because few samples mean little."""
    crowd.run_for(load.seconds)
    end, enough = clock() + load.extra, 2 * len(clients) * load.in_flight
    while len(taken) < enough and clock() < end:
        crowd.turn(0.02)


def drain(crowd: Crowd, seconds: float, holds: Callable[[], bool]) -> None:
    """Wait for the last answers."""
    end = clock() + seconds
    while not holds() and clock() < end:
        crowd.turn(0.02)


@define(eq=False)
class _Fanout:
    """One client broadcasts again whenever all members have received its last broadcast."""

    crowd: Crowd
    publisher: Client
    members: int
    taken: array[float]
    frame: tuple[bytes, bytes]
    sent: list[float]
    left: list[int]
    counts: bool = False
    goes_on: bool = True
    wrong: int = 0

    def fire(self) -> None:
        before, after = self.frame
        number = _FIRST + len(self.sent)
        self.sent.append(clock())
        self.left.append(self.members)
        self.publisher.send(b"%b%d%b" % (before, number, after))

    def heard(self, client: Client, text: bytes, now: float) -> None:
        number = text[-11:-3]
        if not number.isdigit():
            self.crowd.ignore(client, text, now)  # for example, the answer to the push itself
            return
        if int(number) != client.expected:
            self.wrong += 1
            return
        which = client.expected - _FIRST
        client.expected += 1
        if self.counts:
            self.taken.append(now - self.sent[which])
        self.left[which] -= 1
        if not self.left[which] and self.goes_on:
            self.fire()


def fanout(crowd: Crowd, load: Load) -> dict[str, Any]:
    """Measure broadcasts to a room. Each frame that one member gets is one operation."""
    topics = topics_of("f", load.connections, shared=True)
    clients = crowd.join_many(topics, 64, timeout=load.timeout)
    collect_no_more()
    return _fanout_to(crowd, load, clients)


def _fanout_to(crowd: Crowd, load: Load, clients: Sequence[Client]) -> dict[str, Any]:
    text = crowd.dialect.push(clients[0].topic, "1", "1", "new_msg", _NEW)
    work = _Fanout(crowd, clients[0], len(clients), array("d"), numbered(text), [], [])
    for client in clients:
        client.expected = _FIRST
        client.on_text = work.heard
    for _ in range(load.in_flight):
        work.fire()
    crowd.run_for(load.warm_up)
    window, work.counts = Window(load.pids), True
    run_enough(crowd, load, work.taken, clients)
    result = window.end(len(work.taken))
    work.counts = work.goes_on = False
    drain(crowd, load.drain, lambda: not any(work.left))
    return {**result, **times(work.taken), "lost": sum(work.left), "wrong": work.wrong}


def flat_fanout(crowd: Crowd, load: Load) -> dict[str, Any]:
    """Measure broadcasts to a small room, to the small room while a large room exists, and to the large room."""
    few = crowd.join_many(topics_of("a", FEW, shared=True), 64, timeout=load.timeout)
    collect_no_more()
    alone = _fanout_to(crowd, load, few)
    many = join_crowd(crowd, topics_of("b", load.connections, shared=True), load, few)
    among = _fanout_to(crowd, load, few)
    return _compared(alone, among, _fanout_to(crowd, load, many))


def join(crowd: Crowd, load: Load) -> dict[str, Any]:
    """Measure new connections: TCP, upgrade and the join of one room. All connections stay open."""
    taken = array("d")

    def joined(client: Client) -> None:
        taken.append(clock() - client.began)

    collect_no_more()
    window = Window(load.pids)
    topics = topics_of("j", load.operations)
    crowd.join_many(topics, load.concurrency, joined, timeout=load.timeout)
    return {**window.end(len(taken)), **times(taken), "lost": crowd.lost, "wrong": 0}


@define(eq=False)
class _Crash:
    """Each client crashes its channel and joins again. Then it pings a second channel, which must still run."""

    crowd: Crowd
    load: Load
    idle: deque[Client]
    taken: array[float]
    left: int
    done: int = 0
    wrong: int = 0

    def next(self) -> None:
        if self.left:
            self.left -= 1
            self.crash(self.idle.popleft())

    def crash(self, client: Client) -> None:
        client.waiting = ("error", clock())
        client.on_text, client.on_lost = self.heard, self.was_closed
        push = self.crowd.dialect.push
        client.say(push(client.topic, client.join_ref, "2", "boom", "{}"))

    def heard(self, client: Client, text: bytes, now: float) -> None:
        if self.load.reconnects:
            return  # the client waits for the end of the connection instead
        _, ref, topic, event, _ = json.loads(text)
        step, began = client.waiting
        push = self.crowd.dialect.push
        if step == "error" and (topic, event) == (client.topic, "phx_error"):
            client.join_ref = str(int(client.join_ref) + 1)
            client.waiting = ("join", began)
            client.say(push(topic, client.join_ref, client.join_ref, "phx_join", "{}"))
        elif step == "join" and (topic, ref, event) == (client.topic, client.join_ref, "phx_reply"):
            self.taken.append(now - began)
            client.waiting = ("sibling", began)
            client.say(push(f"{client.topic}-sibling", "s", "p", "ping", "{}"))
        elif step == "sibling" and ref == "p":
            self.finish(client)
        else:
            self.wrong += 1

    def was_closed(self, client: Client) -> None:
        if not self.load.reconnects:
            self.wrong += 1
            return
        began = client.waiting[1]

        def joined(new: Client) -> None:
            self.taken.append(clock() - began)
            self.finish(new)

        self.crowd.join(client.number, client.topic, joined, self.was_closed)

    def finish(self, client: Client) -> None:
        client.on_text = self.crowd.ignore
        self.idle.append(client)
        self.done += 1
        self.next()


def crash(crowd: Crowd, load: Load) -> dict[str, Any]:
    """Measure crashes. An operation is a crash, its error frame, a new join, and a ping of a second channel.

    If a crash ends the whole connection, an operation is a crash, a new connection and a join.
    """
    clients = crowd.join_many(topics_of("c", load.connections), 64, timeout=load.timeout)
    if not load.reconnects:
        _join_siblings(crowd, clients, load.timeout)
    work = _Crash(crowd, load, deque(clients), array("d"), load.operations)
    collect_no_more()
    window = Window(load.pids)
    for _ in range(min(load.concurrency, load.connections, load.operations)):
        work.next()
    crowd.run_until(lambda: work.done == load.operations, load.timeout, "crashing all channels")
    return {**window.end(work.done), **times(work.taken), "lost": crowd.lost, "wrong": work.wrong}


def _join_siblings(crowd: Crowd, clients: Sequence[Client], timeout: float) -> None:
    joined: list[Client] = []

    def heard(client: Client, text: bytes, now: float) -> None:
        if crowd.dialect.joining(text, f"{client.topic}-sibling", "s")[1]:
            joined.append(client)

    for client in clients:
        client.on_text = heard
        client.say(crowd.dialect.push(f"{client.topic}-sibling", "s", "s", "phx_join", "{}"))
    crowd.run_until(lambda: len(joined) == len(clients), timeout, "joining the second channels")


def idle(crowd: Crowd, load: Load) -> dict[str, Any]:
    """Measure the memory of connections that have joined a room and pushed once."""
    pids = [each for pid in load.pids for each in processes(pid)]
    # The first clients make the server load modules and fill its caches.
    crowd.join_many(topics_of("w", 10), 10, timeout=load.timeout)
    crowd.run_for(0.2)
    before, kernel_before = resident(pids), slab()
    clients = crowd.join_many(
        topics_of("i", load.connections), load.concurrency, timeout=load.timeout
    )
    crowd.run_for(0.5)
    joined, kernel = resident(pids), slab()
    work = Echo(crowd, Load(in_flight=1), array("d"), goes_on=False)
    for client in clients:
        work.begin(client)
    drain(crowd, load.drain, lambda: all(client.expected == client.counter for client in clients))
    crowd.run_for(0.5)
    count = len(clients)
    return {
        "operations": count,
        "bytes_per_connection": (resident(pids) - before) / count if pids else None,
        "bytes_joined": (joined - before) / count if pids else None,
        # The kernel holds both ends of each connection, because server and clients share this machine.
        "kernel_bytes": (kernel - kernel_before) / count / 2,
        "lost": sum(client.counter - client.expected for client in clients),
        "wrong": work.wrong,
    }


Workload = Callable[[Crowd, Load], dict[str, Any]]

CLOSED_LOOPS: dict[str, Workload] = {
    "echo": echo,
    "fanout": fanout,
    "flat-echo": flat_echo,
    "flat-fanout": flat_fanout,
    "join": join,
    "crash": crash,
    "idle": idle,
}
"""The workloads by name."""

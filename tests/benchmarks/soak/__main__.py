"""Two workers, a second node and Valkey under all kinds of clients and faults: `make soak MINUTES=30`.

    members and other clients ──▶ web: a parent and two workers ─┐
                                                                 ├── Valkey: broadcasts, presences, a history
    members ────────────────────▶ api: a parent and one worker ──┘

The soak kills a worker with SIGKILL each minute, and the parent of the workers twice. It restarts Valkey twice, and
replaces the workers four times. Members number their messages, so the soak knows which messages each of them missed.
The verdict compares these numbers with the counters of the nodes. The exit code is 0 if all checks passed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import sys
import tempfile
import time
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import trio
from attrs import Factory, define
from rich import box
from rich.console import Console
from rich.table import Table

from channels.pubsub.workers.health import HealthError
from tests.benchmarks.channels.proc import processes, resident
from tests.benchmarks.soak.app import DOWN_PERIOD, DRAIN_TIMEOUT, PRESENCE_HEARTBEAT
from tests.benchmarks.soak.clients import KINDS, World, live
from tests.benchmarks.soak.faults import Fault, FaultKind, Planned, count_outside, plan
from tests.benchmarks.soak.ledger import (
    Account,
    Delivery,
    Scrape,
    account,
    account_copies,
    presence_differences,
)
from tests.benchmarks.soak.members import Log, Member
from tests.benchmarks.soak.verdict import (
    COUNTERS,
    Check,
    Sample,
    checks,
    delivery_checks,
    fault_checks,
    parse_metrics,
    rss_near,
)
from tests.integration.valkey import Valkey, valkey
from tests.integration.worker_servers import WorkersServer, is_worker, settled

WORKERS = 2
GROUPS = 3
MEMBERS = {"web": 4, "api": 2}
"""The number of members of each group, by their server."""

EXPECTED = (
    "lost_replies",
    "lost_broadcasts",
    "failed_rejoins",
    "refused",
    "not_accepted",
    "cut",
    "replacements",
    "member_crashes",
)
"""The counters that the verdict needs. A counter that no client has increased is 0."""

# The documentation recommends these settings for a history that loses nothing.
VALKEY = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}

ORPHANS = 30.0
"""Seconds that workers may outlive their parent. They drain for up to ten seconds."""

SERVING = WORKERS * (DRAIN_TIMEOUT + 40.0)
"""Seconds within which a server must serve again after a fault.

A replacement stops one worker after the other. The documentation allows each its drain and 40 seconds.
"""

JOINING = SERVING + 10.0
"""Seconds within which all members must be joined again after a fault."""

AGREEING = {
    # A killed node keeps its presences for this time, if no node with its name follows. Others notice at a heartbeat.
    FaultKind.KILL_WORKER: DOWN_PERIOD + 2 * PRESENCE_HEARTBEAT,
    FaultKind.KILL_PARENT: DOWN_PERIOD + 2 * PRESENCE_HEARTBEAT,
    # Up to five seconds until the adapter connects again, and two heartbeats.
    FaultKind.KILL_VALKEY: 5.0 + 2 * PRESENCE_HEARTBEAT,
    FaultKind.RESTART_VALKEY: 5.0 + 2 * PRESENCE_HEARTBEAT,
    # A node that stops in order says goodbye.
    FaultKind.REPLACE: 2 * PRESENCE_HEARTBEAT,
}
"""Seconds within which all clients must see the same presences, once all members are joined again after a fault."""

VALKEY_AWAY = 3.0
"""Seconds without Valkey, after a SIGKILL. Messages wait for a second, so the nodes drop some."""

# Seconds until the nodes have noticed all lost messages of a fault: two heartbeats of the adapter.
_NOTICING = 4.0
_LONGEST_WARM_UP = 300.0
_PATIENCE = 60.0

_KILLS = (FaultKind.KILL_WORKER, FaultKind.KILL_PARENT)
_VALKEY_FAULTS = (FaultKind.KILL_VALKEY, FaultKind.RESTART_VALKEY)


@define(eq=False)
class Soak:
    """One run: its servers, its clients and its measurements."""

    web: WorkersServer
    api: WorkersServer
    valkey: Valkey
    seconds: float
    world: World
    console: Console
    log: Log = Factory(Log)
    members: list[Member] = Factory(list)
    faults: list[Fault] = Factory(list)
    scrapes: dict[int, list[Scrape]] = Factory(lambda: defaultdict(list))
    counters: dict[int, dict[str, float]] = Factory(dict)
    killed: dict[int, float] = Factory(dict)
    outages: list[tuple[float, float]] = Factory(list)
    samples: dict[int, list[Sample]] = Factory(lambda: defaultdict(list))
    before: dict[str, dict[str, float]] = Factory(dict)
    after: dict[str, dict[str, float]] = Factory(dict)
    memory: dict[str, tuple[float, float]] = Factory(dict)
    processes: int = 0
    left_over: int = 0
    seen: set[int] = Factory(set)
    _began: float = 0.0
    _has_parent: bool = True

    @property
    def servers(self) -> dict[str, WorkersServer]:
        return {"web": self.web, "api": self.api}

    async def run(self) -> None:
        """Run the clients, inject the faults and sample the memory."""
        self.before = await self.quiet()
        self._began = trio.current_time()
        for group in range(GROUPS):
            for server, count in MEMBERS.items():
                for number in range(count):
                    name = f"{server}{group}.{number}"
                    port = self.servers[server].port
                    self.members.append(Member(name, self.world, port, group, self.log))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch, nursery.cancel_scope)
            async with trio.open_nursery() as staying:
                for member in self.members:
                    staying.start_soon(member.live)
                async with trio.open_nursery() as clients:
                    for kind, kind_count in KINDS.items():
                        for number in range(kind_count):
                            clients.start_soon(live, self.world, kind, number)
                    await self._inject()
                    await trio.sleep_until(self._began + self.seconds)
                    self.memory = await trio.to_thread.run_sync(self._growth)
                    self.world.is_over = True
                await self._finish()
                staying.cancel_scope.cancel()
            nursery.cancel_scope.cancel()
        self.after = await self.quiet()
        self.processes = sum(len(processes(server.pid)) for server in self.servers.values())

    async def _finish(self) -> None:
        """Let the members finish their edits and hear everything, and read the last counters."""
        for member in self.members:
            member.is_quiet = True
        with trio.move_on_after(_PATIENCE):
            await _until(lambda: all(each.is_idle for each in self.members))
        await trio.sleep(_NOTICING)
        await self._read_counters()

    # The measurements

    async def quiet(self) -> dict[str, dict[str, float]]:
        """Wait until the workers have no clients, and return the figures of each worker."""
        deadline = trio.current_time() + _PATIENCE
        while True:
            figures = await self._scrape()
            left = ("ashtree_channels", "ashtree_presence_topics")
            busy = sum(each.get(name, 0.0) for each in figures.values() for name in left)
            busy += sum(each.get("ashtree_connections", 0.0) for each in figures.values()) - 1
            if (len(figures) == WORKERS + 1 and busy <= 0) or trio.current_time() > deadline:
                return figures
            await trio.sleep(0.5)

    async def _scrape(self) -> dict[str, dict[str, float]]:
        """Return the figures of each worker of each server."""
        found: dict[str, dict[str, float]] = {}
        for name, server in self.servers.items():
            figures = await trio.to_thread.run_sync(_read_metrics, server.port)
            found |= {f"{name} {worker}": each for worker, each in figures.items()}
        return found

    async def _read_counters(self) -> None:
        now = trio.current_time()
        for figures in (await self._scrape()).values():
            if "soak_pid" in figures:
                pid = int(figures["soak_pid"])
                lost = figures.get("ashtree_pubsub_lost_messages_total", 0.0)
                self.scrapes[pid].append(Scrape(now, lost))
                # The last ones of a killed node stay.
                self.counters[pid] = figures

    async def _watch(self, scope: trio.CancelScope) -> None:
        shown = 0.0
        while True:
            now = trio.current_time() - self._began
            pids = [pid for server in self.servers.values() for pid in processes(server.pid)]
            self.seen.update(pids)
            for pid in pids:
                self.samples[pid].append(Sample(now, resident([pid])))
            if now >= shown:
                shown += max(10.0, self.seconds / 20)
                self._show(now, resident(pids))
            if self.api.has_ended or (self._has_parent and self.web.has_ended):
                self.console.print("a server has ended")
                scope.cancel()
            await trio.sleep(1.0)

    def _show(self, now: float, rss: int) -> None:
        counts = self.world.counts
        self.console.print(
            f"{now:6.0f} s  {rss / 1e6:6.1f} MB  "
            + "  ".join(f"{name} {counts[name]:,}" for name in sorted(counts)),
            highlight=False,
        )

    def _growth(self) -> dict[str, tuple[float, float]]:
        """Return the memory of each process that lives to the end, once it was warm and now."""
        warm_up = min(_LONGEST_WARM_UP, self.seconds / 6)
        pids = {
            "web's parent": self.web.pid,
            "web's oldest worker": next(iter(self._serving()), 0),
            "api's parent": self.api.pid,
            "api's worker": self.api.workers()[0].pid,
        }
        found = {}
        for name, pid in pids.items():
            samples = self.samples.get(pid or 0, [])
            first = samples[0].seconds if samples else 0.0
            # The last sample, and not the planned end, because the faults may take longer than planned.
            last = samples[-1].seconds if samples else 0.0
            found[name] = rss_near(samples, first + warm_up), rss_near(samples, last)
        return found

    # The faults

    async def _inject(self) -> None:
        for planned in plan(self.seconds):
            # A fault whose time has passed comes now: the recovery from the one before took longer than the interval.
            await trio.sleep_until(self._began + planned.seconds)
            await self._read_counters()
            fault = Fault(planned.kind, trio.current_time())
            self.faults.append(fault)
            await self._cause(planned, fault)
            fault.served = trio.current_time() - fault.began
            await self._recover(fault)
            self._show_fault(fault)

    async def _cause(self, planned: Planned, fault: Fault) -> None:
        match planned.kind:
            case FaultKind.KILL_WORKER:
                await self._kill_worker(planned)
            case FaultKind.KILL_PARENT:
                await self._kill_parent(fault)
            case FaultKind.KILL_VALKEY:
                self.valkey.kill()
                await trio.sleep(VALKEY_AWAY)
                await trio.to_thread.run_sync(self.valkey.start)
            case FaultKind.RESTART_VALKEY:
                await trio.to_thread.run_sync(self.valkey.end)
                await trio.to_thread.run_sync(self.valkey.start)
            case FaultKind.REPLACE:
                self.web.send(signal.SIGHUP)
                await trio.sleep(1.0)
                await _until(lambda: settled(self.web))
                self.world.counts["replacements"] += 1
        if planned.kind in _VALKEY_FAULTS:
            self.outages.append((fault.began, trio.current_time()))

    async def _kill_worker(self, planned: Planned) -> None:
        pids = await trio.to_thread.run_sync(self._serving)
        # In the second half, the oldest worker stays, so that a leak shows in its memory.
        pid = self.world.random.choice(pids if planned.seconds < self.seconds / 2 else pids[1:])
        self._kill(pid)

        def has_successor() -> bool:
            serving = self._serving()
            return len(serving) == WORKERS and pid not in serving

        await _until(has_successor)

    async def _kill_parent(self, fault: Fault) -> None:
        """Kill the parent of the workers, and start another one, as systemd would."""
        orphans = await trio.to_thread.run_sync(self._serving)
        self._has_parent = False
        assert self.web.process is not None
        self.web.process.kill()
        await trio.to_thread.run_sync(self.web.wait)
        pause = 0.1
        while not await self._start_parent():
            fault.attempts += 1
            if trio.current_time() > fault.began + ORPHANS and not fault.note:
                left = [pid for pid in orphans if is_worker(pid)]
                fault.note = (
                    f"{len(left)} workers still ran {ORPHANS:g} s after the SIGKILL of their parent"
                )
                for pid in left:
                    self._kill(pid)
            await trio.sleep(pause)
            pause = min(2 * pause, 2.0)
        fault.attempts += 1
        self._has_parent = True

    async def _start_parent(self) -> bool:
        """Start a parent. Return False if it has ended, as it does while the port is taken."""
        before = self.web.output().count("Serving on")
        self.web.start()
        await _until(lambda: self.web.has_ended or self.web.output().count("Serving on") > before)
        return not self.web.has_ended

    def _kill(self, pid: int) -> None:
        """Kill a worker, and note the time."""
        self.killed[pid] = trio.current_time()
        _kill(pid)

    def end_orphans(self) -> None:
        """Kill the workers of parents that were killed. Without this, they would outlive the soak."""
        present = {pid for server in self.servers.values() for pid in processes(server.pid)}
        for pid in self.seen - present:
            if is_worker(pid):
                self.left_over += 1
                _kill(pid)

    def _serving(self) -> list[int]:
        """Return the process ids of the workers of `web` that serve, the oldest first."""
        try:
            workers = self.web.workers()
        except HealthError:
            return []
        serving = [each for each in workers if each.state == "serving"]
        serving.sort(key=lambda each: each.uptime or 0.0, reverse=True)
        return [each.pid for each in serving if each.pid is not None]

    async def _recover(self, fault: Fault) -> None:
        """Wait until all members are joined, and then until all of them see the same presences."""
        with trio.move_on_after(JOINING):
            await _until(lambda: all(each.has_joined for each in self.members))
            fault.joined = trio.current_time() - fault.began
        began = trio.current_time()
        with trio.move_on_after(AGREEING[fault.kind]):
            await _until(lambda: not self._differences())
            fault.agreed = trio.current_time() - began
        if fault.agreed is None:
            fault.note = fault.note or self._differences()[0]
        await trio.sleep(_NOTICING)
        fault.ended = trio.current_time()

    def _differences(self) -> list[str]:
        found: list[str] = []
        for group in range(GROUPS):
            there = [each for each in self.members if each.group == group and each.is_present]
            found += presence_differences(
                {each.name: each.stay for each in there},
                {
                    each.name: {key: list(refs.values()) for key, refs in each.view.items()}
                    for each in there
                },
            )
        return found

    def _show_fault(self, fault: Fault) -> None:
        self.console.print(
            f"{fault.began - self._began:6.0f} s  {fault.kind.value}: {_seconds('serving', fault.served)}, "
            f"{_seconds('joined', fault.joined)}, {_seconds('same presences', fault.agreed)} later"
            + (f", {fault.attempts} starts" if fault.attempts else "")
            + (f"; {fault.note}" if fault.note else ""),
            highlight=False,
        )

    # The verdict

    def delivery(self) -> Delivery:
        """Return the fate of all messages of the members."""
        found = account(self.log.said, self.log.stays, self.scrapes, self.killed, self.outages)
        account_copies(found, self.log.edits, self.log.copies)
        return found

    def totals(self) -> dict[str, float]:
        """Return the sums of the counters of all nodes, killed ones included."""
        return {
            name: sum(each.get(name, 0.0) for each in self.counters.values()) for name in COUNTERS
        }

    def unexpected(self) -> list[str]:
        """Return the log entries of both servers that neither a client nor a fault has caused."""
        return [
            line for server in self.servers.values() for line in unexpected_lines(server.output())
        ]

    def verdict(self, delivery: Delivery, exit_codes: list[int]) -> list[Check]:
        """Return all checks of a finished run."""
        counts = self.world.counts
        for name in EXPECTED:
            counts.setdefault(name, 0)
        times = self.world.times
        counts["refused"] = count_outside(times["refused"], self.faults, [FaultKind.KILL_PARENT])
        counts["not_accepted"] = count_outside(times["not_accepted"], self.faults, _KILLS)
        counts["cut"] = count_outside(times["cut"], self.faults, _KILLS)
        return [
            *checks(
                counts=counts,
                memory=self.memory,
                before=self.before,
                after=self.after,
                servers=len(self.servers),
                processes=self.processes,
                left_over=self.left_over + sum(is_worker(pid) for pid in self.seen),
                exit_codes=exit_codes,
                unexpected=self.unexpected(),
            ),
            *delivery_checks(delivery, self.totals()),
            *fault_checks(
                self.faults,
                most_serving=SERVING,
                most_joining=JOINING,
                most_agreeing=AGREEING,
            ),
        ]


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


async def _until(holds: Callable[[], bool]) -> None:
    # The servers answer requests for their state, but send no event.
    while not await trio.to_thread.run_sync(holds):  # noqa: ASYNC110
        await trio.sleep(0.05)


def _seconds(what: str, seconds: float | None) -> str:
    return f"not {what}" if seconds is None else f"{what} after {seconds:.1f} s"


def _read_metrics(port: int) -> dict[str, dict[str, float]]:
    asked = urllib.request.Request(
        f"http://127.0.0.1:{port}/metrics", headers={"Connection": "close"}
    )
    with urllib.request.urlopen(asked, timeout=_PATIENCE) as answer:
        return parse_metrics(answer.read().decode())


MOST_LINES = 5
"""Unexpected log entries that the report shows in full."""

CAUSED = (
    "SoakCrash",
    "AppendFailed",
    "AnswerNotKept",
    # The log line of AnswerNotKept. The storage was killed between a push and the note of its answer.
    "for the durable topic 'document:",
    "the redis storage of a history failed",
    "was killed by SIGKILL",
)
"""Errors that a client asked for, or that a fault causes."""


def unexpected_lines(log: str) -> list[str]:
    """Return the entries of a JSON log that neither a client nor a fault has caused."""
    found = []
    for line in log.splitlines():
        if not line.startswith("{"):
            continue
        entry = json.loads(line)
        is_error = entry.get("level", "").lower() in ("error", "critical")
        if is_error and not any(each in line for each in CAUSED):
            found.append(line)
    return found


def accounts_table(accounts: dict[str, Account]) -> Table:
    """Return a table with the messages of each member."""
    fates = sorted({fate for each in accounts.values() for fate in each.fates})
    table = Table(box=box.SIMPLE)
    for column in ("member", *fates, "twice", "durable", "lost", "twice"):
        table.add_column(column, justify="left" if column == "member" else "right")
    for name, each in sorted(accounts.items()):
        figures = [
            *(each.fates[fate] for fate in fates),
            each.doubled,
            each.durable,
            each.durable_lost,
            each.durable_doubled,
        ]
        table.add_row(name, *(f"{figure:,}" for figure in figures))
    return table


@contextlib.contextmanager
def _started(folder: Path, name: str, workers: int, redis: str) -> Iterator[WorkersServer]:
    (folder / name).mkdir()
    server = WorkersServer(
        folder / name,
        workers,
        "--log-level",
        "error",
        "--log-format",
        "json",
        target="tests.benchmarks.soak.app:endpoint",
        environment={"REDIS_URL": redis, "NODE_NAME": name},
    )
    try:
        server.serve()
        yield server
    finally:
        server.close()


def main() -> None:
    """Run the soak, print its verdict, and exit with 0 if all checks passed."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=1, help="of the clients' randomness")
    options = parser.parse_args()
    # Without this, SIGTERM would leave the servers behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    console = Console(width=None if sys.stdout.isatty() else 160)
    with (
        tempfile.TemporaryDirectory() as name,
        valkey(Path(name) / "valkey", VALKEY) as redis,
        _started(Path(name), "web", WORKERS, redis.url) as web,
        _started(Path(name), "api", 1, redis.url) as api,
    ):
        world = World(web.port, random.Random(options.seed))
        soak = Soak(web, api, redis, options.minutes * 60, world, console)
        try:
            trio.run(soak.run)
        finally:
            soak.end_orphans()
        exit_codes = []
        for server in soak.servers.values():
            server.send(signal.SIGTERM)
            exit_codes.append(server.wait())
        time.sleep(1.0)
        delivery = soak.delivery()
        found = soak.verdict(delivery, exit_codes)
        unexpected = soak.unexpected()
    console.print(accounts_table(delivery.accounts))
    table = Table(box=box.SIMPLE)
    for column in ("check", "", "figures"):
        table.add_column(column)
    for check in found:
        table.add_row(check.what, "PASS" if check.passed else "FAILED", check.figures)
    console.print(table)
    console.print(f"closing codes that clients got: {dict(world.codes)}", highlight=False)
    # The table shows the beginning of one entry, and a traceback is at the end.
    for line in unexpected[:MOST_LINES]:
        console.print(line, highlight=False, markup=False)
    sys.exit(not all(check.passed for check in found))


if __name__ == "__main__":
    main()

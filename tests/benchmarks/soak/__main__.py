"""A server with two workers and many kinds of clients, for some minutes: `make soak MINUTES=30`.

In the first half, the soak replaces the workers several times. The second half has no replacements, so that a leak has
time to show in the memory of a worker. The exit code is 0 if the server lost no message and left no resource in use.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import trio
from attrs import Factory, define
from rich import box
from rich.console import Console
from rich.table import Table

from tests.benchmarks.channels.proc import processes, resident
from tests.benchmarks.soak.clients import KINDS, World, live
from tests.benchmarks.soak.verdict import Check, Sample, checks, parse_metrics, rss_near
from tests.integration.worker_servers import WorkersServer, is_worker, settled

WORKERS = 2
REPLACEMENTS = (0.05, 0.2, 0.35, 0.5)
"""The times of the replacements of the workers, as fractions of the run."""

EXPECTED = ("lost_replies", "lost_broadcasts", "failed_rejoins", "refused", "cut", "replacements")
"""The counters that the verdict needs. A counter that no client has increased is 0."""

_LONGEST_FIRST_PART = 300.0
_PATIENCE = 60.0


@define
class Soak:
    """One run: its server, its clients and its measurements."""

    server: WorkersServer
    seconds: float
    world: World
    console: Console
    samples: list[Sample] = Factory(list)
    before: dict[str, dict[str, float]] = Factory(dict)
    after: dict[str, dict[str, float]] = Factory(dict)
    processes: int = 0
    is_replacing: bool = False
    seen: set[int] = Factory(set)

    @property
    def first_part(self) -> float:
        """Seconds until the soak measures the memory that it compares with the memory at the end."""
        return min(_LONGEST_FIRST_PART, self.seconds / 6)

    async def run(self) -> None:
        """Run the clients, replace workers and sample the memory."""
        self.before = await self.quiet()
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch, began, nursery.cancel_scope)
            nursery.start_soon(self._replace, began)
            async with trio.open_nursery() as clients:
                for kind, count in KINDS.items():
                    for number in range(count):
                        clients.start_soon(live, self.world, kind, number)
                await trio.sleep(self.seconds)
                self.world.is_over = True
            nursery.cancel_scope.cancel()
        await self._settled()
        self.after = await self.quiet()
        self.processes = len(processes(self.server.pid))

    async def quiet(self) -> dict[str, dict[str, float]]:
        """Wait until the workers have no clients, and return the figures of each worker."""
        deadline = trio.current_time() + _PATIENCE
        while True:
            figures = await trio.to_thread.run_sync(self._scrape)
            busy = sum(each.get("ashtree_channels", 0.0) for each in figures.values())
            busy += sum(each.get("ashtree_connections", 0.0) for each in figures.values()) - 1
            if (len(figures) == WORKERS and busy <= 0) or trio.current_time() > deadline:
                return figures
            await trio.sleep(0.5)

    def _scrape(self) -> dict[str, dict[str, float]]:
        url = f"http://127.0.0.1:{self.server.port}/metrics"
        asked = urllib.request.Request(url, headers={"Connection": "close"})
        with urllib.request.urlopen(asked, timeout=_PATIENCE) as answer:
            return parse_metrics(answer.read().decode())

    async def _watch(self, began: float, scope: trio.CancelScope) -> None:
        shown = 0.0
        while True:
            now = trio.current_time() - began
            pids = processes(self.server.pid)
            self.seen.update(pids)
            rss = resident(pids)
            if not self.is_replacing:  # a replacement runs one worker more
                self.samples.append(Sample(now, rss))
            if now >= shown:
                shown += max(10.0, self.seconds / 20)
                self._show(now, rss)
            if self.server.has_ended:
                self.console.print("the server has ended")
                scope.cancel()
            await trio.sleep(1.0)

    def _show(self, now: float, rss: int) -> None:
        counts = self.world.counts
        self.console.print(
            f"{now:6.0f} s  {rss / 1e6:6.1f} MB  "
            + "  ".join(f"{name} {counts[name]:,}" for name in sorted(counts)),
            highlight=False,
        )

    async def _replace(self, began: float) -> None:
        for part in REPLACEMENTS:
            moment = began + self.seconds * part
            if trio.current_time() > moment:
                continue  # the previous replacement took too long, as it may in a short run
            await trio.sleep_until(moment)
            self.is_replacing = True
            self.server.send(signal.SIGHUP)
            await trio.sleep(1.0)
            await self._settled()
            self.is_replacing = False
            self.world.counts["replacements"] += 1

    async def _settled(self) -> None:
        # The server answers requests for its state, but sends no event.
        while not await trio.to_thread.run_sync(settled, self.server):  # noqa: ASYNC110
            await trio.sleep(0.5)


def unexpected_lines(log: str) -> list[str]:
    """Return the entries of a JSON log that no client caused on purpose."""
    found = []
    for line in log.splitlines():
        if not line.startswith("{"):
            continue
        entry = json.loads(line)
        if entry.get("level", "").lower() in ("error", "critical") and "SoakCrash" not in line:
            found.append(line[:300])
    return found


def verdict(soak: Soak, exit_code: int) -> list[Check]:
    """Return all checks of a finished run."""
    for name in EXPECTED:
        soak.world.counts.setdefault(name, 0)
    return checks(
        counts=soak.world.counts,
        at_base=rss_near(soak.samples, soak.first_part),
        at_end=rss_near(soak.samples, soak.seconds),
        before=soak.before,
        after=soak.after,
        processes=soak.processes,
        left_over=sum(is_worker(pid) for pid in soak.seen),
        exit_code=exit_code,
        unexpected=unexpected_lines(soak.server.output()),
    )


def main() -> None:
    """Run the soak, print its verdict, and exit with 0 if all checks passed."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=1, help="of the clients' randomness")
    options = parser.parse_args()
    # Without this, SIGTERM would leave the server behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    console = Console(width=None if sys.stdout.isatty() else 160)
    with tempfile.TemporaryDirectory() as folder:
        server = WorkersServer(
            Path(folder),
            WORKERS,
            "--log-level",
            "error",
            "--log-format",
            "json",
            target="tests.benchmarks.soak.app:endpoint",
        )
        try:
            server.serve()
            world = World(server.port, random.Random(options.seed))
            soak = Soak(server, options.minutes * 60, world, console)
            trio.run(soak.run)
            server.send(signal.SIGTERM)
            exit_code = server.wait()
            time.sleep(1.0)
            found = verdict(soak, exit_code)
        finally:
            server.close()
    table = Table(box=box.SIMPLE)
    for column in ("check", "", "figures"):
        table.add_column(column)
    for check in found:
        table.add_row(check.what, "PASS" if check.passed else "FAILED", check.figures)
    console.print(table)
    console.print(f"closing codes that clients got: {dict(world.codes)}", highlight=False)
    sys.exit(not all(check.passed for check in found))


if __name__ == "__main__":
    main()

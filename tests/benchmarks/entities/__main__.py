"""Entities on real servers under faults, and a verdict from their fenced history: `make soak-entities`.

    python -m tests.benchmarks.entities --workers 4 --minutes 5     # one machine; the parent of the workers arbitrates
    python -m tests.benchmarks.entities --nodes 3 --minutes 5       # nodes that meet at a real Valkey

All nodes call random keys, 200 times in a second together, and repeat each call until it is answered. Meanwhile the
program kills and stops processes, restarts Valkey and replaces the servers one after the other. At the end it compares
the notes of all callers and entities with the fenced history. The exit code is 0 if all checks passed.
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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import trio
from attrs import Factory, define
from rich import box
from rich.console import Console
from rich.table import Table

from actors import open_runtime
from channels import PubSub
from channels.pubsub.workers.health import HealthError
from supervision import Supervisor
from tests.benchmarks.entities.app import OVER, PATIENCE, history_at, topic_of
from tests.benchmarks.entities.ledger import Account, Fault, account, checks, percentile
from tests.benchmarks.soak.verdict import Check
from tests.integration.servers import Server
from tests.integration.valkey import Valkey, valkey
from tests.integration.worker_servers import WorkersServer, is_worker, settled

APP = "tests.benchmarks.entities.app"
VALKEY = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}
STOPPED = 1.5
"""A process is stopped for this many leases."""

WORKER_STOPPED = 5.0
"""Seconds that a worker is stopped. It has no lease, because the parent knows that it lives."""

VALKEY_AWAY = 3.0

KILL = "kill -9"
STOP = "SIGSTOP"
DEPLOY = "rolling deploy"
KILL_DEPLOYING = "kill -9 in a deploy"
RESTART = "restart of Valkey"
KILL_VALKEY = "kill -9 of Valkey"


class Cluster(Protocol):
    """The servers of a run."""

    kinds: tuple[str, ...]
    folder: Path
    redis_url: str | None
    most_takeover: float
    share: float

    def pids(self) -> list[int]: ...
    def inject(self, fault: Fault, pid: int) -> None: ...
    def stop(self) -> list[int]: ...


class Workers:
    """One server with workers."""

    kinds = (KILL, DEPLOY, KILL_DEPLOYING, KILL, STOP)
    redis_url = None
    most_takeover = 0.3
    share = 0.99

    def __init__(self, folder: Path, count: int, environment: dict[str, str]) -> None:
        self.folder = folder
        self._count = count
        self._server = WorkersServer(
            folder,
            count,
            "--log-level",
            "error",
            target=f"{APP}:endpoint",
            environment=environment,
        )
        self._server.serve()

    def pids(self) -> list[int]:
        """Return the processes of the workers that serve."""
        try:
            workers = self._server.workers()
        except HealthError:
            return []
        return [each.pid for each in workers if each.state == "serving" and each.pid is not None]

    def inject(self, fault: Fault, pid: int) -> None:
        """Cause a fault, and return when all workers serve again."""
        if fault.kind == KILL:
            fault.pids, fault.is_kill = (pid,), True
            os.kill(pid, signal.SIGKILL)
        elif fault.kind == STOP:
            fault.pids = (pid,)
            os.kill(pid, signal.SIGSTOP)
            time.sleep(WORKER_STOPPED)
            os.kill(pid, signal.SIGCONT)
        else:
            self._server.send(signal.SIGHUP)
            time.sleep(1.0)
            if fault.kind == KILL_DEPLOYING:
                # Keys move from and to this worker now.
                pid = random.Random(pid).choice(sorted(self.pids()))
                fault.pids, fault.is_kill, fault.began = (pid,), True, time.monotonic()
                os.kill(pid, signal.SIGKILL)
            _wait_until(lambda: settled(self._server), self._server.output)
        _wait_until(
            lambda: (
                len(self.pids()) == self._count and (fault.kind == STOP or pid not in self.pids())
            ),
            self._server.output,
        )

    def stop(self) -> list[int]:
        """Stop the server in order, and return the exit codes."""
        self._server.send(signal.SIGTERM)
        return [self._server.wait()]

    def close(self) -> None:
        """End all that runs."""
        self._server.close()
        for path in self.folder.glob("*.notes"):
            if is_worker(int(path.stem)):
                os.kill(int(path.stem), signal.SIGKILL)

    def output(self) -> str:
        return self._server.output()


class Nodes:
    """Several servers that meet at one Valkey server."""

    kinds = (KILL, STOP, DEPLOY, RESTART, KILL, KILL_VALKEY)
    share = 1.0

    def __init__(
        self, folder: Path, count: int, redis: Valkey, lease: float, environment: dict[str, str]
    ) -> None:
        self.folder = folder
        self.redis_url: str | None = redis.url
        self.most_takeover = lease + 1.0
        self._redis = redis
        self._lease = lease
        self._servers = [
            Server(
                APP,
                log=folder / f"node{number}.log",
                arguments=("--log-level", "error"),
                environment={
                    **environment,
                    "REDIS_URL": redis.url,
                    "NODE_NAME": f"node{number}",
                    "LEASE": str(lease),
                },
            )
            for number in range(count)
        ]
        for each in self._servers:
            each.start()

    def pids(self) -> list[int]:
        """Return the processes of the nodes."""
        return [each.pid for each in self._servers if each.is_running]

    def inject(self, fault: Fault, pid: int) -> None:
        """Cause a fault, and return when all nodes run again."""
        [server] = [each for each in self._servers if each.pid == pid]
        if fault.kind == KILL:
            fault.pids, fault.is_kill = (pid,), True
            server.kill()
            # Not at once, so that the other nodes take over.
            time.sleep(self._lease + 2.0)
            server.start()
        elif fault.kind == STOP:
            fault.pids = (pid,)
            os.kill(pid, signal.SIGSTOP)
            time.sleep(STOPPED * self._lease)
            os.kill(pid, signal.SIGCONT)
        elif fault.kind == DEPLOY:
            for each in self._servers:
                each.stop()
                each.start()
        else:
            if fault.kind == RESTART:
                self._redis.end()
            else:
                self._redis.kill()
                time.sleep(VALKEY_AWAY)
            self._redis.start()
            # Valkey grants no key before the leases of its former life have ended.
            time.sleep(self._lease + 1.0)

    def stop(self) -> list[int]:
        """Stop the nodes in order, and return their exit codes."""
        return [each.stop() for each in self._servers]

    def close(self) -> None:
        """End all that runs."""
        for each in self._servers:
            if each.is_running:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(each.pid, signal.SIGCONT)
                each.kill()

    def output(self) -> str:
        return "".join(each.output() for each in self._servers)


@define
class Run:
    """A finished run."""

    account: Account
    faults: list[Fault]
    checks: list[Check]
    exit_codes: list[int] = Factory(list)


def read_notes(folder: Path) -> list[tuple[int, dict[str, object]]]:
    """Return the notes of all processes. The last line of a killed process may be incomplete."""
    found = []
    for path in folder.glob("*.notes"):
        for line in path.read_bytes().splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                found.append((int(path.stem), json.loads(line)))
    return found


async def read_histories(
    folder: Path, redis: str | None, keys: int
) -> dict[str, list[tuple[str, dict[str, object]]]]:
    """Return the events of each key, oldest first."""
    async with open_runtime():
        pubsub, history = PubSub(), history_at(folder, redis)
        await Supervisor.start_link([pubsub.child_spec(), history.child_spec(pubsub)])
        found = {}
        for key in map(str, range(keys)):
            entries = (await history.read(topic_of(key))).entries
            found[key] = [(each.event, json.loads(each.body)) for each in entries]
        return found


def run(
    cluster: Workers | Nodes,
    *,
    faults: tuple[str, ...],
    keys: int,
    pause: float,
    seed: int = 1,
    show: Callable[[str], None] = lambda _: None,
) -> Run:
    """Inject faults, one after the other, and judge the run.

    Args:
        cluster: the servers, which run already.
        faults: the kinds of the faults.
        keys: the number of keys.
        pause: seconds before the first fault and after each of them.
        seed: of the choice of the processes.
        show: gets a line about each fault.
    """
    choice = random.Random(seed)
    happened: list[Fault] = []
    start = time.monotonic()
    time.sleep(pause)
    for kind in faults:
        pid = choice.choice(sorted(cluster.pids()))
        fault = Fault(kind, time.monotonic())
        cluster.inject(fault, pid)
        fault.ended = time.monotonic()
        happened.append(fault)
        show(f"{fault.began - start:6.0f} s  {kind}: whole after {fault.ended - fault.began:.1f} s")
        time.sleep(pause)
    (cluster.folder / OVER).touch()
    _wait_for_callers(cluster.folder)
    exit_codes = cluster.stop()
    histories = trio.run(read_histories, cluster.folder, cluster.redis_url, keys)
    found = account(read_notes(cluster.folder), histories, happened)
    verdict = checks(found, happened, most_takeover=cluster.most_takeover, share=cluster.share)
    verdict.append(
        Check("the servers end in order", f"exit codes {exit_codes}", not any(exit_codes))
    )
    return Run(found, happened, verdict, exit_codes)


def _wait_for_callers(folder: Path) -> None:
    """Wait until no process has written a note for a while."""
    deadline = time.monotonic() + PATIENCE
    size = -1
    while time.monotonic() < deadline:
        now = sum(path.stat().st_size for path in folder.glob("*.notes"))
        if now == size:
            return
        size = now
        time.sleep(1.0)


@contextlib.contextmanager
def serving_workers(folder: Path, count: int, *, rate: float, keys: int) -> Iterator[Workers]:
    """Serve with workers, which call `keys` keys `rate` times in a second together."""
    cluster = Workers(folder, count, _environment(folder, rate / count, keys))
    try:
        yield cluster
    finally:
        cluster.close()


@contextlib.contextmanager
def serving_nodes(
    folder: Path, count: int, *, rate: float, keys: int, lease: float = 10.0
) -> Iterator[Nodes]:
    """Serve with nodes that meet at a Valkey server."""
    with valkey(folder / "valkey", VALKEY) as redis:
        environment = _environment(folder, rate / count, keys)
        cluster = Nodes(folder, count, redis, lease, environment)
        try:
            yield cluster
        finally:
            cluster.close()


def _wait_until(holds: Callable[[], bool], told: Callable[[], str]) -> None:
    """Wait as `wait_until` does, but longer: a rolling deploy of many workers takes minutes on a busy machine."""
    deadline = time.monotonic() + 10 * PATIENCE
    while not holds():
        assert time.monotonic() < deadline, told()
        time.sleep(0.05)


def _environment(folder: Path, rate: float, keys: int) -> dict[str, str]:
    return {"FOLDER": str(folder), "RATE": str(rate), "KEYS": str(keys)}


def report(console: Console, found: Run) -> None:
    """Print the figures and the verdict."""
    operations = found.account.operations.values()
    answered = found.account.answered
    seconds = [each.answered - each.began for each in answered if each.answered is not None]
    calls = sum(each.calls for each in operations)
    retried = [each for each in answered if each.calls > 1]
    console.print(
        f"{len(operations):,} operations: {len(answered):,} answered, {len(retried):,} of them after retries; "
        f"{calls:,} calls, {sum(found.account.failures.values()):,} failed; "
        f"{sum(map(len, found.account.starts.values())):,} starts, {found.account.handovers:,} with a state\n"
        f"seconds until the answer: median {percentile(seconds, 0.5):.4f}, 99% {percentile(seconds, 0.99):.3f}, "
        f"longest gap for a key {max(seconds, default=0.0):.3f}",
        highlight=False,
    )
    table = Table(box=box.SIMPLE)
    for column in (
        "fault",
        "times",
        "retried operations",
        "longest gap",
        "99% of the gaps above 0.1 s",
    ):
        table.add_column(column, justify="left" if column == "fault" else "right")
    for kind in dict.fromkeys(each.kind for each in found.faults):
        spans = [(each.began, each.ended) for each in found.faults if each.kind == kind]
        during = [
            each
            for each in answered
            if each.answered is not None
            and any(each.began < ended and each.answered > began for began, ended in spans)
        ]
        gaps = [each.answered - each.began for each in during if each.answered is not None]
        long = [each for each in gaps if each > 0.1]
        table.add_row(
            kind,
            str(len(spans)),
            f"{sum(each.calls > 1 for each in during):,} of {len(during):,}",
            f"{max(gaps, default=0.0):.3f} s",
            f"{percentile(long, 0.99):.3f} s" if long else "none",
        )
    console.print(table)
    table = Table(box=box.SIMPLE)
    for column in ("failed calls", "may_have_run", "times", "example"):
        table.add_column(column)
    for which, times in found.account.failures.most_common():
        table.add_row(which[0], str(which[1]), f"{times:,}", found.account.texts[which][-150:])
    console.print(table)
    table = Table(box=box.SIMPLE)
    for column in ("check", "", "figures"):
        table.add_column(column)
    for check in found.checks:
        table.add_row(check.what, "PASS" if check.passed else "FAILED", check.figures)
    console.print(table)


def main() -> None:
    """Run the servers under faults, print the verdict, and exit with 0 if all checks passed."""
    parser = argparse.ArgumentParser(
        prog="make soak-entities", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--nodes", type=int, default=0)
    parser.add_argument("--rate", type=float, default=200.0, help="calls in a second, of all nodes")
    parser.add_argument("--keys", type=int, default=300)
    parser.add_argument("--lease", type=float, default=10.0, help="seconds, with nodes")
    parser.add_argument("--pause", type=float, default=5.0, help="seconds between two faults")
    parser.add_argument("--rounds", type=int, default=3, help="of all kinds of faults")
    parser.add_argument("--only", help="this kind of fault, such as 'kill -9'")
    parser.add_argument("--keep", help="folder for the notes and logs, which stays")
    options = parser.parse_args()
    # Without this, SIGTERM would leave the servers behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    console = Console(width=None if sys.stdout.isatty() else 160)
    clusters: list[tuple[str, Callable[[Path], contextlib.AbstractContextManager[Workers | Nodes]]]]
    clusters = []
    if options.workers or not options.nodes:
        count = options.workers or 4
        clusters.append(
            (
                f"{count} workers",
                lambda folder: serving_workers(folder, count, rate=options.rate, keys=options.keys),
            )
        )
    if options.nodes or not options.workers:
        nodes = options.nodes or 3
        clusters.append(
            (
                f"{nodes} nodes",
                lambda folder: serving_nodes(
                    folder, nodes, rate=options.rate, keys=options.keys, lease=options.lease
                ),
            )
        )
    passed = True
    for title, serving in clusters:
        console.print(f"\n{title}, {options.rate:g} operations in a second, {options.keys} keys")
        with contextlib.ExitStack() as stack:
            name = options.keep or stack.enter_context(tempfile.TemporaryDirectory())
            folder = Path(name) / title.replace(" ", "-")
            folder.mkdir(parents=True)
            cluster = stack.enter_context(serving(folder))
            kinds = (options.only,) if options.only else cluster.kinds
            found = run(
                cluster,
                faults=kinds * options.rounds,
                keys=options.keys,
                pause=options.pause,
                show=lambda line: console.print(line, highlight=False),
            )
            report(console, found)
            passed &= all(each.passed for each in found.checks)
            if options.keep or not passed:
                console.print(cluster.output()[-3000:], highlight=False, markup=False)
    sys.exit(not passed)


if __name__ == "__main__":
    main()

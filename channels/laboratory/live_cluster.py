"""Servers in processes of their own, for experiments on workers and nodes.

    @scenario(faults=[KillNode(node="owner of auctions/bell", when=At(2.0))])
    async def evening(world):
        async with open_cluster(world, "examples.auction.server:endpoint", workers=2) as cluster:
            ...                                     # clients of f"{cluster.url}/socket", and world.steady
            await world.until_over()

The faults are SIGKILL, SIGSTOP and SIGTERM for the processes that this cluster has started, and cuts of their
connections to Redis. No other process gets a signal. Each server records itself. At the end, the run merges the
recordings with its own trace, so one history has all processes.
"""

from __future__ import annotations

import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import warnings
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from itertools import count
from pathlib import Path
from typing import IO, Any, Final

import msgspec
import trio
from attrs import define, evolve, field

from actors.arguments import check_whole
from actors.declared import declared
from actors.errors import InvalidOption
from channels.errors import ChannelsError
from channels.laboratory.live_network import LiveNetwork
from channels.pubsub.redis.url import RedisUrl
from channels.pubsub.workers.health import HealthError, WorkerReport, read_health
from supervision.laboratory.chaos.live.world import LiveWorld
from supervision.laboratory.chaos.toolkit import TOKEN, ControlRefused, owner_of
from supervision.recording.trace import DamagedTrace, InvalidTraceFile, read_recording

__all__ = ["ClusterFailed", "LiveCluster", "open_cluster", "two_owners"]

_COMMAND: Final = (sys.executable, "-c", "from channels.cli.command import main; main()", "serve")
_SERVING: Final = re.compile(rb"Serving on https?://(\S+):(\d+)")
_OWNER: Final = "owner of "
_HEALTH_SOCKET: Final = "health.sock"
_LOOK_SECONDS: Final = 0.2
_OWNER_SECONDS: Final = 20.0
"""Seconds for which a fault waits for the owner of an entity: twice the lease of a key."""
_STOP_SECONDS: Final = 8.0
"""Seconds for all servers to stop in order. A run gives its scenario 10 seconds to return."""
_LOG_SHOWN: Final = 2000


@declared("{name} {problem}; the end of its log: {log}")
class ClusterFailed(ChannelsError):
    """A server of a cluster did not start, or ended although no fault had ended it.

    Attributes:
        name: the name of the node, or `server` for one with workers.
        problem: what happened.
        log: the end of what it has printed.
    """

    name: str
    problem: str
    log: str


@define(eq=False)
class _Server:
    """One `ashtree serve`, through all its starts.

    Attributes:
        process: the process of the latest start.
        address: the host and the port of this start, once it serves; None while it does not.
        boots: the number of starts.
        ends: True if a fault or the end of the run ends this start.
        drains: True if it should end this start in order.
        again: set when it should start again after its end.
    """

    name: str
    arguments: tuple[str, ...]
    environment: dict[str, str]
    folder: Path
    process: trio.Process | None = None
    address: tuple[str, int] | None = None
    boots: int = 0
    ends: bool = False
    drains: bool = False
    again: trio.Event = field(factory=trio.Event)

    @property
    def label(self) -> str:
        """The label of its processes in the merged trace."""
        return self.name if self.boots < 2 else f"{self.name}#{self.boots}"

    def failed(self, problem: str) -> ClusterFailed:
        log = (self.folder / f"{self.name}.log").read_text(errors="replace")
        return ClusterFailed(self.name, problem, log[-_LOG_SHOWN:])

    async def main(self) -> None:
        """Start the process, and wait for its end. Start it again each time that `again` is set.

        Raises:
            ClusterFailed: it ended, and no fault had ended it.
        """
        while True:
            self.boots += 1
            self.ends = self.drains = False
            self.again = trio.Event()
            with (self.folder / f"{self.name}.log").open("ab") as log:
                code = await self._run(log)
            self.address = None
            if not self.ends or (self.drains and code != 0):
                raise self.failed(f"ended with exit code {code}")
            await self.again.wait()

    async def _run(self, log: IO[bytes]) -> int:
        record = self.folder / f"{self.name}.{self.boots}.jsonl"
        self.process = process = await trio.lowlevel.open_process(
            [*_COMMAND, *self.arguments, "--record", str(record)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            env=self.environment,
            # Ctrl-C in a terminal reaches only the experiment, which then stops the servers in order.
            process_group=0,
        )
        assert process.stdout is not None
        printed = b""
        async for chunk in process.stdout:
            log.write(chunk)
            printed = (printed + chunk)[-_LOG_SHOWN:]
            if found := _SERVING.search(printed):
                self.address = found[1].decode().strip("[]"), int(found[2])
        return await process.wait()

    async def kill(self) -> None:
        """Kill the process, if it still runs."""
        if self.process is not None:
            self.process.kill()
            # Shielded, because a killed process ends at once, and no zombie should stay.
            with trio.CancelScope(shield=True):
                await self.process.wait()


class LiveCluster:
    """The servers of one run. `open_cluster` makes it.

    Attributes:
        url: the address for clients, such as `http://127.0.0.1:40123`, to which they add the path of their socket:
            `open_socket(f"{cluster.url}/socket")`. A proxy behind it carries each connection to one of the servers.
        folder: the folder with the logs and the recordings of the servers.
    """

    def __init__(self, folder: Path) -> None:
        self.url = ""
        self.folder = folder


class _Cluster(LiveCluster):
    """The cluster, with the methods for faults; see `ClusterControl`."""

    def __init__(
        self, world: LiveWorld, nursery: trio.Nursery, servers: list[_Server], workers: int | None
    ) -> None:
        super().__init__(servers[0].folder)
        self._world = world
        self._nursery = nursery
        self._servers = {each.name: each for each in servers}
        self._count = len(servers) if workers is None else workers
        # The process ids of the workers that serve, by their names; None without workers.
        self._workers: dict[str, int] | None = None if workers is None else {}
        # The process ids of workers that a fault has ended. A report that was on its way may still have them.
        self._ended: set[int] = set()
        self._paused: dict[str, int] = {}
        self._turns = count()

    async def start(self, network: LiveNetwork, seconds: float) -> None:
        """Start all servers, and wait until they serve. Raises ClusterFailed."""
        for server in self._servers.values():
            self._nursery.start_soon(server.main)
        with trio.move_on_after(seconds):
            while self.problem() is not None:
                await trio.sleep(_LOOK_SECONDS)
                await self._look()
        late = next((each for each in self._servers.values() if each.address is None), None)
        if late is not None:
            raise late.failed(f"did not serve within {seconds:g} s")
        self._nursery.start_soon(self._keep_looking)
        self.url = f"http://127.0.0.1:{await network.forward('cluster', self._dial)}"

    async def _dial(self) -> socket.socket:
        """Connect to the next server that accepts."""
        up = self._addresses()
        first = next(self._turns) % max(1, len(up))
        for host, port in up[first:] + up[:first]:
            try:
                return _detached(await trio.open_tcp_stream(host, port))
            except OSError:
                # It has just ended.
                continue
        raise ConnectionRefusedError("no server of the cluster accepts connections")

    def _addresses(self) -> list[tuple[str, int]]:
        return [each.address for each in self._servers.values() if each.address is not None]

    async def _keep_looking(self) -> None:
        while True:
            await trio.sleep(_LOOK_SECONDS)
            await self._look()

    async def _look(self) -> None:
        """Ask the parent of the workers for their names and process ids."""
        if self._workers is None:
            return
        try:
            reports = await trio.to_thread.run_sync(read_health, self.folder / _HEALTH_SOCKET)
        except HealthError:
            # The parent starts, stops or is busy. The next look comes soon.
            return
        workers = [each for each in reports if isinstance(each, WorkerReport)]
        self._workers = {
            f"worker.{each.id}": each.pid
            for each in workers
            if each.state == "serving" and each.pid is not None and each.pid not in self._ended
        }

    def problem(self) -> str | None:
        """Return the problem if a server or a worker does not serve; a check for `world.steady`."""
        serving = len(self._addresses() if self._workers is None else self._workers)
        return None if serving >= self._count else f"{serving} of {self._count} serve"

    # Faults

    def names(self) -> Sequence[str]:
        return list(self._servers if self._workers is None else self._workers)

    def is_up(self, name: str) -> bool:
        return name in self._pids()

    def _pids(self) -> dict[str, int]:
        if self._workers is not None:
            return self._workers
        # The system ends a killed process a moment later, but the node is down from the kill on.
        processes = {each.name: each.process for each in self._servers.values() if not each.ends}
        return {
            name: process.pid
            for name, process in processes.items()
            if process is not None and process.returncode is None
        }

    def find(self, name: str, then: Callable[[str | None], None]) -> None:
        if name.startswith(_OWNER):
            self._nursery.start_soon(self._find, name.removeprefix(_OWNER), then)
        else:
            then(name)

    async def _find(self, entity: str, then: Callable[[str | None], None]) -> None:
        owner, problem = await self._owner(entity)
        with trio.move_on_after(_OWNER_SECONDS):
            # In the middle of a takeover, a key has no owner.
            while owner is None:
                await trio.sleep(_LOOK_SECONDS)
                owner, problem = await self._owner(entity)
        if owner is None:
            self._world.note(f"nobody knows the owner of {entity}", problem=problem)
        elif not self.is_up(owner):
            # It has just started.
            await self._look()
        then(owner)

    async def _owner(self, entity: str) -> tuple[str | None, str]:
        """Return the name of the node that runs an entity, or None and the reason."""
        supervisor, _, key = entity.partition("/")
        problem = "no server is up"
        token = {"token": next(iter(self._servers.values())).environment[TOKEN]}
        for host, port in self._addresses():
            url = {"ashtree_url": f"http://{host}:{port}/_ashtree/chaos"}
            try:
                owner = await trio.to_thread.run_sync(owner_of, supervisor, key, url, token)
            except ControlRefused as error:
                problem = str(error)
            else:
                return owner, "no node runs it"
        return None, problem

    def _signal(self, name: str, signum: int, event: str = "", **fields: Any) -> None:
        """Signal a process of the cluster, and add an event to the trace."""
        pid = self._pids().get(name, 0)
        if pid:
            with suppress(ProcessLookupError):  # it has just ended
                os.kill(pid, signum)
        if event:
            label = self._servers[name].label if name in self._servers else name
            self._world.trace.add(event, {"node": label, **fields})

    def kill(self, name: str, *, power: bool = False) -> None:
        assert not power, "the injector cuts the power of simulated machines only"
        # The event of the fault is the last one in the trace.
        cause = self._world.trace.count - 1
        self._signal(name, signal.SIGKILL, "node_killed", host=name, power=False, cause=cause)
        if self._workers is not None:
            self._ended.add(self._workers.pop(name))
        else:
            self._servers[name].ends, self._servers[name].address = True, None

    def boot(self, name: str) -> None:
        # The parent has replaced a worker already.
        if name in self._servers:
            self._servers[name].again.set()

    def pause(self, name: str) -> None:
        self._paused[name] = self._pids()[name]
        self._signal(name, signal.SIGSTOP, "node_paused")

    def resume(self, name: str) -> None:
        pid = self._paused.pop(name, None)
        # It may have ended, and a worker with the same name may have taken its place.
        if pid is not None and self._pids().get(name) == pid:
            self._signal(name, signal.SIGCONT, "node_resumed")

    def drain(self, name: str) -> None:
        self.resume(name)  # a paused process could not drain
        self._signal(name, signal.SIGTERM)
        if self._workers is not None:
            self._ended.add(self._workers.pop(name))
        else:
            self._servers[name].ends = self._servers[name].drains = True
            self._servers[name].again.set()

    def skew(self, name: str, seconds: float) -> None:
        raise NotImplementedError("all processes of a machine share one clock")

    # The end

    async def stop(self) -> None:
        """Stop all servers in order, and kill those that do not stop in time. Give their recordings to the run."""
        for name in list(self._paused):
            self.resume(name)
        running = [each.process for each in self._servers.values() if each.process is not None]
        for server in self._servers.values():
            server.ends, server.drains, server.again = True, False, trio.Event()
        for signum in (signal.SIGTERM, signal.SIGKILL):
            with trio.move_on_after(_STOP_SECONDS) as scope:
                for process in running:
                    process.send_signal(signum)
                for process in running:
                    await process.wait()
            if not scope.cancelled_caught:
                break
            self._world.note("the servers did not stop in time, and were killed")
        for path in sorted(self.folder.glob("*.jsonl*")):
            with warnings.catch_warnings(), suppress(InvalidTraceFile):
                # A killed process leaves a damaged file, or one without a line. The merged trace has its end.
                warnings.simplefilter("ignore", DamagedTrace)
                self._world.recordings[path.name] = read_recording(path)[0]


def _detached(stream: trio.SocketStream) -> socket.socket:
    return socket.socket(fileno=stream.socket.detach())


@asynccontextmanager
async def open_cluster(
    world: LiveWorld,
    target: str,
    *,
    workers: int | None = None,
    nodes: int | None = None,
    redis: str | None = None,
    environment: Mapping[str, str] | None = None,
    start_within: float = 30.0,
) -> AsyncIterator[LiveCluster]:
    """Serve an endpoint in processes of their own while the body runs, as targets of the faults of the run.

    Args:
        world: the world of a live run, with a `LiveNetwork`.
        target: the endpoint, as `module:endpoint`.
        workers: serve it with this many workers; by default the parameter `workers` of the run.
        nodes: serve it with this many single processes, which meet at a Redis or Valkey server; by default the
            parameter `nodes`. The nodes are called node1, node2 and so on. Each finds its name in NODE_NAME, and the
            address of Redis in REDIS_URL.
        redis: the URL of this server; by default the parameter `redis`. Each node reaches it by a proxy of the run, so
            `Partition(one="node1", other="redis", ...)` cuts the connection of one node.
        environment: further environment variables of the servers.
        start_within: seconds for the servers to start.

    Returns:
        The cluster, whose `url` is for the clients.

    Raises:
        InvalidOption: there are neither workers nor nodes, or both, or nodes without Redis, or there is no network.
        ClusterFailed: a server did not start, or ended although no fault had ended it.

    Each server gets `--chaos` and a token that only this run knows, so that the run can ask for owners of entities.
    """
    if workers is None and nodes is None:
        workers, nodes = world.params.get("workers"), world.params.get("nodes")
    redis = redis or world.params.get("redis")
    network = world.network
    if not isinstance(network, LiveNetwork):
        raise InvalidOption("open_cluster", "world", network, "a run with network=LiveNetwork()")
    if (workers is None) == (nodes is None):
        raise InvalidOption("open_cluster", "workers", workers, "workers or nodes, and not both")
    check_whole("open_cluster", "workers" if nodes is None else "nodes", workers or nodes)
    if nodes is not None and not redis:
        raise InvalidOption("open_cluster", "redis", redis, "redis://127.0.0.1:6379, for example")
    base = {**os.environ, TOKEN: secrets.token_urlsafe(32), **(environment or {})}
    common = (target, "--chaos", "--port", "0", "--log-level", "warning")
    with tempfile.TemporaryDirectory(prefix="ashtree-chaos-") as name:
        folder = Path(name)
        servers = []
        if workers is not None:
            more = ("--workers", str(workers), "--health-socket", str(folder / _HEALTH_SOCKET))
            servers.append(_Server("server", (*common, *more), base, folder))
        for own in (f"node{number}" for number in range(1, (nodes or 0) + 1)):
            url = await _proxied(network, redis or "", own)
            about = {"REDIS_URL": url, "NODE_NAME": own}
            servers.append(_Server(own, common, {**base, **about}, folder))
        async with AsyncExitStack() as last, trio.open_nursery() as nursery:
            for each in servers:
                # The run may end while a process starts, so that `stop` does not see it.
                last.push_async_callback(each.kill)
            cluster = _Cluster(world, nursery, servers, workers)
            world.faults.use_nodes(cluster)
            world.judges.append(two_owners)
            # The faults begin when all servers serve, and the run fails if one of them does not come back.
            world.steady("all servers serve", cluster.problem)
            try:
                await cluster.start(network, start_within)
                yield cluster
            finally:
                world.faults.use_nodes(None)
                # Shielded, because no server may outlive the run. `stop` has time limits.
                with trio.CancelScope(shield=True):
                    await cluster.stop()
                nursery.cancel_scope.cancel()


async def _proxied(network: LiveNetwork, redis: str, node: str) -> str:
    """Return the URL of a proxy through which a node reaches Redis."""
    parsed = RedisUrl.parse(redis)

    async def dial() -> socket.socket:
        if parsed.path is not None:
            return _detached(await trio.open_unix_socket(parsed.path))
        return _detached(await trio.open_tcp_stream(parsed.host, parsed.port))

    port = await network.forward("redis", dial, source=node)
    return str(evolve(parsed, host="127.0.0.1", port=port, path=None))


# The verdict about entities


def two_owners(lines: Iterable[bytes]) -> list[str]:
    """Return a sentence for each entity that worked on one node after another node had begun to own it.

    Args:
        lines: a merged trace.

    "After" means that a chain of messages leads from the start of the later owner to the work of the earlier one. So a
    problem is certain. An overlap that no message shows has no effect that anybody has seen.
    """
    owners: dict[tuple[Any, int], tuple[str, int]] = {}
    starts: dict[str, list[tuple[int, Any]]] = {}
    # For each node, the last event of each other node that it can know of.
    known: dict[Any, dict[Any, int]] = {}
    sent: dict[int, dict[Any, int]] = {}
    problems: dict[str, None] = {}
    for line in lines:
        event = msgspec.json.decode(line)
        node = event.get("node", 0)
        past = known.setdefault(node, {})
        for other, number in sent.get(event.get("cause", -1), {}).items():
            past[other] = max(past.get(other, 0), number)
        past[node] = event["n"]
        if "leaves" in event:
            sent[event["n"]] = dict(past)
        if event["kind"] == "entity_started":
            name = f"{event['supervisor']}/{event['key']}"
            owners[node, event["pid"]] = name, event["fence"]
            starts.setdefault(name, []).append((event["fence"], (event["n"], node)))
        elif event["kind"] == "entity_began" and (node, event["pid"]) in owners:
            name, fence = owners[node, event["pid"]]
            for later, (number, other) in starts[name]:
                if later > fence and other != node and past.get(other, 0) >= number:
                    problems[
                        f"two owners of {name}: {node} with fence {fence} worked on after {other} had begun with "
                        f"fence {later}"
                    ] = None
    return list(problems)

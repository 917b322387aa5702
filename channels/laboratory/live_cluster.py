"""Servers in processes of their own, for experiments on workers and nodes.

    @scenario(faults=[KillNode(node="owner of auctions/bell", when=At(2.0))])
    async def evening(world):
        async with open_cluster(world, "examples.auction.server:endpoint", workers=2) as cluster:
            ...                                     # clients of cluster.url, and world.steady
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
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from functools import partial
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
HEALTH_SOCKET: Final = "health.sock"
_LOOK_SECONDS: Final = 0.2
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
        is_ended: True if a fault or the end of the run ends this start.
        is_drained: True if it should start again when it has drained.
    """

    name: str
    arguments: tuple[str, ...]
    environment: dict[str, str]
    folder: Path
    process: trio.Process | None = None
    address: tuple[str, int] | None = None
    boots: int = 0
    is_ended: bool = False
    is_drained: bool = False
    serving: trio.Event = field(factory=trio.Event)

    @property
    def label(self) -> str:
        """The label of its processes in the merged trace."""
        return self.name if self.boots < 2 else f"{self.name}#{self.boots}"

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.returncode is None

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    def send(self, signum: int) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(signum)

    def failed(self, problem: str) -> ClusterFailed:
        return ClusterFailed(self.name, problem, self.log.read_text(errors="replace")[-_LOG_SHOWN:])

    async def main(self) -> None:
        """Start the process, and wait for its end. Start it again after a drain.

        Raises:
            ClusterFailed: it ended, and no fault had ended it.
        """
        while True:
            self.boots += 1
            self.is_ended = self.is_drained = False
            with self.log.open("ab") as log:
                code = await self._run(log)
            self.address, self.serving = None, trio.Event()
            if self.is_drained and code == 0:
                continue
            if not self.is_ended:
                raise self.failed(f"ended with exit code {code}")
            return

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
        async with process.stdout:
            async for chunk in process.stdout:
                log.write(chunk)
                log.flush()
                printed = (printed + chunk)[-_LOG_SHOWN:]
                found = _SERVING.search(printed)
                if found is not None and not self.serving.is_set():
                    self.address = found[1].decode().strip("[]"), int(found[2])
                    self.serving.set()
        return await process.wait()


class LiveCluster:
    """The servers of one run. `open_cluster` makes it.

    Attributes:
        url: the address for clients. A proxy behind it carries each connection to one of the servers.
        folder: the folder with the logs and the recordings of the servers.
    """

    def __init__(
        self,
        world: LiveWorld,
        network: LiveNetwork,
        nursery: trio.Nursery,
        servers: list[_Server],
        *,
        token: str,
        workers: int | None,
    ) -> None:
        self.url = ""
        self.folder = servers[0].folder
        self._world = world
        self._network = network
        self._nursery = nursery
        self._servers = servers
        self._token = token
        self._count = len(servers) if workers is None else workers
        self._health_socket = None if workers is None else self.folder / HEALTH_SOCKET
        self._turns = count()
        # The workers that serve, by their names.
        self._workers: dict[str, int] = {}
        self._paused: dict[str, int] = {}

    async def start(self, seconds: float) -> None:
        """Start all servers, and wait until they serve.

        Raises:
            ClusterFailed: a server did not start in time.
        """
        for server in self._servers:
            self._nursery.start_soon(server.main)
        for server in self._servers:
            with trio.move_on_after(seconds):
                await server.serving.wait()
            if not server.serving.is_set():
                raise server.failed(f"did not serve within {seconds:g} s")
        if self._health_socket is not None:
            await self._look()
            self._nursery.start_soon(self._keep_looking)
        port = await self._network.forward("cluster", self._dial)
        self.url = f"http://127.0.0.1:{port}"

    async def _dial(self) -> socket.socket:
        """Connect to the next server that accepts."""
        up = [each.address for each in self._servers if each.address is not None]
        first = next(self._turns)
        for number in range(len(up)):
            host, port = up[(first + number) % len(up)]
            try:
                stream = await trio.open_tcp_stream(host, port)
            except OSError:
                continue
            return socket.socket(fileno=stream.socket.detach())
        raise ConnectionRefusedError("no server of the cluster accepts connections")

    async def _keep_looking(self) -> None:
        while True:
            await trio.sleep(_LOOK_SECONDS)
            await self._look()

    async def _look(self) -> None:
        """Ask the parent of the workers for their names and process ids."""
        assert self._health_socket is not None
        try:
            reports = await trio.to_thread.run_sync(read_health, self._health_socket)
        except HealthError:
            # The parent is busy, or stops. The next look comes soon.
            return
        self._workers = {
            f"worker.{each.id}": each.pid
            for each in reports
            if isinstance(each, WorkerReport) and each.state == "serving" and each.pid is not None
        }

    def problem(self) -> str | None:
        """Return the problem if a server or a worker does not serve; a check for `world.steady`."""
        missing = [each.name for each in self._servers if each.address is None]
        serving = self._count if self._health_socket is None else len(self._workers)
        if missing or serving < self._count:
            return f"{', '.join(missing) or f'{self._count - serving} workers'} not serving"
        return None

    def _server(self, name: str) -> _Server | None:
        return next((each for each in self._servers if each.name == name), None)

    def _signal(self, name: str, signum: int) -> None:
        server = self._server(name)
        if server is not None:
            server.send(signum)
        elif name in self._workers:
            try:
                os.kill(self._workers[name], signum)
            except ProcessLookupError:
                # It has just ended.
                pass

    # For faults; see `supervision.laboratory.chaos.injection.surroundings.ClusterControl`

    def names(self) -> tuple[str, ...]:
        """Return the names of the nodes, up or down, or those of the workers that serve."""
        if self._health_socket is None:
            return tuple(each.name for each in self._servers)
        return tuple(self._workers)

    def is_up(self, name: str) -> bool:
        """Return True if a node serves, or if a worker does."""
        server = self._server(name)
        return name in self._workers if server is None else server.is_running

    def find(self, name: str, then: Callable[[str | None], None]) -> None:
        """Call `then` with the name of a node. The owner of an entity is known after a request to the servers."""
        self._nursery.start_soon(self._find, name, then)

    async def _find(self, name: str, then: Callable[[str | None], None]) -> None:
        if self._health_socket is not None:
            await self._look()
        then(await self._owner(name.removeprefix(_OWNER)) if name.startswith(_OWNER) else name)

    async def _owner(self, entity: str) -> str | None:
        supervisor, _, key = entity.partition("/")
        problem = "no server is up"
        for host, port in [each.address for each in self._servers if each.address is not None]:
            there = {"ashtree_url": f"http://{host}:{port}/_ashtree/chaos"}
            ask = partial(owner_of, supervisor, key, there, {"token": self._token})
            try:
                return await trio.to_thread.run_sync(ask, abandon_on_cancel=True)
            except ControlRefused as error:
                problem = str(error)
        self._world.note(f"nobody knows the owner of {entity}", problem=problem)
        return None

    def kill(self, name: str) -> None:
        """Send SIGKILL. The parent of the workers starts another worker; a node stays down until `boot`."""
        server = self._server(name)
        label = name if server is None else server.label
        if server is not None:
            server.is_ended, server.address = True, None
        self._signal(name, signal.SIGKILL)
        self._workers.pop(name, None)
        # The merged trace has the place of the node as `host`.
        self._world.trace.add("node_killed", self._because({"node": label, "host": name}))

    def _because(self, fields: dict[str, Any]) -> dict[str, Any]:
        """Name the last event, which is that of the fault, as the cause."""
        return {**fields, "power": False, "cause": self._world.trace.count - 1}

    def boot(self, name: str) -> None:
        """Start a node that is down."""
        server = self._server(name)
        if server is not None:
            self._nursery.start_soon(server.main)

    def pause(self, name: str) -> None:
        """Send SIGSTOP."""
        server = self._server(name)
        label = name if server is None else server.label
        self._signal(name, signal.SIGSTOP)
        self._world.trace.add("node_paused", {"node": label})

    def resume(self, name: str) -> None:
        """Send SIGCONT, if the process still runs."""
        server = self._server(name)
        self._signal(name, signal.SIGCONT)
        label = name if server is None else server.label
        self._world.trace.add("node_resumed", {"node": label})

    def drain(self, name: str) -> None:
        """Send SIGTERM. The server drains and ends, and another process takes its place."""
        server = self._server(name)
        if server is not None:
            server.is_drained = server.is_ended = True
        self._signal(name, signal.SIGTERM)

    def skew(self, name: str, seconds: float) -> None:
        """Refuse, because all processes of a machine share one clock."""
        raise NotImplementedError("a live cluster cannot change the clock of the machine")

    # The end

    async def stop(self) -> None:
        """Stop all servers in order, and kill those that do not stop in time."""
        for server in self._servers:
            server.is_ended, server.is_drained = True, False
            server.send(signal.SIGTERM)
        with trio.move_on_after(_STOP_SECONDS) as scope:
            for server in self._servers:
                if server.process is not None:
                    await server.process.wait()
        if scope.cancelled_caught:
            late = [each.name for each in self._servers if each.is_running]
            self._world.note("servers did not stop in time", names=", ".join(late))
        for server in self._servers:
            server.send(signal.SIGKILL)

    def read(self) -> None:
        """Give the recordings of all servers to the run."""
        for path in sorted(self.folder.glob("*.jsonl*")):
            with warnings.catch_warnings():
                # A killed process leaves a damaged file, and the merged trace says that it was killed.
                warnings.simplefilter("ignore", DamagedTrace)
                try:
                    lines, _ = read_recording(path)
                except InvalidTraceFile:
                    # The process was killed before it had written the first line.
                    continue
            if lines:
                self._world.recordings[path.name] = lines


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

    Raises:
        InvalidOption: there are neither workers nor nodes, or both, or nodes without Redis; or the world has no network.
        ClusterFailed: a server did not start, or ended although no fault had ended it.

    Each server gets `--chaos` and a token that only this run knows, so that the run can ask for owners of entities.
    """
    workers = world.params.get("workers") if workers is None and nodes is None else workers
    nodes = world.params.get("nodes") if workers is None and nodes is None else nodes
    redis = world.params.get("redis") if redis is None else redis
    network = world.network
    _check(workers, nodes, redis, network)
    assert isinstance(network, LiveNetwork)
    token = secrets.token_urlsafe(32)
    base = {**os.environ, TOKEN: token, **(environment or {})}
    with tempfile.TemporaryDirectory(prefix="ashtree-chaos-") as name:
        folder = Path(name)
        common = (target, "--chaos", "--port", "0", "--log-level", "warning")
        servers = []
        if workers is not None:
            more = ("--workers", str(workers), "--health-socket", str(folder / HEALTH_SOCKET))
            servers.append(_Server("server", (*common, *more), base, folder))
        for number in range(1, (nodes or 0) + 1):
            own = f"node{number}"
            url = await _proxied(network, redis or "", own)
            servers.append(
                _Server(own, common, {**base, "REDIS_URL": url, "NODE_NAME": own}, folder)
            )
        async with trio.open_nursery() as nursery:
            cluster = LiveCluster(world, network, nursery, servers, token=token, workers=workers)
            world.faults.use_nodes(cluster)
            world.judges.append(two_owners)
            # The faults begin when all servers serve, and the run fails if one of them does not come back.
            world.steady("all servers serve", cluster.problem)
            try:
                await cluster.start(start_within)
                yield cluster
            finally:
                world.faults.use_nodes(None)
                # Shielded, because no server may outlive the run. `stop` has a time limit.
                with trio.CancelScope(shield=True):
                    await cluster.stop()
                    cluster.read()
                nursery.cancel_scope.cancel()


def _check(workers: int | None, nodes: int | None, redis: str | None, network: object) -> None:
    if not isinstance(network, LiveNetwork):
        raise InvalidOption(
            "open_cluster", "world", network, "a run with network=LiveNetwork(), as `ashtree chaos`"
        )
    if (workers is None) == (nodes is None):
        raise InvalidOption(
            "open_cluster", "workers", workers, "either a number of workers, or a number of nodes"
        )
    check_whole("open_cluster", "workers" if nodes is None else "nodes", workers or nodes)
    if nodes is not None and not redis:
        raise InvalidOption(
            "open_cluster", "redis", redis, 'the URL of a Redis server, "redis://127.0.0.1:6379"'
        )


async def _proxied(network: LiveNetwork, redis: str, node: str) -> str:
    """Return the URL of a proxy through which a node reaches Redis."""
    parsed = RedisUrl.parse(redis)

    async def dial() -> socket.socket:
        if parsed.path is not None:
            stream = await trio.open_unix_socket(parsed.path)
        else:
            stream = await trio.open_tcp_stream(parsed.host, parsed.port)
        return socket.socket(fileno=stream.socket.detach())

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

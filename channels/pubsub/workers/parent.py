"""The parent of workers: it starts them, restarts them, replaces them, and connects them with each other.

The parent loads nothing of the application, so nothing in the application can stop it. `channels.pubsub.workers.plan`
decides what happens; this module carries it out.

A worker inherits the listening sockets of its place, a socket to each worker that was started before, and a control
socket. The other workers get their ends over their control lines. The number of the control socket is the last argument
of the worker. Each worker has its own process group, so Ctrl-C in a terminal reaches only the parent, which then stops
the workers.

If the parent is killed, its workers notice that their control lines and a pipe have ended. They drain and stop. A new
parent on the same address waits until they have released the port, and until their processes have ended.
"""

from __future__ import annotations

import errno
import logging
import os
import secrets
import signal
import socket
import subprocess
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias, TypeVar

import trio
from attrs import Factory, define, frozen

from channels import service_manager
from channels.errors import ChannelsError
from channels.pubsub.adapter import WORKER, WORKERS_COUNT, WORKERS_FOLDER
from channels.pubsub.workers.control import ControlLine, Setup
from channels.pubsub.workers.grant_line import GrantLink
from channels.pubsub.workers.grants import Grants
from channels.pubsub.workers.health import (
    Report,
    ServerReport,
    WorkerReport,
    path_for,
    serve_health,
    was_left_behind,
)
from channels.pubsub.workers.lock import lock_file
from channels.pubsub.workers.places import open_places
from channels.pubsub.workers.plan import (
    Action,
    Adopt,
    Close,
    End,
    Finish,
    Kill,
    Note,
    Place,
    Plan,
    Release,
    Serving,
    Start,
    State,
    Stop,
    Timing,
    Worker,
)
from channels.transports.listener import ListenError

__all__ = ["Watch", "WorkersSettings", "run_parent"]

_log = logging.getLogger("channels.pubsub.workers")

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# Seconds for a worker to answer a question about its health.
_ANSWER = 1.0
# Seconds between two attempts to open a port that the workers of a killed parent still use.
_RETRY = 0.1
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")

T = TypeVar("T")


Watch: TypeAlias = Callable[[Callable[[str], Awaitable[None]]], Awaitable[None]]
"""An async function. Its argument is an async function that takes the names of the changed files, and replaces all
workers."""


@frozen(kw_only=True)
class WorkersSettings:
    """The workers of a parent, and its limits.

    Args:
        command: the command line of a worker. The parent appends the number of the control socket.
        host: the address to listen on.
        port: the port; 0 takes any free port.
        workers: the number of workers.
        internal: the host and the port of the internal port, which all workers share; None for no such port.
        options: values for the `Setup` of each worker.
        timing: time limits.
        health_socket: the path of the health socket; None takes the result of `path_for`.
        url: a function that makes the URL of a host and a port.
        watch: an async function that runs while the workers run. Its argument is a function that replaces all workers.
            With `watch`, the parent goes on if a worker cannot load the application. None watches nothing.
    """

    command: Sequence[str]
    host: str
    port: int
    workers: int
    internal: tuple[str, int] | None = None
    options: Mapping[str, Any] = Factory(dict)
    timing: Timing = Factory(Timing)
    health_socket: Path | None = None
    url: Callable[[str, int], str] = "http://{}:{}".format
    watch: Watch | None = None


async def run_parent(
    settings: WorkersSettings, *, on_serving: Callable[[str, tuple[str, int] | None], None]
) -> int:
    """Run the workers until a signal stops them. Return the exit code.

    Args:
        settings: the workers and the limits.
        on_serving: called when all workers accept connections, with the URL, and with the host and port of the internal
            port or None.

    Signals: SIGTERM and SIGINT stop the workers, which drain. After a second signal, the workers have less time to
    drain. SIGHUP replaces the workers, one after the other. If the terminal of the parent was closed, SIGHUP stops them
    too.

    If an earlier parent on this address was killed, its workers use the port until they have drained. This waits for
    them for `settings.timing.start_timeout` seconds.

    Raises:
        ListenError: the address cannot be used.
        ChannelsError: this is not Linux.
        HealthError: the health socket cannot be made.
        WorkersRemain: workers of an earlier parent on this address still run after that time.
    """
    # Under `nohup`, the process ignores SIGHUP, because it must outlive the terminal.
    follows_terminal = _has_terminal() and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN
    with trio.open_signal_receiver(*_SIGNALS) as signals, ExitStack() as opened:
        places = await _unless_signalled(signals, partial(_open_when_free, settings))
        if places is None:
            return 0
        for place in places:
            for sock in place.all:
                opened.enter_context(sock)
        host, port = places[0].public[0].getsockname()[:2]
        # Only this user can read it.
        folder = Path(
            opened.enter_context(TemporaryDirectory(prefix="ashtree-", ignore_cleanup_errors=True))
        )
        parent = _Parent(settings, places, port, settings.url(host, port), on_serving)
        parent.folder = folder
        parent.lifeline, ours = os.pipe()
        opened.callback(os.close, ours)
        opened.callback(os.close, parent.lifeline)
        path = settings.health_socket or path_for(host, port)
        async with serve_health(path, parent.report):
            # After a kill of the parent, a stopped worker may still run its entities when the port is free.
            seconds = settings.timing.start_timeout
            lock = await _unless_signalled(
                signals, partial(lock_file, path.with_name(f"{path.name}.lock"), seconds)
            )
            if lock is None:
                return 0
            parent.lock = lock
            opened.callback(os.close, lock)
            return await parent.run(signals, follows_terminal=follows_terminal)


@frozen
class _Sockets:
    """The listening sockets of one place."""

    public: Sequence[socket.socket]
    internal: Sequence[socket.socket] = ()

    @property
    def all(self) -> list[socket.socket]:
        """All sockets, first the public ones."""
        return [*self.public, *self.internal]


async def _unless_signalled(signals: Any, wait: Callable[[], Awaitable[T]]) -> T | None:
    """Wait for the workers of a killed parent. Return None if a signal stopped the wait."""
    failure: ChannelsError | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_cancel_at_signal, signals, nursery.cancel_scope)
        try:
            return await wait()
        except ChannelsError as error:
            # An exception that leaves the nursery would become an ExceptionGroup.
            failure = error
        finally:
            nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
    return None


async def _open(settings: WorkersSettings) -> list[_Sockets]:
    """Open the sockets of all places."""
    public = await open_places(settings.host, settings.port, settings.workers)
    if settings.internal is None:
        return [_Sockets(sockets) for sockets in public]
    try:
        internal = await open_places(*settings.internal, settings.workers)
    except BaseException:
        for sockets in public:
            for sock in sockets:
                sock.close()
        raise
    return list(map(_Sockets, public, internal))


async def _open_when_free(settings: WorkersSettings) -> list[_Sockets]:
    """Open the sockets of all places. If the workers of a killed parent use a port, wait for them."""
    seconds = settings.timing.start_timeout
    deadline = trio.current_time() + seconds
    waits = False
    while True:
        try:
            return await _open(settings)
        except ListenError as error:
            if not waits and not await _was_killed(settings, error):
                raise
            if trio.current_time() >= deadline:
                raise
            if not waits:
                _log.warning(
                    "port %d is still in use, because an earlier server on this address was killed and its workers "
                    "drain; waiting for them, for up to %g s",
                    error.port,
                    seconds,
                )
            waits = True
        await trio.sleep(_RETRY)


async def _cancel_at_signal(signals: Any, scope: trio.CancelScope) -> None:
    async for signum in signals:
        if signum != signal.SIGHUP:
            scope.cancel()


async def _was_killed(settings: WorkersSettings, error: ListenError) -> bool:
    """Return True if a port is in use, and a killed parent left its health socket for this server behind."""
    cause = error.__cause__
    if not isinstance(cause, OSError) or cause.errno != errno.EADDRINUSE:
        return False
    try:
        if settings.health_socket is not None:
            return was_left_behind(settings.health_socket)
        # Not the port of the error, because the health socket is named after the public port.
        found = await trio.socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)
        hosts = [str(address[0]) for *_, address in found]
        return any(was_left_behind(path_for(host, settings.port)) for host in hosts)
    except OSError:
        # No parent makes a health socket that cannot be used, such as a datagram socket or one of another user.
        # The caller reports that the port is in use.
        return False


_Event: TypeAlias = Callable[[float], Sequence[Action]]


@define(eq=False)
class _Process:
    """The process of a worker, from the decision to start it until its end."""

    worker: Worker
    process: trio.Process | None = None
    control: ControlLine | None = None
    # Its number in the table of grants, and its line to it.
    holder: int = 0
    grants: GrantLink | None = None
    # Signals for a process that has not been started yet.
    pending: list[int] = Factory(list)
    report: Mapping[str, Any] | None = None
    reported: trio.Event = Factory(trio.Event)

    def signal(self, signum: int) -> None:
        """Send a signal to the process."""
        if self.process is None:
            self.pending.append(signum)
        else:
            self.process.send_signal(signum)


class _Parent:
    def __init__(
        self,
        settings: WorkersSettings,
        sockets: list[_Sockets],
        port: int,
        address: str,
        on_serving: Callable[[str, tuple[str, int] | None], None],
    ) -> None:
        self.settings = settings
        # The folder of the sockets between the workers.
        self.folder: Path | None = None
        # The end of a pipe that the workers inherit. Only this process has the other end.
        self.lifeline = -1
        # A file that is locked while this process or a worker lives.
        self.lock = -1
        self.sockets = sockets
        self.port = port
        self.address = address
        self.on_serving = on_serving
        self.plan = Plan(settings.workers, settings.timing, reloads=settings.watch is not None)
        self.grants = Grants()
        self.holders = count(1)
        # The number of processes that have had each id.
        self.starts: Counter[int] = Counter()
        self.secret = secrets.token_bytes(64)
        self.processes: dict[Worker, _Process] = {}
        self.started = trio.current_time()
        self._put, self._take = trio.open_memory_channel[_Event](64)
        self._reporting = trio.Lock()
        # The state of which the service manager has been told.
        self._told: tuple[State, bool] = (State.STARTING, False)

    async def run(self, signals: Any, *, follows_terminal: bool) -> int:
        """Carry out the plan until it finishes. Return the exit code."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watch, signals, follows_terminal)
                if self.settings.watch is not None:
                    nursery.start_soon(self.settings.watch, self._replace)
                actions: Sequence[Action] = self.plan.begin(trio.current_time())
                while True:
                    for action in actions:
                        if isinstance(action, Finish):
                            nursery.cancel_scope.cancel()
                            return action.code
                        self._carry_out(action, nursery)
                    self._tell_service_manager()
                    actions = await self._next()
        except BaseException:
            # The parent fails. Kill its workers, which must not run without it.
            for process in self.processes.values():
                process.signal(signal.SIGTERM)
            raise

    async def _next(self) -> Sequence[Action]:
        """Wait for an event or for a time limit, and return what follows."""
        event: _Event | None = None
        with trio.move_on_at(self.plan.deadline):
            event = await self._take.receive()
        now = trio.current_time()
        actions = list(event(now)) if event is not None else []
        if self.plan.deadline <= now:
            actions += self.plan.tick(now)
        return actions

    def _carry_out(self, action: Action, nursery: trio.Nursery) -> None:
        match action:
            case Start(worker):
                process = self.processes[worker] = _Process(worker, holder=next(self.holders))
                nursery.start_soon(self._run_worker, process)
            case Stop(worker, signum, together):
                process = self.processes[worker]
                if not (together and self._tell(worker, {"type": "stop", "signal": signum})):
                    process.signal(signum)
            case Kill(worker):
                self.processes[worker].signal(signal.SIGKILL)
            case Note(level, sentence):
                _log.log(logging.getLevelNamesMapping()[level.upper()], "%s", sentence)
            case Serving():
                own = self.sockets[0].internal
                self.on_serving(self.address, own[0].getsockname()[:2] if own else None)
            case Adopt(place, worker):
                self._adopt(place, worker, nursery)
            case Release(worker):
                self._tell(worker, {"type": "release"})
            case Close(place):
                for sock in self.sockets[place - 1].all:
                    sock.close()

    def _adopt(self, place: int, worker: Worker, nursery: trio.Nursery) -> None:
        sockets = self.sockets[place - 1]
        counts = {"sockets": len(sockets.public), "internal": len(sockets.internal)}
        if not self._tell(worker, {"type": "adopt", **counts}, sockets.all):
            for action in self.plan.not_adopted(place, worker):
                self._carry_out(action, nursery)

    def _tell(
        self, worker: Worker, message: Mapping[str, Any], sockets: Sequence[socket.socket] = ()
    ) -> bool:
        """Send a message to a worker. Return False if the worker has just ended, or does not read its messages."""
        control = self.processes[worker].control
        return control is not None and control.send(message, sockets)

    def _tell_service_manager(self) -> None:
        state = (self.plan.state, self.plan.is_replacing)
        if state == self._told:
            return
        self._told = state
        match state:
            case (State.STOPPING, _):
                service_manager.stopping()
            case (State.SERVING, True):
                service_manager.reloading()
            case (State.SERVING, False):
                service_manager.ready(self.plan.problem or "")

    # Signals

    async def _watch(self, signals: Any, follows_terminal: bool) -> None:
        async for signum in signals:
            # The system also sends SIGHUP when the terminal closes.
            is_hung_up = follows_terminal and not _has_terminal()
            if signum == signal.SIGHUP and not is_hung_up:
                await self._replace()
            else:
                await self._put.send(partial(self.plan.stop, signum))

    async def _replace(self, cause: str | None = None) -> None:
        await self._put.send(partial(self.plan.replace, cause=cause))

    # Workers

    async def _run_worker(self, process: _Process) -> None:
        worker = process.worker
        try:
            end = await self._live(process)
        except OSError as error:
            end = End(None, error.strerror or str(error))

        def ended(now: float) -> Sequence[Action]:
            # Delete it only now: until the plan knows of the end, an earlier event may still stop the worker.
            del self.processes[worker]
            # A worker that was killed has not removed its socket.
            if self.folder is not None:
                for kind in ("figures", "health"):
                    (self.folder / f"{kind}-{worker.id}.sock").unlink(missing_ok=True)
            return self.plan.ended(worker, end, now)

        await self._put.send(ended)

    async def _live(self, process: _Process) -> End:
        """Start the process of a worker, and serve it until it ends. Raises OSError."""
        with ExitStack() as theirs:
            ours, control = socket.socketpair()
            theirs.enter_context(control)
            process.control = line = ControlLine(ours)
            try:
                peers = [theirs.enter_context(sock) for sock in self._introduce(process)]
                grants_end, grants = socket.socketpair()
                theirs.enter_context(grants)
                process.grants = GrantLink(grants_end, self.grants, process.holder)
                try:
                    await self._spawn(process, control, peers, grants)
                    theirs.close()
                    return await self._serve(process, line, process.grants)
                finally:
                    process.grants.close()
            finally:
                line.close()

    def _introduce(self, process: _Process) -> list[socket.socket]:
        """Make a socket pair for a new worker and each other one. Return the new worker's ends."""
        ends = []
        for other in self.processes.values():
            if other is process or other.control is None:
                continue
            ours, theirs = socket.socketpair()
            with theirs:
                # A worker that has just ended, or that does not read its messages, gets none. Then its end closes here,
                # and the new worker notices that.
                other.control.send({"type": "peer"}, [theirs])
            ends.append(ours)
        return ends

    async def _spawn(
        self,
        process: _Process,
        control: socket.socket,
        peers: Sequence[socket.socket],
        grants: socket.socket,
    ) -> None:
        worker = process.worker
        sockets = self.sockets[worker.place - 1]
        self.starts[worker.id] += 1
        setup = Setup(
            id=worker.id,
            place=worker.place,
            host=self.settings.host,
            port=self.port,
            listening=[sock.fileno() for sock in sockets.public],
            internal=[sock.fileno() for sock in sockets.internal],
            peers=[sock.fileno() for sock in peers],
            grants=grants.fileno(),
            lock=self.lock,
            lifeline=self.lifeline,
            secret=self.secret,
            options=dict(self.settings.options),
            starts=self.starts[worker.id],
            replaces=self.plan.places[worker.place].successor is worker,
        )
        assert process.control is not None
        process.control.send(setup)
        process.process = await trio.lowlevel.open_process(
            [*self.settings.command, str(control.fileno())],
            stdin=subprocess.DEVNULL,
            pass_fds=(
                control.fileno(),
                grants.fileno(),
                self.lock,
                self.lifeline,
                *setup.peers,
                *setup.listening,
                *setup.internal,
            ),
            process_group=0,
            env={
                **os.environ,
                WORKER: str(worker.id),
                WORKERS_COUNT: str(self.settings.workers),
                WORKERS_FOLDER: str(self.folder or ""),
            },
        )
        for signum in process.pending:
            process.process.send_signal(signum)

    async def _serve(self, process: _Process, line: ControlLine, grants: GrantLink) -> End:
        assert process.process is not None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._listen, process, line)
            nursery.start_soon(grants.main)
            code = await process.process.wait()
            nursery.cancel_scope.cancel()
        self._free(process)
        return End(code)

    def _free(self, process: _Process) -> None:
        """Free the keys of a worker whose process was reaped, and tell the other workers at once."""
        lost = self.grants.free(process.holder)
        for other in self.processes.values():
            if lost and other is not process and other.grants is not None:
                other.grants.tell_lost(lost)

    async def _listen(self, process: _Process, line: ControlLine) -> None:
        worker = process.worker
        async for message in line.messages():
            match message:
                case {"type": "ready", "stop_seconds": float(seconds) | int(seconds)}:
                    ready = partial(self.plan.ready, stop_seconds=float(seconds))
                    await self._put.send(partial(ready, worker))
                case {"type": "stopping"}:
                    await self._put.send(partial(self.plan.stopping, worker))
                case {"type": "drained"}:
                    await self._put.send(lambda _: self.plan.drained(worker))
                case {"type": "report"}:
                    process.report = message
                    process.reported.set()
                case {"type": "problem"}:
                    for each in self.processes.values():
                        if each is not process and each.control is not None:
                            each.control.send(message)

    # Health

    async def report(self) -> list[Report]:
        """Return the report of the server and its workers. Waits at most a second for the answers of the workers."""
        async with self._reporting:
            asked = [process for process in self.processes.values() if self._ask(process)]
            with trio.move_on_after(_ANSWER):
                for process in asked:
                    await process.reported.wait()
            return self._report()

    def _report(self) -> list[Report]:
        now = trio.current_time()
        plan = self.plan
        server = ServerReport(
            address=self.address,
            pid=os.getpid(),
            state=plan.state,
            workers=plan.count,
            uptime=now - self.started,
            restarts=sum(place.restarts for place in plan.places.values()),
            replacing=plan.is_replacing,
            replacements=plan.generation,
            problem=plan.problem,
        )
        reports: list[Report] = [server]
        for place in plan.places.values():
            workers = list(place.workers())
            reports += [self._worker_report(place, worker, now) for worker in workers]
            if not workers:
                reports.append(_empty(place))
        return reports

    def _ask(self, process: _Process) -> bool:
        process.report, process.reported = None, trio.Event()
        return process.control is not None and process.control.send({"type": "report"})

    def _worker_report(self, place: Place, worker: Worker, now: float) -> WorkerReport:
        report = _empty(place)
        report.id, report.state, report.uptime = worker.id, worker.state, now - worker.started
        process = self.processes.get(worker)
        if process is None:
            return report
        answer = process.report or {}
        report.answers = process.report is not None
        report.connections, report.topics = answer.get("connections"), answer.get("topics")
        # With another arbiter, as in Redis, only the worker knows its keys.
        report.entities = self.grants.keys_of(process.holder) or answer.get("entities", 0)
        if process.process is not None:
            report.pid = process.process.pid
            report.memory, report.cpu = _usage(process.process.pid)
        for name in ("sent", "received", "dropped", "waiting_bytes"):
            setattr(report, name, answer.get(name, 0))
        return report


def _empty(place: Place) -> WorkerReport:
    return WorkerReport(
        place=place.number, state="waiting", restarts=place.restarts, last_end=place.last_end
    )


def _usage(pid: int) -> tuple[int | None, float | None]:
    """Return the resident memory of a process in bytes, and its CPU time in seconds."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        # The second field, the name of the program, may contain anything.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return pages * _PAGE, (int(fields[11]) + int(fields[12])) / _TICKS
    except (OSError, IndexError, ValueError):
        # The process has just ended.
        return None, None


def _has_terminal() -> bool:
    """Return True if this process has a terminal that is still open."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR))
    except OSError:
        return False
    return True

"""The program of a worker: `python -m channels.cli.worker MODULE:ENDPOINT NUMBER`. The parent of the workers starts it.

The worker serves the endpoint on the listening sockets that it inherits. One child of its supervision tree reads the
messages of the parent. The last child, `_Farewell`, tells the parent when the worker stops. The supervisor stops the
last child first.

- If another worker follows, this worker stops accepting connections before the endpoint closes its clients. New
  connections then wait for the next worker.
- If all workers stop, this worker closes its clients, and answers new ones with 503 until all workers have drained.

If the parent ends, the worker stops as if all workers stopped.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import ssl
import sys
from types import FrameType
from typing import Annotated, Any, Final, NoReturn

import msgspec
import trio
import typer

from actors.errors import CallExit
from actors.exits import ExitReason
from actors.links import trap_exits
from actors.refs import Pid
from actors.servers.gen_server import GenServer
from actors.text import printable
from channels.cli.console import new_app, run_app
from channels.cli.program import (
    LogFormat,
    LogLevel,
    load_endpoint,
    of_worker,
    open_log,
    recorders,
    tls_context,
)
from channels.cli.serve import explain, tune_collector
from channels.endpoint.endpoint import Endpoint
from channels.entities.supervisor import EntitySupervisor
from channels.errors import MISTAKES
from channels.pubsub.workers.adapter import WorkersAdapter
from channels.pubsub.workers.control import ControlLine, Setup, read_setup
from channels.pubsub.workers.grant_line import GrantClient
from channels.pubsub.workers.lifeline import Lifeline
from channels.pubsub.workers.places import PlaceSockets
from channels.pubsub.workers.plan import Timing
from supervision.applications import application
from supervision.applications.command_line.arguments import ProgramFailed
from supervision.child_spec import ChildSpec, process_spec
from supervision.dynamic_supervisor import DynamicSupervisor

__all__ = ["Options", "main"]

_log = logging.getLogger("channels.pubsub.workers")
# The maximum number of characters of a problem, so that the message to the parent fits into one line.
_LONGEST: Final = 10_000


class Options(msgspec.Struct, kw_only=True, frozen=True):
    """The options of `ashtree serve` that a worker needs. The worker gets them as the `options` of its `Setup`.

    Attributes:
        log_level: as for `ashtree serve`.
        log_format: as for `ashtree serve`.
        watchdog: as for `ashtree serve`.
        certfile: as for `ashtree serve`.
        keyfile: as for `ashtree serve`.
        record: as for `ashtree serve`; each worker has its own file.
        record_contents: as for `ashtree serve`.
        capsules: as for `ashtree serve`.
        reload: as for `ashtree serve`.
        chaos: as for `ashtree serve`.
    """

    log_level: LogLevel
    log_format: LogFormat = LogFormat.TEXT
    watchdog: float
    certfile: str | None = None
    keyfile: str | None = None
    record: str | None = None
    record_contents: bool = False
    capsules: str | None = None
    reload: bool = False
    chaos: bool = False


def main() -> NoReturn:
    """Run the worker."""
    app = new_app()
    app.command(help="A worker of `ashtree serve --workers`, which starts it.")(_work)
    run_app(app)


def _work(
    target: Annotated[str, typer.Argument(metavar="MODULE:ENDPOINT")],
    number: Annotated[int, typer.Argument(metavar="NUMBER", help="Of the control socket.")],
) -> None:
    sock, setup = _inherit(number)
    for descriptor in (setup.lifeline, setup.lock):
        os.set_inheritable(descriptor, False)
    lifeline = Lifeline(setup.lifeline, application.exit_now)
    options = msgspec.convert(setup.options, Options)
    open_log(options.log_level, options.log_format, worker=setup.id)
    if options.reload and options.log_level is LogLevel.INFO:
        # The parent logs one line for each changed file. These loggers would add a line for each step of the reload.
        for name in ("channels.drain", "channels.pubsub"):
            logging.getLogger(name).setLevel(logging.WARNING)
    context = tls_context(options.certfile, options.keyfile)
    line = ControlLine(sock)
    load = _load_or_explain if options.reload else _load
    try:
        endpoint = load(target, setup, line, chaos=options.chaos)
        _serve(endpoint, setup, options, line, lifeline, context=context)
    finally:
        lifeline.clean_up()


def _load(target: str, setup: Setup, line: ControlLine, *, chaos: bool) -> Endpoint:
    endpoint = load_endpoint(target, chaos=chaos)
    endpoint.check()
    return endpoint


def _load_or_explain(
    target: str, setup: Setup, line: ControlLine, *, chaos: bool = False
) -> Endpoint:
    """Return the endpoint. If it cannot be loaded, return an endpoint whose development page shows the problem.

    If this worker should replace a running worker, it sends the problem to the parent and exits instead. The running
    workers then show the problem.
    """
    # Write no bytecode. Python detects outdated bytecode by the second of the file's last change, so it would miss
    # another change in the same second.
    sys.dont_write_bytecode = True
    try:
        return _load(target, setup, line, chaos=chaos)
    except ProgramFailed as error:
        problem = error.text
    except (*MISTAKES, typer.BadParameter) as error:
        problem = str(error)
        sys.stderr.write(f"{printable(problem, lines=True)}\n")
    if len(problem) > _LONGEST:
        # Keep both ends, because a traceback names the file at its beginning and the error at its end.
        problem = f"{problem[: _LONGEST // 2]}\n...\n{problem[-_LONGEST // 2 :]}"
    if setup.replaces:
        line.send({"type": "problem", "text": problem})
        raise SystemExit(1)
    endpoint = Endpoint(sockets={}, development=True)
    endpoint.load_problem = problem
    return endpoint


def _inherit(number: int) -> tuple[socket.socket, Setup]:
    """Return the inherited control socket, and the setup that the parent wrote to it before the start."""
    try:
        sock = _own(number)
        return sock, read_setup(sock)
    except (OSError, ValueError):
        raise typer.BadParameter(
            "this program is a worker; start it with `ashtree serve MODULE:ENDPOINT --workers N`"
        ) from None


def _own(number: int) -> socket.socket:
    """Return an inherited socket. Programs that this worker starts do not inherit it again."""
    os.set_inheritable(number, False)
    return socket.socket(fileno=number)


def _serve(
    endpoint: Endpoint,
    setup: Setup,
    options: Options,
    line: ControlLine,
    lifeline: Lifeline,
    *,
    context: ssl.SSLContext | None,
) -> None:
    sockets = PlaceSockets([_own(number) for number in setup.listening])
    # While this worker starts, its predecessor answers the probes, which would get 503 here.
    internal = PlaceSockets([_own(number) for number in setup.internal], waits=setup.replaces)
    peers, grants = [_own(number) for number in setup.peers], _own(setup.grants)
    adapter = None
    if endpoint.pubsub.is_local:
        adapter = WorkersAdapter(peers, grants=GrantClient(grants))
        endpoint.pubsub.use(adapter)
    else:
        # The application has its own adapter, which also reaches the other workers.
        for sock in (*peers, grants):
            sock.close()
    shutdown_deadline = endpoint.draining.shutdown_deadline
    worker = _Worker(endpoint, line, sockets, internal, adapter)
    # The same limit as that of the parent.
    lifeline.serving(shutdown_deadline + Timing().stop_grace)

    def started(_: Pid) -> None:
        tune_collector()
        internal.begin()
        line.send({"type": "ready", "stop_seconds": shutdown_deadline})

    application.run(
        [
            *recorders(
                of_worker(options.record, setup.id, setup.starts),
                options.capsules,
                contents=options.record_contents,
                about={"place": f"place {setup.place}"},
            ),
            process_spec(worker.listen, id="parent", restart="transient"),
            endpoint.child_spec(
                host=setup.host,
                port=setup.port,
                ssl_context=context,
                listen=sockets.listen,
                secret_key_base=setup.secret,
                # The sockets have the address already.
                internal_port=0 if setup.internal else None,
                internal_listen=internal.listen,
            ),
            ChildSpec(
                "farewell",
                _Farewell.start_link,
                (worker,),
                # As for the drainer of the endpoint.
                shutdown=endpoint.draining.longest + 5.0,
            ),
        ],
        on_started=started,
        shutdown_deadline=shutdown_deadline,
        watchdog=options.watchdog or None,
        explain=explain,
    )


class _Worker:
    """The side of the worker that talks to the parent."""

    def __init__(
        self,
        endpoint: Endpoint,
        line: ControlLine,
        sockets: PlaceSockets,
        internal: PlaceSockets,
        adapter: WorkersAdapter | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._line = line
        self._sockets = sockets
        self._internal = internal
        self._adapter = adapter
        self._stops_together = False
        self._is_orphan = False
        self._notes_signals = False
        # A signal came from another process.
        self._has_signal = False
        # The signals that this worker has sent to itself, and that have not arrived yet.
        self._own_signals = 0
        self._released = trio.Event()

    def _note_signals(self) -> None:
        """Install signal handlers that remember a signal, and then call the earlier handler. Later calls do nothing."""
        if self._notes_signals:
            # The supervisor has restarted `listen`. A second handler would count each signal twice.
            return
        self._notes_signals = True
        for signum in (signal.SIGINT, signal.SIGTERM):
            before = signal.getsignal(signum)

            def handle(number: int, frame: FrameType | None, before: Any = before) -> None:
                if self._own_signals:
                    self._own_signals -= 1
                elif self._is_orphan and not self._has_signal:
                    # This worker drains already, because its parent has ended. The signal asks for the same.
                    self._has_signal = True
                    return
                else:
                    self._has_signal = True
                before(number, frame)

            if callable(before):
                signal.signal(signum, handle)

    async def listen(self) -> None:
        """Follow the messages of the parent, until the parent ends. Then stop this worker."""
        self._note_signals()
        async for message in self._line.messages():
            match message:
                case {"type": "report"}:
                    self._line.send({"type": "report", **await self._figures()})
                case {"type": "problem", "text": str(text)}:
                    self._endpoint.load_problem = text
                case {"type": "stop", "signal": int(signum)}:
                    self._stop_together(signum)
                case {"type": "peer"}:
                    for sock in self._line.take_sockets(1):
                        if self._adapter is None:
                            sock.close()
                        else:
                            self._adapter.connect(sock)
                case {"type": "adopt", "sockets": int(count), "internal": int(internal)}:
                    self._sockets.adopt(self._line.take_sockets(count))
                    self._internal.adopt(self._line.take_sockets(internal))
                case {"type": "release"}:
                    self._released.set()
        _log.warning("the parent of the workers has ended; this worker drains and stops")
        self._is_orphan = True
        self._released.set()
        self._stop_together(signal.SIGTERM)

    def _stop_together(self, signum: int) -> None:
        """Stop this worker. No next worker follows, so new clients get 503 while this worker drains."""
        stops = self._has_signal or self._stops_together
        self._stops_together = True
        if not stops:
            # Not after an earlier signal, because a second one would end this worker without a drain. systemd, for
            # example, signals all processes of the server.
            self._own_signals += 1
            signal.raise_signal(signum)

    async def _figures(self) -> dict[str, Any]:
        connections = 0
        for name in ("connections", "sessions"):
            try:
                counts = await DynamicSupervisor.count_children((self._endpoint, name))
            except CallExit:
                # The endpoint has no sessions, or is stopping.
                continue
            connections += counts.active
        pubsub = self._endpoint.pubsub.statistics()
        entities = [each for each in self._endpoint.children if isinstance(each, EntitySupervisor)]
        return {
            "connections": connections,
            "entities": sum(each.statistics().get("keys", 0) for each in entities),
            "topics": pubsub["topics"],
            **({} if self._adapter is None else self._adapter.statistics()),
        }

    async def farewell(self) -> None:
        """Tell the parent that this worker stops, and drain.

        If a next worker follows, leave further connections to it. If all workers stop, answer them with 503 until all
        workers have drained, because the system spreads new connections over all places that are open.
        """
        self._line.send({"type": "stopping"})
        if not self._stops_together:
            await self._endpoint.stop_accepting()
        else:
            with trio.move_on_after(self._endpoint.draining.longest):
                await self._endpoint.drain()
                self._line.send({"type": "drained"})
                await self._released.wait()
        self._sockets.close()
        self._internal.close()


class _Farewell(GenServer[None]):
    """The last child of the supervision tree. The supervisor stops it first."""

    async def init(self, worker: _Worker) -> None:
        trap_exits()
        self._worker = worker

    async def terminate(self, reason: ExitReason) -> None:
        await self._worker.farewell()


if __name__ == "__main__":
    main()

"""Health probes of a server: liveness, readiness and draining.

    from channels.operations.health import Health

    endpoint = Endpoint(sockets={"/socket": UserSocket}, plugs=[Health()])

The probes are on the port of the endpoint, and on its internal port if it has one. While the endpoint drains, each new
connection to its port gets 503, and only the internal port answers probes. Load balancers and Kubernetes ask
them with GET or HEAD:

    GET /health/live        200 as long as the event loop runs
    GET /health/ready       200 if the server wants new clients, else 503
    GET /health/draining    200 with {"draining": true} or {"draining": false}
    GET /health/workers     200 if all workers are ready, else 503; the answer has the state of each

The answers show no names or versions, except the names of failed `checks`. With several workers, a probe reaches one of
them. The first three probes report only the state of this worker. The field `worker` of the answer has its id.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import trio

from actors.arguments import check_positive
from actors.errors import InvalidOption
from actors.text import shown
from channels.operations.worker_figures import WorkerFigures
from channels.pubsub.adapter import WORKER, WORKERS_COUNT, WORKERS_FOLDER
from channels.serving.plug import Plug
from channels.serving.services import Services
from channels.transports.asgi_responses import send_response
from channels.transports.asgi_stream import ASGIApplication, path_of
from supervision.child_spec import ChildSpec, process_spec

__all__ = ["Check", "Health"]

Check: TypeAlias = Callable[[], Awaitable[object]]
"""An async function that checks one dependency of the server. If it returns False or raises, the server is not
ready."""

_log = logging.getLogger("channels.operations.health")
_HEADERS = (("content-type", "application/json"), ("cache-control", "no-store"))


class Health(Plug):
    """The probes of one endpoint, for `Endpoint(plugs=[Health()])`.

        async def database() -> None:
            await pool.fetch_value("select 1")

        Health(ready="/readyz", live="/livez", draining=None, checks={"database": database})

    Args:
        live: the path of the liveness probe; None turns it off.
        ready: the path of the readiness probe; None turns it off.
        draining: the path of the drain probe; None turns it off.
        workers: the path of the probe of all workers; None turns it off. Without `ashtree serve --workers`, it is a
            second readiness probe.
        public: False answers the probes only on the internal port, if the endpoint has one.
        checks: async functions by name. The server is ready if none of them raises or returns False.
        check_timeout: seconds for a check. After that, the check has failed.
        check_interval: seconds for which `Health` keeps the result of the checks, so that many probes cause few checks.

    Raises:
        InvalidOption: a path has no slash, two paths are equal, or a number is not above 0.

    Readiness begins when all processes of the endpoint run, and ends before the drain begins: see `Draining(notice=)`.
    If the server loses its connection to other nodes, it stays ready, because it still serves its own clients. If your
    clients need the other nodes, add a check.
    """

    def __init__(
        self,
        *,
        live: str | None = "/health/live",
        ready: str | None = "/health/ready",
        draining: str | None = "/health/draining",
        workers: str | None = "/health/workers",
        public: bool = True,
        checks: Mapping[str, Check] | None = None,
        check_timeout: float = 1.0,
        check_interval: float = 1.0,
    ) -> None:
        check_positive("Health", "check_timeout", check_timeout)
        check_positive("Health", "check_interval", check_interval)
        self._paths: dict[str, str] = {}
        for option, path in (
            ("live", live),
            ("ready", ready),
            ("draining", draining),
            ("workers", workers),
        ):
            if path is None:
                continue
            if not isinstance(path, str) or not path.startswith("/"):
                raise InvalidOption("Health", option, path, "a path that begins with /, or None")
            if path in self._paths:
                # One of the two is the user's, and the other one may be a default.
                raise InvalidOption(
                    "Health",
                    option,
                    path,
                    f"another path, because {self._paths[path]}= has the same one; each probe needs a path of its own",
                )
            self._paths[path] = option
        self.public = public
        self._checks = _Checks(checks or {}, check_timeout, check_interval)
        self._worker = os.environ.get(WORKER)
        self._others: WorkerFigures | None = None
        # Wait longer than `check_timeout`, because another worker may need this time for its checks.
        self._timeout = check_timeout + 1.0
        self._interval = check_interval
        self._states: tuple[float, dict[str, str]] = (float("-inf"), {})
        self._asking: trio.Lock | None = None

    def find(self, scope: Any, services: Services) -> ASGIApplication | None:
        """Return the application for a probe."""
        kind = self._paths.get(path_of(scope))
        return None if kind is None else partial(self._serve, kind, services)

    def children(self, services: Services) -> Sequence[ChildSpec]:
        """Return the child spec of a process that answers other workers. The list is empty without other workers."""
        folder = os.environ.get(WORKERS_FOLDER)
        if self._worker is None or not folder or "workers" not in self._paths.values():
            return []
        report = partial(self._report, services)
        self._others = WorkerFigures(
            Path(folder), self._worker, report, kind="health", timeout=self._timeout
        )
        return [process_spec(self._others.serve, id="health", restart="transient")]

    async def _serve(
        self, kind: str, services: Services, scope: Any, receive: Any, send: Any
    ) -> None:
        leaving, starting = services.admission.leaving, not services.admission.started
        if scope["method"] not in {"GET", "HEAD"}:
            status, body = 405, {"error": "send GET or HEAD"}
        else:
            asks = kind in {"ready", "workers"} and not leaving and not starting
            failed = await self._checks.failed() if asks else []
            status, body = _answer(kind, leaving=leaving, failed=failed, starting=starting)
            if kind == "workers" and self._others is not None:
                status, body = await self._all_workers(body["status"], self._others)
            body |= self._name()
        data = msgspec.json.encode(body)
        headers = dict(_HEADERS)
        if leaving and scope.get("http_version", "1.1").startswith("1"):
            # With this header, the next probe opens a new connection, which reaches the worker that replaces this one.
            # HTTP/2 forbids the header.
            headers["connection"] = "close"
        await send_response(send, status, data, headers)

    def _name(self) -> dict[str, Any]:
        """Return the field `worker` with the id of this worker. The dict is empty without other workers."""
        return {} if self._worker is None else {"worker": self._worker}

    async def _report(self, services: Services) -> bytes:
        """Return the state of this worker, for another worker."""
        leaving, starting = services.admission.leaving, not services.admission.started
        failed = [] if leaving or starting else await self._checks.failed()
        answer = _answer("ready", leaving=leaving, failed=failed, starting=starting)
        return str(answer[1]["status"]).encode()

    async def _all_workers(self, own: str, others: WorkerFigures) -> tuple[int, dict[str, Any]]:
        states = {str(self._worker): own, **await self._states_of(others)}
        ready = sum(state == "ready" for state in states.values())
        # While the parent replaces a worker, there may be more ready workers than wanted.
        wanted = int(os.environ.get(WORKERS_COUNT, "1"))
        status, word = (200, "ready") if ready >= wanted else (503, "not ready")
        return status, {"status": word, "ready": ready, "wanted": wanted, "workers": states}

    async def _states_of(self, others: WorkerFigures) -> dict[str, str]:
        """Return the states of the other workers. Ask them, unless the last answers are fresh."""
        self._asking = lock = self._asking or trio.Lock()
        async with lock:
            if not 0 <= trio.current_time() - self._states[0] < self._interval:
                answers = await others.ask_all()
                # Trust the answers, because only this user can write to the folder of the sockets.
                states = {
                    worker: answer.decode() if answer else "no answer"
                    for worker, answer in answers.items()
                }
                self._states = (trio.current_time(), states)
            return self._states[1]


def _answer(
    kind: str, *, leaving: bool, failed: list[str], starting: bool = False
) -> tuple[int, dict[str, Any]]:
    """Return the status and the body of a probe. Pure."""
    if kind == "live":
        return 200, {"status": "live"}
    if kind == "draining":
        return 200, {"draining": leaving}
    if leaving:
        return 503, {"status": "draining"}
    if starting:
        return 503, {"status": "starting"}
    if failed:
        return 503, {"status": "not ready", "failed": failed}
    return 200, {"status": "ready"}


class _Checks:
    """The checks of the application, and their last result."""

    def __init__(self, checks: Mapping[str, Check], timeout: float, interval: float) -> None:
        self._checks = dict(checks)
        self._timeout = timeout
        self._interval = interval
        self._failed: list[str] = []
        self._expires = float("-inf")
        self._lock: trio.Lock | None = None

    async def failed(self) -> list[str]:
        """Return the names of the checks that fail. Run the checks, unless the last result is fresh."""
        if not self._checks:
            return []
        # Do not create the lock in the constructor: an endpoint may be created outside of Trio, and may run several
        # times.
        self._lock = lock = self._lock or trio.Lock()
        async with lock:
            if not self._expires - self._interval <= trio.current_time() < self._expires:
                self._failed = await self._run()
                self._expires = trio.current_time() + self._interval
        return self._failed

    async def _run(self) -> list[str]:
        failed = set[str]()

        async def run(name: str, check: Check) -> None:
            try:
                with trio.fail_after(self._timeout):
                    if await check() is not False:
                        return
            # Catch every exception: a bug in a check must not end the probe. The check then counts as failed.
            except Exception as error:
                _log.warning("The health check %r failed: %s", name, shown(error))
            failed.add(name)

        async with trio.open_nursery() as nursery:
            for name, check in self._checks.items():
                nursery.start_soon(run, name, check)
        return [name for name in self._checks if name in failed]

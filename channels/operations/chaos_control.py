"""A plug for chaos experiments on a running endpoint. It applies faults, and answers questions about the endpoint.

    from channels.operations.chaos_control import ChaosControl

    endpoint = Endpoint(sockets={"/socket": UserSocket}, plugs=[ChaosControl(token=os.environ["ASHTREE_CHAOS_TOKEN"])])

The functions of `supervision.laboratory.chaos.toolkit` send the requests, so that `chaos run` of the Chaos
Toolkit can drive the server. Use this plug only in staging, because everyone who has the token can break the server.

A request is a POST of a JSON object to `/_ashtree/chaos/VERB`, with the header `Authorization: Bearer TOKEN`. The
answer is `{"result": ...}`, or `{"problem": "..."}` with an HTTP status of 400 or more. If the server has several
workers, one worker gets the request, and the answer describes only this worker. `channels.laboratory.live_cluster`
chooses a worker, or the owner of an entity.

A fault may end the connection that carries its own request. So the request for an action may have the header
`Idempotency-Key`. If the sender repeats the request with the same key, the control returns the first answer again, and
does not repeat the action. If the action still runs, the repeated request waits for its answer.
"""

from __future__ import annotations

import logging
import math
import os
import signal
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from inspect import isawaitable
from typing import Any, Final, TypeAlias

import msgspec
import trio
from attrs import define

from actors import sys
from actors.addresses import whereis
from actors.arguments import check_positive, is_number
from actors.errors import CallExit, InvalidArgument
from actors.instrumentation.telemetry import Event
from actors.links import kill
from actors.refs import Pid
from actors.runtime import in_runtime
from channels.endpoint.endpoint import Endpoint
from channels.entities.supervisor import EntitySupervisor
from channels.errors import ChannelsError
from channels.pubsub.adapter import WORKER
from channels.serving.plug import Plug, check_path
from channels.serving.requests import (
    BearerTokens,
    RequestRefused,
    headers_of,
    read_body,
    send_json,
)
from channels.serving.services import Services
from channels.transports.asgi_stream import ASGIApplication, path_of
from supervision.child_spec import RESTARTING, ChildInfo, ChildSpec, process_spec
from supervision.dynamic_supervisor import DynamicSupervisor
from supervision.errors import SupervisionError
from supervision.events import CHILD_RESTARTED
from supervision.laboratory.chaos.errors import InvalidFault
from supervision.laboratory.chaos.faults.kinds import (
    Fault,
    describe_fault,
    lasting_seconds,
    needs_instrument,
    plan_from_json,
)
from supervision.laboratory.chaos.faults.moments import At
from supervision.laboratory.chaos.injection.injector import Injector
from supervision.laboratory.chaos.toolkit import TOKEN
from supervision.recording.flight import recorder_of
from supervision.recording.places import Places
from supervision.recording.reader.figures import percentile
from supervision.recording.trace import Trace
from supervision.supervisor import Supervisor
from supervision.tree.supervisors import kind_of, some_children

__all__ = ["ChaosControl", "Check", "allow_chaos"]

Check: TypeAlias = Callable[[], str | Awaitable[str | None] | None]
"""A function that returns the text of a problem, or None. It may be async. `world.steady` takes the same functions."""

MAX_FAULTS: Final = 100
"""The maximum number of faults that last at the same time. At this limit, the control refuses further faults."""

MAX_BODY: Final = 64 * 1024
"""The maximum number of bytes in the body of a request."""

MAX_RESTARTS: Final = 10_000
"""The number of restarts whose times the control remembers. Beyond this number, it forgets the oldest restart."""

MAX_ANSWERS: Final = 100
"""The number of answers to actions that the control remembers for repeated requests. It forgets the oldest first."""

LAG_EVERY: Final = 0.05
"""Seconds between two measurements of the lag of the event loop."""

FIRST_LAG_SECONDS: Final = 1.0
"""Seconds that a question about the lag waits for the first measurement."""

LAG_SECONDS: Final = 600.0
"""Seconds for which the control remembers measurements of the lag."""

SUPERVISOR_SECONDS: Final = 1.0
"""Seconds to wait until a supervisor reports the restart type of a child. After that, the child counts as missing."""

_MAX_PATHS: Final = 50_000
_MAX_CHILDREN: Final = 10_000
_SLICE: Final = 2000
_BODY_SECONDS: Final = 10.0

_log = logging.getLogger("channels.operations.chaos")


class ChaosControl(Plug):
    """The chaos control of one endpoint, for `Endpoint(plugs=[ChaosControl(token=...)])`.

        ChaosControl(token=os.environ["ASHTREE_CHAOS_TOKEN"], checks={"the queue is short": queue_is_short})

    Args:
        token: the secret that every request must contain, at least 16 characters of ASCII without spaces.
        path: the path below which the endpoint serves the control.
        checks: the checks of the application, by name. The probe `check_holds` runs a check. A check is a function as
            for `world.steady`.
        max_seconds: the control undoes every fault after at most this many seconds, even if the experiment has ended
            without a rollback. No request waits longer for the moment of a fault, or for the answer of a process.
        check_timeout: seconds for a check. A check that takes longer does not hold.

    Raises:
        InvalidOption: the token is too short or has a space, the path has no slash, or a number is not above 0.

    The control cannot apply faults of connections and nodes. Use `ashtree chaos` for these faults, or kill the process
    of a connection. `ashtree serve --chaos` adds a control to an endpoint without one.
    """

    def __init__(
        self,
        *,
        token: str,
        path: str = "/_ashtree/chaos",
        checks: Mapping[str, Check] | None = None,
        max_seconds: float = 300.0,
        check_timeout: float = 5.0,
    ) -> None:
        check_path("ChaosControl", path, example="/_ashtree/chaos")
        check_positive("ChaosControl", "max_seconds", max_seconds)
        check_positive("ChaosControl", "check_timeout", check_timeout)
        self._tokens = BearerTokens("ChaosControl", token, verifiers=False)
        self._path = path
        self._checks = dict(checks or {})
        self._max_seconds = max_seconds
        self._check_timeout = check_timeout
        self._session: _RunningControl | None = None

    def __repr__(self) -> str:
        return f"<chaos control at {self._path}>"

    # The plug

    def attach(self, services: Services) -> Callable[[], None]:
        """Start to observe the runtime of an endpoint, and return the function that stops observing it.

        Raises:
            ChannelsError: this object controls another endpoint.
        """
        if self._session is not None:
            raise ChannelsError(
                "two running endpoints have the same ChaosControl object; write ChaosControl(...) for each of them"
            )
        session = self._session = _RunningControl(services, self._max_seconds)
        detach = services.runtime.telemetry.attach(CHILD_RESTARTED, session.child_restarted)

        def leave() -> None:
            self._session = None
            detach()
            session.close()

        return leave

    def children(self, services: Services) -> Sequence[ChildSpec]:
        """Return the child spec of the process that measures the event loop and undoes old faults."""
        return [process_spec(self._keep, id="chaos")]

    def find(self, scope: Any, services: Services) -> ASGIApplication | None:
        """Return the application for a request to the control."""
        path = path_of(scope)
        if not path.startswith(f"{self._path}/"):
            return None
        return partial(self._serve, path[len(self._path) + 1 :], services)

    async def _keep(self) -> None:
        """Measure the lag of the event loop, and undo the faults whose time is over. Run until cancelled."""
        due = trio.current_time() + LAG_EVERY
        while True:
            await trio.sleep_until(due)
            now = trio.current_time()
            # Record a lag for every due time that passed during a stall, as a live run does.
            while due <= now:
                # There may be no session yet, because the endpoint starts this process before it attaches the plug.
                if self._session is not None:
                    self._session.keep(due, now)
                due += LAG_EVERY

    # A request

    async def _serve(
        self, verb: str, services: Services, scope: Any, receive: Any, send: Any
    ) -> None:
        headers, extra = headers_of(scope), {}
        try:
            self._tokens.admit(headers)
            if scope["method"] != "POST":
                raise RequestRefused(405, "send POST")
            with await read_body(
                services, receive, max_bytes=MAX_BODY, timeout=_BODY_SECONDS
            ) as body:
                arguments = _arguments(body.data)
            key = headers.get("idempotency-key") if verb in _ACTIONS else None
            status, answer = await self._answer_once(key, verb, arguments)
        except RequestRefused as refusal:
            status, answer = refusal.status, {"problem": str(refusal)}
            extra = refusal.headers
        worker = os.environ.get(WORKER)
        if worker is not None and status != 401:
            answer = {**answer, "worker": worker}
        await send_json(send, status, answer, extra)

    async def _answer_once(
        self, key: str | None, verb: str, arguments: dict[str, Any]
    ) -> tuple[int, dict[str, Any]]:
        """Return the status and the answer. If an earlier action had the same key, return the answer to that action."""
        session = self._session
        if session is None:
            raise RequestRefused(503, "the endpoint is stopping")
        if not key:
            return await self._try(session, verb, arguments)
        while (running := session.running.get(key)) is not None:
            await running.wait()
        if key in session.answers:
            return session.answers[key]
        ended = session.running[key] = trio.Event()
        try:
            # There is no checkpoint between the action and the next line. So the control stores the answer, even if the
            # action ended the connection of this request.
            answer = await self._try(session, verb, arguments)
            session.answers[key] = answer
            if len(session.answers) > MAX_ANSWERS:
                del session.answers[next(iter(session.answers))]
        finally:
            del session.running[key]
            ended.set()
        return answer

    async def _try(
        self, session: _RunningControl, verb: str, arguments: dict[str, Any]
    ) -> tuple[int, dict[str, Any]]:
        try:
            return 200, {"result": await self._answer(session, verb, arguments)}
        except RequestRefused as refusal:
            return refusal.status, {"problem": str(refusal)}

    async def _answer(self, session: _RunningControl, verb: str, arguments: dict[str, Any]) -> Any:
        with in_runtime(session.services.runtime):
            if verb == "check":
                return await self._check(_text(arguments, "check"))
            handler = _VERBS.get(verb)
            if handler is None:
                raise RequestRefused(404, f"there is no {verb!r}; write one of {', '.join(_ALL)}")
            return await handler(session, arguments)

    async def _check(self, name: str) -> str | None:
        """Run a check of the application. Return its problem, or None."""
        check = self._checks.get(name)
        if check is None:
            raise RequestRefused(
                404, f"there is no check {name!r}; name it in ChaosControl(checks=...)"
            )
        with trio.move_on_after(self._check_timeout):
            try:
                answer = check()
                if isawaitable(answer):
                    answer = await answer
            except Exception as error:  # a check that raises does not hold
                return f"the check raised {type(error).__name__}: {error}"
            if answer is None or isinstance(answer, str):
                return answer
            return f"the check returned {answer!r}; return None, or the problem as text"
        return f"the check took longer than {self._check_timeout:g} s"


def allow_chaos(endpoint: Endpoint) -> None:
    """Add a chaos control to an endpoint without one, for `ashtree serve --chaos`. Its token is in the environment.

    Raises:
        ChannelsError: there is no token.
    """
    token = os.environ.get(TOKEN)
    if token is None:
        raise ChannelsError(
            f"--chaos needs a token; set {TOKEN}, whose holders can break this server"
        )
    if not any(isinstance(each, ChaosControl) for each in endpoint.plugs):
        endpoint.plugs = (*endpoint.plugs, ChaosControl(token=token))


@define(eq=False)
class _Lasting:
    """A fault that lasts, and the time on Trio's clock at which the control undoes the fault."""

    injector: Injector
    until: float


class _RunningControl:
    """The state of the control while its endpoint runs."""

    def __init__(self, services: Services, max_seconds: float) -> None:
        self.services = services
        self.places = Places(services.runtime, max_paths=_MAX_PATHS)
        self.restarts: deque[float] = deque(maxlen=MAX_RESTARTS)
        self.measured = trio.Event()
        self.lags: deque[tuple[float, float]] = deque(maxlen=int(LAG_SECONDS / LAG_EVERY))
        self.answers: dict[str, tuple[int, dict[str, Any]]] = {}
        # The actions that run, by the keys of their requests.
        self.running: dict[str, trio.Event] = {}
        self.max_seconds = max_seconds
        self._lasting: list[_Lasting] = []
        # The number of faults that wait for their moment. They also count towards `MAX_FAULTS`.
        self._waiting = 0

    def close(self) -> None:
        """Undo all faults, and stop observing the runtime."""
        self.undo()
        self.places.close()

    def child_restarted(self, event: Event, measured: object, about: object) -> None:
        """Note the time of a restart."""
        self.restarts.append(trio.current_time())

    def keep(self, due: float, now: float) -> None:
        """Note the lag of the event loop at a due time, and undo the faults whose time is over."""
        self.lags.append((due, now - due))
        self.measured.set()
        for each in [each for each in self._lasting if each.until <= now]:
            self._lasting.remove(each)
            each.injector.close()

    # Processes

    def find(self, arguments: dict[str, Any]) -> Pid | None:
        """Return the process with a registered name, or else the newest process whose path matches."""
        target = _text(arguments, "target")
        return whereis(target) or self.places.find(target)

    def process(self, arguments: dict[str, Any]) -> Pid:
        """Return the process of the argument `target`.

        Raises:
            RequestRefused: there is no matching process.
        """
        pid = self.find(arguments)
        if pid is None:
            raise RequestRefused(
                409,
                f"there is no process {arguments['target']!r}; write a registered name, or a path such as "
                "/top/endpoint/connections",
            )
        return pid

    def title(self, pid: Pid) -> str:
        """Return the path of a process, or its repr if it has no path."""
        place = self.places.was_at(pid)
        return repr(pid) if place is None else place.path

    # Faults

    async def inject(self, fault: Fault, wait: float) -> dict[str, Any]:
        """Apply a fault, and wait at most `wait` seconds for its moment.

        Raises:
            RequestRefused: too many faults last, the moment is too late, or the fault could not be applied.
        """
        delay = fault.when.seconds if isinstance(fault.when, At) else 0.0
        if delay > self.max_seconds:
            raise RequestRefused(
                400,
                f"the fault has its moment in {delay:g} s; write at most {self.max_seconds:g} s, or send it later",
            )
        if len(self._lasting) + self._waiting >= MAX_FAULTS:
            raise RequestRefused(409, f"{MAX_FAULTS} faults last already; undo them first")
        runtime = self.services.runtime
        injector = Injector(trace=_ToRecorder(self))
        injector.add(runtime, self.places, observe=needs_instrument(fault))
        _log.warning("The chaos control applies a fault: %s", describe_fault(fault))
        self._waiting += 1
        is_kept = False
        try:
            injector.start((fault,))
            with trio.move_on_after(delay + wait):
                await injector.decided()
            (report,) = injector.report()
            if report.status != "applied":
                raise RequestRefused(
                    409, f"{report.text}: {report.status.replace('_', ' ')}: {report.why}"
                )
            seconds = min(lasting_seconds(fault), self.max_seconds)
            if seconds > 0:
                self._lasting.append(_Lasting(injector, trio.current_time() + seconds))
                is_kept = True
            return {"fault": report.text, "where": report.where, "seconds": seconds}
        finally:
            self._waiting -= 1
            if not is_kept:
                injector.close()

    def undo(self) -> int:
        """Undo all faults that last. Return their number."""
        lasting, self._lasting = self._lasting, []
        for each in lasting:
            each.injector.close()
        return len(lasting)


class _ToRecorder(Trace):
    """A trace that keeps no events. It passes faults to the flight recorder, so that stories name them as causes."""

    def __init__(self, session: _RunningControl) -> None:
        super().__init__(lambda: (0.0, 0, 0), keep=False)
        self._session = session

    def add(self, kind: str, fields: dict[str, Any]) -> int:
        recorder = recorder_of(self._session.services.runtime)
        if kind == "fault" and recorder is not None:
            living = self._session.places.living
            pid = next((pid for pid in living if pid.number == fields["pid"]), None)
            about = {name: value for name, value in fields.items() if name != "pid"}
            recorder.add(kind, pid, about)
        return 0


# The verbs


async def _ping(session: _RunningControl, arguments: dict[str, Any]) -> None:
    return None


async def _inject(session: _RunningControl, arguments: dict[str, Any]) -> dict[str, Any]:
    wait = _number(arguments, "wait", 5.0, most=session.max_seconds)
    content = arguments.get("fault")
    if isinstance(content, dict):
        content = {"when": {"type": "at", "seconds": 0.0}, **content}
    try:
        (fault,) = plan_from_json(msgspec.json.encode([content]))
    except InvalidFault as error:
        raise RequestRefused(400, f"{content!r} is not a fault: {error.advice}") from None
    return await session.inject(fault, wait)


async def _undo(session: _RunningControl, arguments: dict[str, Any]) -> int:
    return session.undo()


async def _kill(session: _RunningControl, arguments: dict[str, Any]) -> str:
    pid = session.process(arguments)
    title = session.title(pid)
    _log.warning("The chaos control kills %s", title)
    recorder = recorder_of(session.services.runtime)
    if recorder is not None:
        recorder.fault("kill", pid, text=f"kill {title}")
    kill(pid)
    return title


async def _suspend(session: _RunningControl, arguments: dict[str, Any]) -> str:
    return await _tell(session, arguments, sys.suspend, "suspends")


async def _resume(session: _RunningControl, arguments: dict[str, Any]) -> str:
    return await _tell(session, arguments, sys.resume, "resumes")


async def _tell(
    session: _RunningControl,
    arguments: dict[str, Any],
    order: Callable[..., Awaitable[None]],
    verb: str,
) -> str:
    pid = session.process(arguments)
    title = session.title(pid)
    _log.warning("The chaos control %s %s", verb, title)
    try:
        await order(pid, timeout=_number(arguments, "timeout", 1.0, most=session.max_seconds))
    except CallExit:
        problem = f"{title} did not answer in time; only a server that is not busy can"
        raise RequestRefused(409, problem) from None
    return title


async def _drain(session: _RunningControl, arguments: dict[str, Any]) -> str:
    worker = os.environ.get(WORKER)
    if worker is None:
        raise RequestRefused(
            409,
            "this server has no workers, so nothing would replace it; start it with `ashtree serve --workers N`",
        )
    _log.warning("The chaos control drains worker %s", worker)
    os.kill(os.getpid(), signal.SIGTERM)
    return worker


async def _owner(session: _RunningControl, arguments: dict[str, Any]) -> str | None:
    name, key = _text(arguments, "supervisor"), _text(arguments, "key")
    for child in session.services.endpoint.children:
        if isinstance(child, EntitySupervisor) and child.name == name:
            try:
                placement = await child.where(key)
            except (CallExit, InvalidArgument) as error:
                raise RequestRefused(409, f"nobody knows the owner of {key!r}: {error}") from None
            return None if placement is None else placement.node
    raise RequestRefused(404, f"the endpoint has no EntitySupervisor {name!r} among its children")


async def _alive(session: _RunningControl, arguments: dict[str, Any]) -> bool:
    return session.find(arguments) is not None


async def _restarts(session: _RunningControl, arguments: dict[str, Any]) -> int:
    since = trio.current_time() - _number(arguments, "seconds", 60.0)
    return sum(time >= since for time in session.restarts)


async def _lag(session: _RunningControl, arguments: dict[str, Any]) -> dict[str, float | None]:
    since = trio.current_time() - _number(arguments, "seconds", 10.0)
    with trio.move_on_after(FIRST_LAG_SECONDS):
        await session.measured.wait()
    lags = [lag for due, lag in session.lags if due >= since]
    if not lags:
        raise RequestRefused(409, "the event loop was not measured in this time; wait for a second")
    return {
        "median": percentile(lags, 0.5),
        "p99": percentile(lags, 0.99),
        "longest": max(lags),
    }


async def _clients(session: _RunningControl, arguments: dict[str, Any]) -> dict[str, int]:
    services = session.services
    pages = services.http.connections
    websockets = await _children_of((services.endpoint, "connections"))
    polling = await _children_of((services.endpoint, "sessions")) if services.longpolls else 0
    return {"websocket": max(0, websockets - pages), "longpoll": polling}


async def _children_of(supervisor: object) -> int:
    try:
        return (await DynamicSupervisor.count_children(supervisor)).active
    except CallExit:  # the supervisor is restarting
        return 0


async def _missing(session: _RunningControl, arguments: dict[str, Any]) -> list[str]:
    """Return the paths of the children that should run but do not run."""
    missing: list[str] = []
    for number, pid in enumerate(session.services.runtime.processes()):
        if kind_of(pid) is not None:
            missing += [
                f"{session.title(pid)}/{child.id}"
                for child in some_children(pid, _MAX_CHILDREN)
                if await _is_missing(session, pid, child)
            ]
        if number % _SLICE == _SLICE - 1:
            await trio.lowlevel.checkpoint()
    return missing


async def _is_missing(session: _RunningControl, supervisor: Pid, child: ChildInfo) -> bool:
    if child.pid == RESTARTING:
        return True
    if isinstance(child.pid, Pid) and session.places.place_of(child.pid) is not None:
        return False
    # The supervisor has not yet read the message about the end of the child, or it has stopped the child.
    if kind_of(supervisor) == "dynamic":
        return False
    with trio.move_on_after(SUPERVISOR_SECONDS):
        try:
            spec = await Supervisor.get_childspec(supervisor, child.id)
        except (CallExit, SupervisionError):  # the child or its supervisor is gone
            return False
        return spec.restart == "permanent"
    return True


_VERBS: Final[dict[str, Callable[[_RunningControl, dict[str, Any]], Awaitable[Any]]]] = {
    "ping": _ping,
    "inject": _inject,
    "undo": _undo,
    "kill": _kill,
    "suspend": _suspend,
    "resume": _resume,
    "drain": _drain,
    "owner": _owner,
    "alive": _alive,
    "restarts": _restarts,
    "lag": _lag,
    "clients": _clients,
    "missing": _missing,
}
_ALL: Final = (*_VERBS, "check")
_ACTIONS: Final = frozenset(("inject", "undo", "kill", "suspend", "resume", "drain"))


# The content of a request


def _arguments(body: bytes) -> dict[str, Any]:
    try:
        arguments: dict[str, Any] = msgspec.json.decode(body or b"{}", type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise RequestRefused(400, "send a JSON object") from None
    return arguments


def _text(arguments: dict[str, Any], name: str) -> str:
    value = arguments.get(name)
    if not isinstance(value, str) or not value:
        raise RequestRefused(400, f"send a text as {name!r}")
    return value


def _number(
    arguments: dict[str, Any], name: str, default: float, *, most: float = math.inf
) -> float:
    value = arguments.get(name, default)
    if not is_number(value, above=0, finite=True):
        raise RequestRefused(400, f"send a number above 0 as {name!r}, and not {value!r}")
    if value > most:
        raise RequestRefused(400, f"send at most {most:g} as {name!r}, and not {value!r}")
    return float(value)

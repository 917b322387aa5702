"""Child specs, which describe the start, the restart rule and the stop of a child.

The constructor of `ChildSpec` checks the fields.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from types import MappingProxyType
from typing import Any, Literal, Protocol, TypeAlias

import attrs
import msgspec
from attrs import Factory, field, frozen

from actors.arguments import check_async, describe_coroutine, is_number, name_and_place_of, name_of
from actors.errors import InvalidArgument
from actors.process import spawn_link
from actors.refs import Pid
from supervision.errors import InvalidChildSpec

__all__ = [
    "BRUTAL_KILL",
    "RESTARTING",
    "ChildCounts",
    "ChildInfo",
    "ChildSpec",
    "ChildType",
    "HasChildSpec",
    "RestartType",
    "ShutdownLimit",
    "Start",
    "Startable",
    "Supervised",
    "child_spec",
    "process_spec",
]

RestartType: TypeAlias = Literal["permanent", "transient", "temporary"]
"""The restart rule of a child: "permanent" always, "transient" unless it ended cleanly, "temporary" never."""

ShutdownLimit: TypeAlias = float | Literal["brutal_kill"]
"""The seconds between the request to stop a child and the kill, or "brutal_kill" for an immediate kill."""

ChildType: TypeAlias = Literal["worker", "supervisor"]

Start: TypeAlias = Callable[..., Awaitable[Pid] | Pid]
"""A function, async or not, that starts a process linked to the current process and returns its pid."""

RESTARTING: Literal["restarting"] = "restarting"

BRUTAL_KILL: Literal["brutal_kill"] = "brutal_kill"

_RESTARTS = ("permanent", "transient", "temporary")
_TYPES = ("worker", "supervisor")
_NOTHING: Mapping[str, Any] = MappingProxyType({})


class Startable(Protocol):
    """An object that can start its process."""

    @property
    def start_link(self) -> Start:
        """A function that starts the process, linked to the current process."""


class HasChildSpec(Protocol):
    """An object that describes its process."""

    def child_spec(self) -> ChildSpec:
        """Return the child spec of the process."""


Supervised: TypeAlias = "ChildSpec | type[Any] | Startable | HasChildSpec"
"""A child for a supervisor: a spec, a class or an object with `start_link`, or an object with `child_spec`."""


@frozen
class ChildInfo:
    """One child in the result of `which_children`."""

    id: Any
    """The id; None under a dynamic supervisor."""
    pid: Pid | Literal["restarting"] | None
    """The process. "restarting": the supervisor will try to start it again. None: it is not running."""
    type: ChildType
    restarts: int = field(default=0, eq=False)
    """The number of times that the supervisor has restarted it, alone or with its group."""


class ChildCounts(msgspec.Struct, frozen=True):
    """The result of `count_children`."""

    specs: int
    """All children, running or not."""
    active: int
    """Children whose process is alive."""
    supervisors: int
    """Children of type "supervisor", running or not."""
    workers: int
    """Children of type "worker", running or not."""


def _frozen_mapping(value: Mapping[str, Any]) -> Mapping[str, Any]:
    if not value:
        return _NOTHING
    return MappingProxyType(dict(value)) if isinstance(value, Mapping) else value


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _default_shutdown(spec: ChildSpec) -> ShutdownLimit:
    return math.inf if spec.type == "supervisor" else 5.0


@frozen
class ChildSpec:
    """One child of a supervisor.

        ChildSpec("counter", Counter.start_link, args=(0,))
        ChildSpec("mailer", Mailer.start_link, restart="transient", shutdown=30.0)

    `child_spec(Counter, 0)` makes the first spec from the class.

    Args:
        id: Any hashable value that no sibling has. Dynamic supervisors ignore it.
        start: An async function that starts a process linked to the current process and returns its pid, such as
            `Counter.start_link`. The function runs in the supervisor's process, and the supervisor waits for it. The
            function may raise `StartError` or `StartIgnored`.
        args: Positional arguments for `start`.
        kwargs: Keyword arguments for `start`.
        restart: `"permanent"` (the default) restarts the child after every end, `"transient"` after every end that is
            not clean (see `actors.exits.is_normal_exit`), `"temporary"` never.
        type: `"worker"` (the default) or `"supervisor"`. The default of `shutdown` depends on the type, and `render`
            shows the type.
        shutdown: Seconds between the exit signal `SHUTDOWN` and a kill. `math.inf` waits for ever, `"brutal_kill"`
            kills immediately. The default is 5.0, and `math.inf` for supervisors, because a killed supervisor does not
            stop its children in order.
        significant: True if the end of this child counts for the `auto_shutdown` of its supervisor.
        start_timeout: Seconds that a start may take. After that the supervisor cancels `start`, kills the processes
            that `start` has linked, and treats the start as failed with `TIMEOUT`. Without a limit, the supervisor
            answers no request during a slow start. Not part of OTP.

    Raises:
        InvalidChildSpec: A field has an invalid value.

    The supervisor cannot check that `start` links the process. If the process is not linked, the supervisor does not
    notice its end.

    Source: OTP's `supervisor:child_spec()`, without `modules`.
    """

    id: Any
    start: Start
    args: tuple[Any, ...] = field(default=(), converter=_tuple)
    kwargs: Mapping[str, Any] = field(default=_NOTHING, converter=_frozen_mapping)
    restart: RestartType = field(default="permanent", kw_only=True)
    type: ChildType = field(default="worker", kw_only=True)
    # Not with the decorator `@shutdown.default`, because pyright would then report that the argument is required.
    shutdown: ShutdownLimit = field(
        default=Factory(_default_shutdown, takes_self=True), kw_only=True
    )
    significant: bool = field(default=False, kw_only=True)
    start_timeout: float = field(default=math.inf, kw_only=True)

    def __attrs_post_init__(self) -> None:
        _check(self)


def _check(spec: ChildSpec) -> None:
    try:
        hash(spec.id)
    except TypeError:
        _refuse(spec, "id", "an id must be hashable; write a string, a number or a tuple")
    if not callable(spec.start) or isinstance(spec.start, type):
        _refuse_start(spec)
    if not isinstance(spec.args, tuple):
        _refuse(spec, "args", "args must be a tuple; for one argument write (argument,)")
    if not isinstance(spec.kwargs, Mapping):
        _refuse(spec, "kwargs", "kwargs must be a dict of keyword arguments for start")
    if spec.restart not in _RESTARTS:
        _refuse(spec, "restart", 'write "permanent", "transient" or "temporary"')
    if spec.type not in _TYPES:
        _refuse(spec, "type", 'write "worker" or "supervisor"')
    if spec.shutdown != BRUTAL_KILL and not is_number(spec.shutdown, least=0):
        _refuse(
            spec, "shutdown", 'write seconds, from 0, or math.inf for no limit, or "brutal_kill"'
        )
    if not is_number(spec.start_timeout) or not spec.start_timeout > 0:
        _refuse(spec, "start_timeout", "write seconds, more than 0, or math.inf for no limit")
    if not isinstance(spec.significant, bool):
        _refuse(spec, "significant", "write True or False")
    if spec.significant and spec.restart == "permanent":
        _refuse(
            spec,
            "significant",
            "a permanent child never ends for good, so it cannot be significant; "
            'add restart="transient" or restart="temporary"',
        )


def _refuse(spec: ChildSpec, name: str, advice: str) -> None:
    value = getattr(spec, name)
    raise InvalidChildSpec(f"{name} is {value!r}; {advice}", id=spec.id, field=name, value=value)


def _refuse_start(spec: ChildSpec) -> None:
    start: Any = spec.start
    if isinstance(start, type):
        advice = (
            f"that is a class; write {start.__name__}.start_link, or child_spec({start.__name__})"
            if hasattr(start, "start_link")
            else "that is a class without start_link; write an async function"
        )
    elif inspect.isawaitable(start):
        if inspect.iscoroutine(start):
            start.close()  # an unclosed coroutine would add a warning to this error
        advice = (
            "that is the result of calling an async function; "
            "pass the function itself, and its arguments as args=(...)"
        )
    else:
        advice = "write an async function that starts a process, such as Counter.start_link"
    _refuse(spec, "start", advice)


def child_spec(child: Supervised, /, *args: Any, **overrides: Any) -> ChildSpec:
    """Make a child spec from a class, or a changed copy of a spec.

        child_spec(Counter, 0)                                  # Counter.start_link(0)
        child_spec(Counter, 0, kwargs={"name": "counter"}, restart="transient")
        child_spec(spec, id="second")

    Args:
        child: A class with `start_link`, such as a `GenServer`; another object with an async `start_link`; an object
            with a method `child_spec`, which makes the spec; or a `ChildSpec`.
        args: Positional arguments for `start_link`. Not for a `ChildSpec`, which already has arguments.
        overrides: Fields of `ChildSpec`. Keyword arguments of `start_link` go into `kwargs`.

    Returns:
        The spec. Its id is the `name` in `kwargs`, otherwise the `name` of the object, otherwise the name of the class.

    Raises:
        InvalidChildSpec: `child` is another value, an override is not a field, or a field has an invalid value.

    Source: Elixir's `Supervisor.child_spec/2`.
    """
    unknown = next((name for name in overrides if name not in _FIELDS), None)
    if unknown is not None:
        raise InvalidChildSpec(
            f"there is no field {unknown!r}; the fields are {', '.join(_FIELDS)}, and keyword "
            f"arguments of start_link are written as kwargs={{{unknown!r}: ...}}",
            id=overrides.get("id", _name_of(child)),
            field=unknown,
            value=overrides[unknown],
        )
    if isinstance(child, ChildSpec):
        if args:
            raise InvalidChildSpec(
                "a spec has its arguments already; write child_spec(spec, args=(...))",
                id=child.id,
                field="args",
                value=args,
            )
        return attrs.evolve(child, **overrides) if overrides else child
    if _is_instance_of_a_server(child):
        name = type(child).__name__
        raise InvalidChildSpec(
            f"{child!r} is one object, but each start of a child makes a new object; write the class, {name}, or "
            f"child_spec({name}, ...) with its arguments",
            id=name,
            field="start",
            value=child,
        )
    if hasattr(child, "child_spec"):
        own: ChildSpec = child.child_spec(*args, **overrides.pop("kwargs", _NOTHING))
        return attrs.evolve(own, **overrides) if overrides else own
    if hasattr(child, "start_link"):
        name = overrides.get("kwargs", _NOTHING).get("name")
        own_id = _own_id(child) if name is None else name
        return ChildSpec(**{"id": own_id, "start": child.start_link, "args": args, **overrides})
    raise InvalidChildSpec(_no_child(child), id=_name_of(child), field="start", value=child)


def _is_instance_of_a_server(child: Any) -> bool:
    """Return True for `Vault()` in place of `Vault`: the function that starts it belongs to the class."""
    start = getattr(child, "child_spec", None) or getattr(child, "start_link", None)
    return not isinstance(child, type) and isinstance(getattr(start, "__self__", None), type)


def _no_child(child: Any) -> str:
    described: object = repr(child)
    advice = (
        "write a ChildSpec, a class or object with start_link such as a GenServer, or process_spec(function) for a "
        "plain async function"
    )
    if isinstance(child, Coroutine):
        name = name_of(child)
        owner, _, verb = name.rpartition(".")
        described = f"{describe_coroutine(child)},"
        child.close()  # an unclosed coroutine would add a warning to this error
        advice = (
            f"a supervisor starts its children itself; write child_spec({owner}, ...) with the arguments"
            if owner and verb in ("start_link", "start")
            else f"write process_spec({name}, ...) with the arguments"
        )
    elif inspect.iscoroutinefunction(child):
        described = f"the function {name_and_place_of(child)}"
        advice = f"write process_spec({name_of(child)}, ...)"
    elif inspect.isfunction(child):
        described = f"the function {name_and_place_of(child)}"
        advice = f"it is not async; write `async def` and process_spec({name_of(child)}, ...)"
    elif isinstance(child, Pid):
        advice = "that process runs already, and a supervisor starts its children itself; write the class"
    elif isinstance(child, tuple) and child and hasattr(child[0], "start_link"):
        given = ", ".join([_name(child[0]), *(repr(each) for each in child[1:])])
        advice = f"write child_spec({given})"
    return f"{described} cannot be a child; {advice}"


def _name(value: Any) -> str:
    return str(getattr(value, "__name__", value))


def process_spec(
    function: Callable[..., Awaitable[None]], /, *args: Any, **fields: Any
) -> ChildSpec:
    """Make the child spec of a plain process, which runs an async function.

        process_spec(flush, out_buffers, id="flusher")

    Args:
        function: An async function. The supervisor runs it as a process with `spawn_link`.
        args: Its arguments.
        fields: Fields of `ChildSpec`. The default id is the name of the function.

    Returns:
        The spec. The start returns immediately, because a plain process has no init.

    Raises:
        InvalidChildSpec: A field has an invalid value.
    """
    try:
        check_async("process_spec", function)
    except InvalidArgument as error:
        raise InvalidChildSpec(
            str(error), id=fields.get("id", name_of(function)), field="args", value=function
        ) from None
    fields.setdefault("id", _name_of(function))
    return ChildSpec(start=_spawn, args=(function, *args), **fields)


async def _spawn(function: Callable[..., Awaitable[None]], *args: Any) -> Pid:
    return spawn_link(function, *args)


def _own_id(child: Any) -> object:
    """Return the default id of a child: the `name` of the object, or else the name of the class."""
    if isinstance(child, type):
        return child.__name__
    name = getattr(child, "name", None)
    return type(child).__name__ if name is None else name


def _name_of(child: object) -> object:
    return child.id if isinstance(child, ChildSpec) else getattr(child, "__name__", child)


_FIELDS = tuple(attribute.name for attribute in attrs.fields(ChildSpec))

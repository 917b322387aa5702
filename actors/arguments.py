"""The check of what a process is to run: it must be an async function.

Every verb that starts a process makes it at once, so that the mistake is reported in the line that contains it and
not as the crash of a process that has no such line in its traceback.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Container, Coroutine
from functools import partial
from types import BuiltinFunctionType, CodeType, CoroutineType, FunctionType, MethodType
from typing import Any, Final

from actors.errors import NotAnAddress, NotAsync
from actors.refs import Pid

__all__ = [
    "WRITE_AN_ADDRESS",
    "awaitable_of",
    "check_address",
    "check_async",
    "check_pid",
    "describe_coroutine",
    "name_of",
    "place_of",
]

# The second is what `types.coroutine` makes of a generator function.
_ASYNC: Final = inspect.CO_COROUTINE | inspect.CO_ITERABLE_COROUTINE


def check_async(verb: str, function: object) -> None:
    """Refuse what a process cannot run.

    Accepted are async functions and methods, and what may return an awaitable when it is called: a lambda, a
    decorated function that names what it wraps (`functools.wraps`) or whose annotation says that it returns something,
    and any object that can be called. `awaitable_of` looks at those when they have been called.

    Args:
        verb: the function that was called, for the message.
        function: what it got.

    Raises:
        NotAsync: it cannot be run.
    """
    inner = function
    while isinstance(inner, partial | MethodType):
        inner = inner.func if isinstance(inner, partial) else inner.__func__
    if type(inner) is FunctionType and inner.__code__.co_flags & _ASYNC:
        return
    advice = _function_advice(verb, inner)
    if advice is not None:
        if isinstance(inner, CoroutineType):
            # It will never run, and the error says so better than the warning that it would give.
            inner.close()
        raise NotAsync(verb, function, advice)


def awaitable_of(function: Callable[..., Awaitable[Any]], args: tuple[Any, ...]) -> Awaitable[Any]:
    """Call what a process runs, and return what is to be awaited.

    Raises:
        NotAsync: the call returned something that cannot be awaited.
    """
    result = function(*args)
    if type(result) is not CoroutineType and not inspect.isawaitable(result):
        name = name_of(function)
        raise NotAsync(
            "spawn",
            function,
            f"{name}{place_of(function)}, which returned {result!r}, and that cannot be awaited; "
            f"{_write_async(function, name)}",
        )
    return result


def describe_coroutine(coroutine: Coroutine[Any, Any, Any]) -> str:
    """The coroutine of an async function that was called and not awaited, in words."""
    # Of a class method, such as `start_link`, the class is what the reader has written, and not where it inherits it.
    place = "" if _owner_of(coroutine) is not None else _at(getattr(coroutine, "cr_code", None))
    return f"the coroutine of {name_of(coroutine)}{place}, which was not awaited"


def _owner_of(coroutine: Coroutine[Any, Any, Any]) -> type | None:
    """The class whose class method made a coroutine that has not run yet."""
    frame = getattr(coroutine, "cr_frame", None)
    owner = None if frame is None else frame.f_locals.get("cls")
    return owner if isinstance(owner, type) else None


def name_of(function: object) -> str:
    """The name of a function or a coroutine, with its class and without the functions around it."""
    if isinstance(function, CoroutineType) and (owner := _owner_of(function)) is not None:
        return f"{owner.__name__}.{function.__name__}"
    name = getattr(function, "__qualname__", None)
    return repr(function) if name is None else str(name).rpartition("<locals>.")[2]


def place_of(function: object) -> str:
    """The file and line where a function was defined, as ` (file:line)`; empty if nobody knows."""
    return _at(
        getattr(inspect.unwrap(function) if callable(function) else function, "__code__", None)
    )


def _at(code: CodeType | None) -> str:
    # Code that was generated, by attrs for example, has no file that anybody could open.
    if code is None or code.co_filename.startswith("<"):
        return ""
    return f" ({code.co_filename}:{code.co_firstlineno})"


def _function_advice(verb: str, value: Any) -> str | None:
    if isinstance(value, Coroutine):
        name = getattr(value, "__name__", "function")
        return (
            f"{describe_coroutine(value)}; pass the function itself, and its arguments after it: "
            f"{verb}({name}, ...)"
        )
    if isinstance(value, type):
        return _about_class(verb, value)
    if not callable(value):
        return (
            f"{value!r}, which is no function; write {verb}(function, ...) with an async function"
        )
    if inspect.isasyncgenfunction(value):
        return (
            f"{name_of(value)}{place_of(value)}, which is an async generator; a process runs an async function "
            "without `yield`"
        )
    if isinstance(value, FunctionType) and not _may_return_awaitable(value):
        name = name_of(value)
        return f"{name}{place_of(value)}, which is not async; {_write_async(value, name)}"
    return None


def _about_class(verb: str, cls: type) -> str | None:
    if hasattr(cls, "start_link"):
        return f"the class {cls.__name__}; a server is started with `await {cls.__name__}.start_link(...)`"
    if hasattr(cls, "__await__"):
        return None
    return (
        f"the class {cls.__name__}; write {verb}(function, ...) with an async function, or with an async method of an "
        "instance"
    )


def _may_return_awaitable(function: FunctionType) -> bool:
    if function.__name__ == "<lambda>" or hasattr(function, "__wrapped__"):
        return True
    # Python 3.12 has a mark for sync functions that return coroutines, which this looks at.
    if inspect.iscoroutinefunction(function):
        return True
    return function.__annotations__.get("return") not in (None, "None", type(None))


def _write_async(function: object, name: str) -> str:
    short = name.rpartition(".")[2]
    if not short.isidentifier():
        return "write a function that is async"
    return f"write `async def {short}(...)`, or spawn(run_in_thread, {short}, ...) if it blocks or computes for long"


WRITE_AN_ADDRESS = "write a pid, which spawn() and start_link() return, or a registered name"


def check_address(verb: str, address: object, classes_named: Container[type]) -> None:
    """Refuse an address that led to no process, if it cannot be a name.

    Raises:
        NotAnAddress: it is a class that has never been a name, an instance of a server, a coroutine or a function.
    """
    # None is no name either, but is what `whereis` finds when nobody has one.
    if address is None or type(address) is Pid:
        return
    if isinstance(address, type) and address in classes_named:
        return
    advice = _address_advice(address)
    if advice is not None:
        if isinstance(address, Coroutine):
            address.close()  # the error says that it will never run, and a warning need not say it again
        raise NotAnAddress(verb, address, advice)


def check_pid(verb: str, value: object) -> None:
    """Refuse what is no pid, for the verbs that take no names.

    Raises:
        NotAnAddress: it is anything else.
    """
    if type(value) is Pid:
        return
    advice = _address_advice(value)
    if advice is None:
        advice = f"{value!r}, which is no pid; whereis(name) finds the pid of a registered name"
    if isinstance(value, Coroutine):
        value.close()
    raise NotAnAddress(verb, value, advice)


def _address_advice(value: Any) -> str | None:
    if value is None:
        return f"None as the address; {WRITE_AN_ADDRESS}"
    if isinstance(value, Coroutine):
        name = name_of(value)
        return f"{describe_coroutine(value)}; write `pid = await {name}(...)` and use the pid"
    if isinstance(value, type):
        name = value.__name__
        if hasattr(value, "start_link"):
            return (
                f"the class {name}, and no process is registered under it; "
                f"use the pid that `await {name}.start_link(...)` returns, or the name that it was given"
            )
        return f"the class {name}, which is no process; {WRITE_AN_ADDRESS}"
    if isinstance(value, FunctionType | MethodType | BuiltinFunctionType):
        return f"the function {name_of(value)}{place_of(value)}, which is no process; {WRITE_AN_ADDRESS}"
    cls = type(value)
    if hasattr(cls, "start_link") and hasattr(cls, "handle_call"):
        return (
            f"an instance of {cls.__name__}, which is no process: a server makes its own instance when it starts; "
            f"use the pid that `await {cls.__name__}.start_link(...)` returns"
        )
    return None

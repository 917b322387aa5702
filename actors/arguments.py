"""Checks of arguments: the function that a process runs, the address of a process, and options.

Every function that starts a process first checks the function that the process will run. So the traceback contains the
line with the mistake. The traceback of a later crash would not contain it.

Any hashable value may be a name, even a class. So functions check an address only if no process has it. They accept a
class that was once a name in this runtime, because the server with that name may be restarting.
"""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Awaitable, Callable, Container, Coroutine
from functools import partial
from types import BuiltinFunctionType, CoroutineType, FunctionType, MethodType
from typing import Any, Final, TypeGuard

from actors.errors import InvalidArgument, InvalidOption
from actors.places import place_of
from actors.refs import Address, Pid

__all__ = [
    "WRITE_AN_ADDRESS",
    "awaitable_of",
    "check_address",
    "check_async",
    "check_choice",
    "check_not_negative",
    "check_number",
    "check_pid",
    "check_positive",
    "check_seconds",
    "check_whole",
    "describe_coroutine",
    "is_number",
    "name_and_place_of",
    "name_of",
    "positive",
    "whole",
]

# The second flag marks a generator function that `types.coroutine` has converted.
_ASYNC: Final = inspect.CO_COROUTINE | inspect.CO_ITERABLE_COROUTINE


def check_async(verb: str, function: object) -> None:
    """Refuse a function that a process cannot run.

    Accepts async functions and methods. Also accepts callables that may return an awaitable: a lambda, a decorated
    function whose wrapper uses `functools.wraps`, a function whose annotation declares a result, and any callable
    object. `awaitable_of` checks the results of these callables.

    Args:
        verb: The function that the user called, for the message.
        function: The argument that should be a function.

    Raises:
        InvalidArgument: A process cannot run the function.
    """
    inner = function
    while isinstance(inner, partial | MethodType):
        inner = inner.func if isinstance(inner, partial) else inner.__func__
    if type(inner) is FunctionType and inner.__code__.co_flags & _ASYNC:
        return
    advice = _function_advice(verb, inner)
    if advice is not None:
        if isinstance(inner, CoroutineType):
            # The error replaces Python's warning about the coroutine.
            inner.close()
        raise InvalidArgument(verb, function, advice)


def awaitable_of(function: Callable[..., Awaitable[Any]], args: tuple[Any, ...]) -> Awaitable[Any]:
    """Call the function of a process, and return the awaitable that it returns.

    Raises:
        InvalidArgument: The call returned an object that cannot be awaited.
    """
    result = function(*args)
    if type(result) is not CoroutineType and not inspect.isawaitable(result):
        name = name_of(function)
        raise InvalidArgument(
            "spawn",
            function,
            f"{name_and_place_of(function)}, which returned {result!r}, a value that cannot be awaited; "
            f"{_write_async(function, name)}",
        )
    return result


def describe_coroutine(coroutine: Coroutine[Any, Any, Any]) -> str:
    """Describe the coroutine of an async function that was called and not awaited."""
    # For a class method such as `start_link`, the name contains the class. The place is left out, because the code may
    # be in a base class.
    named = (name_of if _owner_of(coroutine) is not None else name_and_place_of)(coroutine)
    return f"the coroutine of {named}, which was not awaited"


def _owner_of(coroutine: Coroutine[Any, Any, Any]) -> type | None:
    """Return the class on which a class method was called, given the method's coroutine, which has not run yet."""
    frame = getattr(coroutine, "cr_frame", None)
    owner = None if frame is None else frame.f_locals.get("cls")
    return owner if isinstance(owner, type) else None


def name_of(function: object) -> str:
    """Return the name of a function or a coroutine, with its class and without the enclosing functions."""
    if isinstance(function, CoroutineType) and (owner := _owner_of(function)) is not None:
        return f"{owner.__name__}.{function.__name__}"
    name = getattr(function, "__qualname__", None)
    return repr(function) if name is None else str(name).rpartition("<locals>.")[2]


def name_and_place_of(function: object) -> str:
    """Return the name of a function with its file and line, as in `tick (clock.py:7)`."""
    place = place_of(function)
    return name_of(function) if place is None else f"{name_of(function)} ({place})"


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
        return f"{value!r}, which is not a function; write {verb}(function, ...) with an async function"
    if inspect.isasyncgenfunction(value):
        return (
            f"{name_and_place_of(value)}, which is an async generator; a process runs an async function "
            "without `yield`"
        )
    if isinstance(value, FunctionType) and not _may_return_awaitable(value):
        return (
            f"{name_and_place_of(value)}, which is not async; {_write_async(value, name_of(value))}"
        )
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
    # Also True for a sync function with the mark of `inspect.markcoroutinefunction`.
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
    """Refuse an address that no process has, if it cannot be a name.

    Raises:
        InvalidArgument: The address is a class that has never been a name, an instance of a server, a coroutine or a
            function.
    """
    # None is not a name, but `whereis` returns it for a name that no process has.
    if address is None or type(address) is Pid:
        return
    if isinstance(address, type) and address in classes_named:
        return
    advice = _address_advice(address)
    if advice is not None:
        if isinstance(address, Coroutine):
            address.close()  # the error replaces Python's warning about the coroutine
        raise InvalidArgument(verb, address, advice)


def check_pid(verb: str, value: object) -> None:
    """Refuse a value that is not a pid, for the verbs that take no names.

    Raises:
        InvalidArgument: The value is not a pid.
    """
    if type(value) is Pid:
        return
    advice = _address_advice(value)
    if advice is None:
        advice = (
            f"{value!r}, which is not a pid; whereis(name) returns the pid of a registered name"
        )
    if isinstance(value, Coroutine):
        value.close()
    raise InvalidArgument(verb, value, advice)


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
                f"the class {name}, which is not the name of a process; "
                f"use the pid that `await {name}.start_link(...)` returns, or the process's name"
            )
        return f"the class {name}, which is not a process; {WRITE_AN_ADDRESS}"
    if isinstance(value, FunctionType | MethodType | BuiltinFunctionType):
        return (
            f"the function {name_and_place_of(value)}, which is not a process; {WRITE_AN_ADDRESS}"
        )
    if isinstance(value, Address) and value.instead is not None:
        return f"{value!r}, whose process may run on another node; {value.instead}"
    cls = type(value)
    if hasattr(cls, "start_link") and hasattr(cls, "handle_call"):
        return (
            f"an instance of {cls.__name__}, which is not a process: a server makes its own instance when it starts; "
            f"use the pid that `await {cls.__name__}.start_link(...)` returns"
        )
    return None


# Numbers and options. Every check raises `InvalidOption`, which is a ValueError. A bool and NaN are never numbers.


def is_number(
    value: object,
    *,
    least: float = -math.inf,
    above: float = -math.inf,
    most: float = math.inf,
    whole: bool = False,
    finite: bool = False,
) -> TypeGuard[int | float]:
    """Return True for an int or a float in a range. A bool and NaN are not numbers here.

    Args:
        value: The value.
        least: The smallest number of the range.
        above: A number below the range.
        most: The largest number of the range.
        whole: Accept an int only, and not a float such as 2.0.
        finite: Refuse `math.inf`, and an int that no float can hold.
    """
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        return False
    if finite and not -sys.float_info.max <= value <= sys.float_info.max:
        return False
    # Each comparison with NaN is False.
    return least <= value <= most and (above == -math.inf or value > above)


def check_number(
    owner: str,
    option: str,
    value: object,
    expected: str,
    *,
    least: float = -math.inf,
    above: float = -math.inf,
    most: float = math.inf,
    whole: bool = False,
    finite: bool = False,
) -> None:
    """Raise InvalidOption unless `value` is a number in a range, see `is_number`.

    Args:
        owner: The function or the class that got the option.
        option: The name of the option.
        value: The value.
        expected: The allowed values in words, after "write".
        least: The smallest number of the range.
        above: A number below the range.
        most: The largest number of the range.
        whole: Accept an int only.
        finite: Refuse `math.inf`.
    """
    if not is_number(value, least=least, above=above, most=most, whole=whole, finite=finite):
        raise InvalidOption(owner, option, value, expected)


def check_choice(owner: str, option: str, value: object, choices: tuple[str, ...]) -> None:
    """Raise InvalidOption unless `value` is one of several texts."""
    if value not in choices:
        *first, last = (f'"{each}"' for each in choices)
        raise InvalidOption(owner, option, value, f"{', '.join(first)} or {last}")


def check_positive(owner: str, option: str, value: Any) -> None:
    """Raise InvalidOption unless `value` is a number above 0. Infinity is allowed."""
    check_number(owner, option, value, "a number above 0", above=0)


def check_whole(owner: str, option: str, value: Any) -> None:
    """Raise InvalidOption unless `value` is a whole number, 1 or more. A float such as 2.0 is an error."""
    check_number(owner, option, value, "a whole number, 1 or more", least=1, whole=True)


def check_seconds(owner: str, option: str, value: Any) -> None:
    """Raise InvalidOption unless `value` is a number, 0 or more. Infinity is allowed."""
    if value != math.inf:
        expected = "a number of seconds from 0, or math.inf"
        check_number(owner, option, value, expected, least=0, finite=True)


def check_not_negative(owner: str, option: str, value: Any) -> None:
    """Raise InvalidOption unless `value` is a finite number, 0 or more."""
    check_number(owner, option, value, "a number, 0 or more", least=0, finite=True)


def positive(instance: Any, attribute: Any, value: Any) -> None:
    """Raise InvalidOption unless an attribute is a number above 0. A validator for attrs."""
    check_positive(type(instance).__name__, attribute.name, value)


def whole(instance: Any, attribute: Any, value: Any) -> None:
    """Raise InvalidOption unless an attribute is a whole number, 1 or more. A validator for attrs."""
    check_whole(type(instance).__name__, attribute.name, value)

"""The check of an address that led to no process: a mistake, or a name that nobody has.

Any hashable value may be a name, a class too. So only an address that leads nowhere is looked at, and a class that
has been the name of a process in this runtime is a name like any other: its server may just be restarting.
"""

from __future__ import annotations

from collections.abc import Coroutine
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any

from actors.errors import NotAnAddress
from actors.functions import describe_coroutine, name_of, place_of
from actors.refs import Pid

if TYPE_CHECKING:
    from actors._kernel.process_table import ProcessTable

__all__ = ["WRITE_AN_ADDRESS", "check_address", "check_pid"]

WRITE_AN_ADDRESS = "write a pid, which spawn() and start_link() return, or a registered name"


def check_address(verb: str, address: object, runtime: ProcessTable) -> None:
    """Refuse an address that led to no process, if it cannot be a name.

    Raises:
        NotAnAddress: it is a class that has never been a name, an instance of a server, a coroutine or a function.
    """
    # None is no name either, but is what `whereis` finds when nobody has one.
    if address is None or type(address) is Pid:
        return
    if isinstance(address, type) and address in runtime.classes_named:
        return
    advice = _advice(address)
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
    advice = _advice(value)
    if advice is None:
        advice = f"{value!r}, which is no pid; whereis(name) finds the pid of a registered name"
    if isinstance(value, Coroutine):
        value.close()
    raise NotAnAddress(verb, value, advice)


def _advice(value: Any) -> str | None:
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

"""The check of a server's class where it is defined: callbacks can be called, the constructor needs no arguments."""

from __future__ import annotations

import inspect
from functools import lru_cache
from typing import Any, Final

from actors.errors import InvalidCallback
from actors.functions import place_of

__all__ = ["check_constructor", "check_server_class"]

# With their arguments; those of init are the class's own.
_CALLBACKS: Final[dict[str, tuple[str, ...] | None]] = {
    "init": None,
    "handle_call": ("request", "sender"),
    "handle_cast": ("message",),
    "handle_info": ("message",),
    "handle_continue": ("argument",),
    "terminate": ("reason",),
}


def check_server_class(cls: type) -> None:
    """Refuse a class whose callbacks or constructor the server cannot call.

    Raises:
        InvalidCallback: the first of them.
    """
    for name, arguments in _CALLBACKS.items():
        callback = vars(cls).get(name)
        if callback is None:
            continue
        if not inspect.iscoroutinefunction(callback):
            raise InvalidCallback(cls.__name__, name)
        if arguments is not None and not _takes(callback, len(arguments)):
            raise InvalidCallback(cls.__name__, name, arguments)
    check_constructor(cls)


def check_constructor(cls: Any) -> None:
    """Refuse a class that cannot be made without arguments.

    Raises:
        InvalidCallback: its `__init__` needs some.
    """
    needed = _needed(cls.__init__)
    if needed is not None:
        raise InvalidCallback(
            cls.__name__,
            "__init__",
            advice=(
                f"takes ({needed}){place_of(cls.__init__)}, but a server makes its instance without arguments; "
                f"write `async def init(self, {needed})`, which gets the arguments of start_link"
            ),
        )


# Asked at every start, for few constructors.
@lru_cache(maxsize=256)
def _needed(constructor: Any) -> str | None:
    """The parameters of a constructor that cannot be called without arguments; None if it can."""
    signature = inspect.signature(constructor)
    try:
        signature.bind(None)  # self
    except TypeError:
        return ", ".join([str(each) for each in signature.parameters.values()][1:])
    return None


def _takes(callback: Any, count: int) -> bool:
    try:
        inspect.signature(callback).bind(*[None] * (count + 1))  # and self
    except TypeError:
        return False
    return True

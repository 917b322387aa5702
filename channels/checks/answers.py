"""The answers of an application's functions to questions of permission. Only True is a yes."""

from __future__ import annotations

import inspect
from typing import Any

from channels.checks.places import place_of
from channels.errors import InvalidResult

__all__ = ["yes_or_no"]


def yes_or_no(question: str, function: Any, answer: Any) -> bool:
    """Return the answer of an application's function to a question of permission.

    Args:
        question: the name of the option that the function was given for.
        function: the function, to name it.
        answer: what it returned. A coroutine is closed.

    Raises:
        InvalidResult: the answer is neither True nor False. Only True is a yes.
    """
    if answer is True or answer is False:
        return bool(answer)
    name = getattr(function, "__qualname__", None) or repr(function)
    advice = None
    if inspect.isawaitable(answer):
        advice = "write a plain function, `def`, that returns True or False"
    raise InvalidResult(
        f"the function {name} of {question}",
        answer,
        ("True", "False"),
        place=place_of(function),
        advice=advice,
    )

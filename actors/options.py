"""Checks of options: one way to refuse a number, for the functions and the records of all packages. *pure*.

    check_number("open_runtime", "max_thread_calls", max_thread_calls, "a whole number above 0", least=1, whole=True)

Every check raises `InvalidOption`, which is a ValueError. A bool and NaN are never numbers.
"""

from __future__ import annotations

import math
import sys
from typing import Any, TypeGuard

from actors.errors import InvalidOption

__all__ = [
    "check_choice",
    "check_not_negative",
    "check_number",
    "check_positive",
    "check_seconds",
    "check_whole",
    "is_number",
    "positive",
    "whole",
]


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

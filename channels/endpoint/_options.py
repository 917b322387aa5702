"""Checks of options that are numbers, as validators of attrs classes and as functions."""

from __future__ import annotations

from typing import Any

from channels.errors import InvalidOption

__all__ = ["check_positive", "check_whole", "positive", "whole"]


def check_positive(owner: str, option: str, value: Any) -> None:
    """Raise InvalidOption unless `value` is a number above 0; infinity is one."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    # NaN is refused by the comparison.
    if not is_number or not value > 0:
        raise InvalidOption(owner, option, value, "a number above 0")


def check_whole(owner: str, option: str, value: Any) -> None:
    """Raise InvalidOption unless `value` is a whole number from 1; infinity, as a float, is not."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidOption(owner, option, value, "a whole number from 1")


def positive(instance: Any, attribute: Any, value: Any) -> None:
    """Validate a number above 0."""
    check_positive(type(instance).__name__, attribute.name, value)


def whole(instance: Any, attribute: Any, value: Any) -> None:
    """Validate a whole number from 1."""
    check_whole(type(instance).__name__, attribute.name, value)

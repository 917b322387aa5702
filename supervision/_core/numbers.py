"""A check of numbers among options. *pure*."""

from __future__ import annotations

import math
from typing import TypeGuard

__all__ = ["is_number"]


def is_number(value: object, *, least: float = -math.inf) -> TypeGuard[int | float]:
    """Return True for an int or a float that is not less than `least`. A bool and NaN are not numbers here."""
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= least

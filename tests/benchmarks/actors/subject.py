"""A subject of the comparison: an actor library, and its form of each measured operation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from attrs import frozen

__all__ = ["Case", "Fill", "Subject"]

Case: TypeAlias = Callable[[int], list[float]]
"""Does something so many times, and returns the seconds that each took, or one average."""

Fill: TypeAlias = Callable[[int, Callable[[], None]], None]
"""Makes so many idle actors, calls back while they are there, and stops them."""


@frozen(kw_only=True)
class Subject:
    """One column of the table.

    - `name`: of the library, and of its mode if there are several;
    - `callee`: where the code of the actor that is called runs; `apart` says that this is a task, thread or process
      of its own, and so that a call has to wake somebody and wait;
    - `cases`: by the name of the case;
    - `fill`: makes idle actors, to see what they weigh.
    - `most`: actors that may be asked for; a library that makes an operating system's process of each cannot be asked
      for thousands.
    """

    name: str
    callee: str
    apart: bool = True
    cases: Mapping[str, Case]
    fill: Fill
    most: int = 10_000

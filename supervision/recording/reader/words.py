"""The words that all stories share: ends of processes, decisions of supervisors, times.

*pure*.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

__all__ = [
    "LONG",
    "child_name",
    "counted",
    "how_it_ended",
    "in_seconds",
    "ordinal",
    "restarted_as",
    "short",
    "shortened",
]

LONG: Final = 70
"""The most characters of a program's text in one sentence."""

_ENDS: Final = {
    "normal": "ended",
    "shutdown": "was shut down",
    "killed": "was killed",
    "kill": "was killed",
    "noproc": "was not there",
    "noconnection": "was on a lost node",
}


def short(text: str) -> str:
    """Cut a text that is too long for a sentence."""
    return text if len(text) <= LONG else f"{text[: LONG - 3]}..."


def in_seconds(seconds: float) -> str:
    """Return a time with its unit, such as `0.5 s`."""
    return f"{round(seconds, 3)} s".replace(".0 s", " s")


def ordinal(number: int) -> str:
    """Return 1st, 2nd, 3rd, 4th, ..."""
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10)
    return f"{number}{ending or 'th'}"


def how_it_ended(exit: str, reason: str) -> str:
    """Return the verb for the end of a process.

    Args:
        exit: the exit class.
        reason: the exit reason, as text.
    """
    return _ENDS.get(exit, f"ended with {short(reason)}")


def restarted_as(component: str, new: str) -> str:
    """Return the predicate for a restart by a supervisor."""
    return f"started {component} again, as {new}"


def child_name(component: str, path: str | None) -> str:
    """Return the id of a child as text, or the last part of its path if the path does not end with the id.

    So the class and the key name a server whose id is an address in a registry, and the class names a channel.
    """
    if path is None or path.endswith(f"/{component}"):
        return component
    return path.rpartition("/")[2]


def counted(count: int, noun: str, nouns: str = "") -> str:
    """Return a number with its noun. Without `nouns`, the plural ends with an s."""
    return f"{count} {noun}" if count == 1 else f"{count} {nouns or f'{noun}s'}"


def shortened(lines: Sequence[tuple[str, str]], most: int) -> Sequence[tuple[str, str]]:
    """Leave out lines that repeat the line before them, and the middle of too many lines."""
    once = [line for index, line in enumerate(lines) if not index or line != lines[index - 1]]
    if len(once) <= most:
        return once
    first = most // 2
    last = most - first - 1
    left_out = len(once) - first - last
    return [*once[:first], ("", f"... {left_out} more ..."), *once[len(once) - last :]]

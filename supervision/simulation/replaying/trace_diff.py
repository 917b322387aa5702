"""Finding the first event in which two traces differ."""

from __future__ import annotations

from supervision.simulation.errors import Diverged
from supervision.simulation.stories.sentences import Happenings

__all__ = ["compare"]


def compare(first: list[bytes], second: list[bytes], *, context: int = 5) -> None:
    """Raise Diverged, at the first event that differs, unless two traces are the same to the byte.

    Args:
        first: the lines of one run.
        second: the lines of the other.
        context: how many events before it are shown.
    """
    if first == second:
        return
    step = next(
        (n for n, pair in enumerate(zip(first, second, strict=False)) if pair[0] != pair[1]),
        min(len(first), len(second)),
    )
    raise Diverged(
        step,
        first[step].decode() if step < len(first) else None,
        second[step].decode() if step < len(second) else None,
        tuple(line.decode() for line in first[max(0, step - context) : step]),
        (_said(first, step), _said(second, step)),
    )


def _said(lines: list[bytes], step: int) -> str | None:
    """The event in words; None where it has none."""
    if step >= len(lines):
        return None
    if lines[step].startswith(b'{"steps_digest"'):
        return "the same events, but other tasks ran, or in another order"
    happenings = Happenings(lines[: step + 1], None)
    return happenings.sentence(happenings.events[step], whole=True)

"""What mailboxes are filled with."""

from __future__ import annotations

from attrs import frozen

__all__ = ["Junk"]


@frozen
class Junk:
    """A message that means nothing to anybody, from the fault `FillMailbox`; they are numbered from 1."""

    number: int

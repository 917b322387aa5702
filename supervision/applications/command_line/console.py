"""The console of all commands, which shows text of the program as it is.

Rich interprets plain strings: `[red]` changes the colour, and `room:b:` becomes a letter in a box. Names, problems and
stories come from the user's program and its clients, so no command may interpret them, and no terminal may. A test
checks that all consoles come from here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import IO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from actors.text import printable

__all__ = ["plain_console"]

FILE_WIDTH = 120
"""The width of an output that is not a terminal, in characters. Rich's default is 80."""


class _PlainConsole(Console):
    """A console that cleans all text before it reaches the terminal, whatever renderable the text is in."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Return the segments of a renderable. Segments of Rich's own control codes stay as they are."""
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable():
                yield segment
            else:
                yield Segment(printable(segment.text, lines=True), segment.style)


def plain_console(*, stderr: bool = False, file: IO[str] | None = None) -> Console:
    """Return a console without markup, emoji codes, highlighting and control characters in the text.

        plain_console().print("room:b: [red]")           # room:b: [red]

    Args:
        stderr: write to the standard error instead of the standard output.
        file: a file to write to instead.
    """
    console = _PlainConsole(
        stderr=stderr, file=file, highlight=False, markup=False, emoji=False, soft_wrap=True
    )
    if not console.is_terminal:
        console.width = FILE_WIDTH
    return console

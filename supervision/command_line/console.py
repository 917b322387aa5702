"""The console of all commands, which shows text of the program as it is.

Rich interprets plain strings: `[red]` changes the colour, and `room:b:` becomes a letter in a box. Names, problems and
stories come from the user's program, so no command may interpret them. A test checks that all consoles come from here.
"""

from __future__ import annotations

from typing import IO

from rich.console import Console

__all__ = ["plain_console"]

FILE_WIDTH = 120
"""The width of an output that is not a terminal, in characters. Rich's default is 80."""


def plain_console(*, stderr: bool = False, file: IO[str] | None = None) -> Console:
    """Return a console without markup, emoji codes and highlighting.

        plain_console().print("room:b: [red]")           # room:b: [red]

    Args:
        stderr: write to the standard error instead of the standard output.
        file: a file to write to instead.
    """
    console = Console(
        stderr=stderr, file=file, highlight=False, markup=False, emoji=False, soft_wrap=True
    )
    if not console.is_terminal:
        console.width = FILE_WIDTH
    return console

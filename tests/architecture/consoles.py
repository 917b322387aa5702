r"""The commands in the console blocks of documents, split by a real shell that starts none of their programs.

A line that begins with `$ ` is a command. It may go on in the next lines after a `\`. Other lines are output.

bash reads the commands of a block, so quotes, pipes, comments, `&&`, `$(...)` and `cd` mean what they mean for the
reader. Instead of each program, the shell finds a script of the same name, which only writes down its name and its
arguments. A program without such a script does not exist for the shell, and the block fails.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from attrs import frozen

from tests.architecture.snippets import Snippet

__all__ = ["Call", "Line", "calls_of", "lines_of", "make_stand_ins"]

# `python -c` runs, because its output is part of another command. The script writes down everything else, with one
# printf, because the programs of a pipe run at the same time.
_STAND_IN = """#!/bin/bash
if [[ ${0##*/} == python* && $1 == -c ]]; then exec "$DOCS_PYTHON" -I "$@"; fi
printf '%s\\0' "$PWD" "$DOCS_LINE" "${0##*/}" "$@" $'\\n' >> "$DOCS_CALLS"
"""


@frozen
class Line:
    """One command line of a block, with the output that the block shows for it."""

    text: str
    shown: str


@frozen
class Call:
    """One program that a command line starts, in a page with a text."""

    page: str
    line: Line
    folder: Path
    program: str
    arguments: tuple[str, ...]

    def __str__(self) -> str:
        return " ".join([self.program, *self.arguments])


def lines_of(code: str) -> list[Line]:
    r"""Return the command lines of a block.

    Example:
        >>> lines_of("$ make help\nmake run\n$ make run")
        [Line(text='make help', shown='make run'), Line(text='make run', shown='')]

    Raises:
        ValueError: the block begins with output.
    """
    found: list[tuple[list[str], list[str]]] = []
    for line in code.splitlines():
        if line.startswith("$ "):
            found.append(([line[2:]], []))
        elif not found:
            raise ValueError(f"the block begins with {line!r}: write '$ ' before a command")
        elif not found[-1][1] and found[-1][0][-1].endswith("\\"):
            found[-1][0].append(line)
        else:
            found[-1][1].append(line)
    return [Line("\n".join(text), "\n".join(shown)) for text, shown in found]


def make_stand_ins(folder: Path, programs: Iterable[str]) -> Path:
    """Create a script for each program that the documents may use, and return their folder."""
    scripts = folder / "bin"
    scripts.mkdir()
    first = scripts / "stand-in"
    first.write_text(_STAND_IN)
    first.chmod(0o755)
    (scripts / "activate").touch()
    for program in programs:
        (scripts / program).symlink_to(first)
    return scripts


def calls_of(page: str, snippet: Snippet, folder: Path, stand_ins: Path) -> list[Call]:
    """Let bash read a block in a folder, and return what it would start.

    Args:
        page: the text of the page.
        snippet: the block.
        folder: the working directory of the shell.
        stand_ins: the folder of `make_stand_ins`.

    Raises:
        ValueError: bash does not understand the block, or knows a program of it neither as a stand-in nor as its own.
    """
    lines = lines_of(snippet.code)
    # kill is built into the shell, and would send a signal to a process of this machine.
    script = ["enable -n kill"]
    for number, line in enumerate(lines):
        script += [f"export DOCS_LINE={number}", line.text]
    log = folder / ".calls"
    log.touch()
    done = subprocess.run(
        ["/bin/bash", "-c", "\n".join([*script, "status=$?", "wait", "exit $status"])],
        cwd=folder,
        env={
            "PATH": str(stand_ins),
            "HOME": os.devnull,
            "DOCS_CALLS": str(log),
            "DOCS_PYTHON": sys.executable,
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0 or done.stderr:
        raise ValueError(done.stderr or f"the shell ended with {done.returncode}")
    records = [record.split("\0") for record in log.read_text().split("\0\n\0") if record]
    return [
        Call(page, lines[int(number)], Path(where), program, tuple(arguments))
        for where, number, program, *arguments in records
    ]

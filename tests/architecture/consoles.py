r"""Split the commands in the console blocks of documents with a real shell, without starting their programs.

A line that begins with `$ ` is a command. A `\` at its end continues the command in the next line. Other lines are
output.

bash reads the commands of a block, so quotes, pipes, comments, `&&`, `$(...)` and `cd` have their usual meaning. In
place of each program, bash finds a script of the same name. The script only records its name and its arguments. If a
program has no script, bash does not find the program, and the block fails.
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

# The script runs `python -c`, because its output is part of another command. It records all other calls, each with one
# write, because the programs of a pipe run at the same time. It replaces newlines, because bash would begin another
# write after each newline.
_STAND_IN = """#!/bin/bash
if [[ ${0##*/} == python* && $1 == -c ]]; then exec "$DOCS_PYTHON" -I "$@"; fi
printf '%s\\0' "$PWD" "$DOCS_LINE" "${0##*/}" "${@//$'\\n'/$'\\x1d'}" $'\\x1e' >> "$DOCS_CALLS"
"""


@frozen
class Line:
    """One command line of a block, with the output that the block shows for it."""

    text: str
    shown: str


@frozen
class Call:
    """One program that a command line starts. `page` is the text of the page with the command line."""

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
    """Return the programs that bash would start for a block.

    Args:
        page: the text of the page.
        snippet: the block.
        folder: the working directory of the shell.
        stand_ins: the folder of `make_stand_ins`.

    Raises:
        ValueError: bash does not understand the block, or a program of the block has no stand-in and is no builtin.
    """
    lines = lines_of(snippet.code)
    # kill is a builtin of the shell, and would send a signal to a process of this machine.
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
    said = log.read_text().replace("\x1d", "\n")
    records = [record.split("\0") for record in said.split("\0\x1e\0") if record]
    return [
        Call(page, lines[int(number)], Path(where), program, tuple(arguments))
        for where, number, program, *arguments in records
    ]

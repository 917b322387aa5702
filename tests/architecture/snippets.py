"""The rules for code in documents, and the check of each block.

- Every fence names its language, one of `LANGUAGES`.
- A `python` block whose first line is a comment with a path, `# examples/chat/server.py`, is an
  excerpt: the lines after it stand in that file, one after the other.
- A `python` block that defines `test_...` functions is run by pytest, with the settings of this
  project: `async def` tests run on Trio and may ask for `autojump_clock`.
- Any other `python` block is a complete program. The check runs it, and it must end without an
  error or a warning, within `PATIENCE` seconds.
- A `json` or `toml` block must be valid. A `typescript` block may only be on the page `COMPILED`, because another test
  compiles the blocks of that page.
- An `output` block shows exactly the standard output of the program before it. The check ignores
  standard error, such as log lines.
"""

import ast
import json
import re
import textwrap
import tomllib
from pathlib import Path

from attrs import evolve, frozen

from tests.architecture.programs import Done, Programs
from tests.architecture.sources import ROOT
from tests.patience import PATIENCE

LANGUAGES = {
    *("console", "html", "javascript", "json", "output", "python", "text", "toml", "typescript")
}

COMPILED = "docs/howto/start-a-project.md"
"""The page whose TypeScript `tests/integration/test_types_for_clients.py` compiles."""

LOGIN = "docs/howto/authenticate.md"
IN_A_BROWSER = "docs/howto/test-a-channel.md"
BUILT = (LOGIN, IN_A_BROWSER)
"""The pages whose files belong to a project of the reader, which `tests/integration/test_quickstart.py` makes."""

_FENCE = re.compile(r" {0,12}(?P<ticks>`{3,}|~{3,})(?P<info>.*)")
_EXCERPT = re.compile(r"# (?P<path>\S+/\S+|\S+\.\w+)")


@frozen
class Snippet:
    """One fenced block of a document."""

    place: str
    language: str
    code: str
    output: str | None = None
    """The output of a program, from the block after it."""

    @property
    def file(self) -> str | None:
        """The source file of an excerpt."""
        match = _EXCERPT.fullmatch(self.code.partition("\n")[0])
        return match["path"] if match else None


def snippets_in(path: str, text: str) -> list[Snippet]:
    """All fenced blocks of a document, in order.

    Raises:
        ValueError: a fence is never closed.
    """
    found = []
    lines = enumerate(text.splitlines(), 1)
    for number, line in lines:
        if opening := _FENCE.fullmatch(line):
            code = []
            for _, inner in lines:
                if inner.strip() == opening["ticks"]:
                    break
                code.append(inner)
            else:
                raise ValueError(f"{path}:{number} opens a fence that is never closed")
            language = opening["info"].strip()
            found.append(Snippet(f"{path}:{number}", language, textwrap.dedent("\n".join(code))))
    return [
        evolve(one, output=after.code) if after.language == "output" else one
        for one, after in zip(found, [*found[1:], Snippet(path, "", "")], strict=False)
    ]


def module_of(code: str, name: str) -> str | None:
    """Return a program of a page as a module that a command can import; None if the program does not define `name`.

    The module has all statements of the program except `trio.run(main)`.
    """
    tree = ast.parse(code)
    names = {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    } | {node.name for node in tree.body if isinstance(node, ast.AsyncFunctionDef)}
    if name not in names:
        return None
    tree.body = [node for node in tree.body if not _runs(node)]
    return ast.unparse(tree)


def _runs(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and ast.unparse(node.value).startswith("trio.run(")


def snippet_problem(
    snippet: Snippet, folder: Path, programs: Programs, time_limit: float = PATIENCE
) -> str | None:
    """Return the problem of a block, found by a run in that empty folder; None without a problem."""
    if snippet.language not in LANGUAGES:
        return (
            f"{snippet.place} is a block of {snippet.language or 'no language'}: "
            f"use one of {', '.join(sorted(LANGUAGES))}"
        )
    if snippet.language != "python":
        if snippet.output is not None:
            return f"{snippet.place} is no program, but the block after it says what it prints"
        return _data_problem(snippet)
    if snippet.file is not None:
        return _excerpt_problem(snippet, ROOT / snippet.file)
    if _defines_tests(snippet.code):
        done = _run_tests(snippet, folder, programs, time_limit)
    else:
        file = folder / "snippet.py"
        file.write_text(snippet.code)
        done = programs.run(file, cwd=folder, time_limit=time_limit)
    return _run_problem(snippet, done, time_limit)


def _data_problem(snippet: Snippet) -> str | None:
    """Check a block that is not Python. Other tests check `console`, `html` and `javascript`."""
    try:
        if snippet.language == "json":
            json.loads(snippet.code)
        elif snippet.language == "toml":
            tomllib.loads(snippet.code)
    except ValueError as error:
        return f"{snippet.place} is no {snippet.language}: {error}"
    if snippet.language == "typescript" and not snippet.place.startswith(COMPILED):
        return f"{snippet.place} is TypeScript, but only the blocks of {COMPILED} are compiled"
    return None


def _excerpt_problem(snippet: Snippet, file: Path) -> str | None:
    if snippet.place.startswith(BUILT):
        return None
    if not file.is_file():
        return f"{snippet.place} is an excerpt of {snippet.file}, which does not exist"
    excerpt = snippet.code.partition("\n")[2].strip("\n")
    if f"\n{excerpt}\n" in f"\n{file.read_text()}\n":
        return None
    return f"{snippet.place} differs from {snippet.file}, which it is an excerpt of"


def _run_tests(snippet: Snippet, folder: Path, programs: Programs, time_limit: float) -> Done:
    file = folder / "test_snippet.py"
    file.write_text(snippet.code)
    config = str(ROOT / "pyproject.toml")
    # pytest can rewrite assertions only in plugins that are not imported yet. The process has imported some plugins.
    arguments = ["-q", "--assert=plain", "-c", config, "--rootdir", str(folder), str(file)]
    run = folder / "run_pytest.py"
    run.write_text(f"import sys, pytest\nsys.exit(pytest.main({arguments!r}))\n")
    return programs.run(run, cwd=folder, time_limit=time_limit)


def _run_problem(snippet: Snippet, done: Done, time_limit: float) -> str | None:
    if done.code is None:
        return f"{snippet.place} did not end within {time_limit:g} seconds"
    if done.code != 0:
        said = f"{done.stdout}{done.stderr}"
        return f"{snippet.place} failed:\n{textwrap.indent(said, '    ')}"
    if snippet.output is not None and done.stdout.strip("\n") != snippet.output.strip("\n"):
        return f"{snippet.place} prints something else:\n{textwrap.indent(done.stdout, '    ')}"
    return None


def _defines_tests(code: str) -> bool:
    return any(
        isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
        for node in ast.parse(code).body
    )

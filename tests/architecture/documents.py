"""Checks of documents besides code: explained names, links with a target, tests that exist."""

import ast
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import PurePosixPath

_FENCE = re.compile(r"^ *(```|~~~).*?^ *\1 *$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\]\(([^)\s]+)\)|(?:src|srcset|href)=\"([^\"]+)\"")
_TEST = re.compile(r"(tests/[\w/]+\.py)(?:::(\w+))?")


def prose(text: str) -> str:
    """A document without its fenced blocks."""
    return _FENCE.sub("", text)


def unexplained(package: str, names: Iterable[str], pages: Mapping[str, str]) -> list[str]:
    """Names of a facade that stand on no reference page.

    A name stands on a page if it is in a code span there, outside fenced blocks, and the page is
    about the package: it names one of its modules, as in `actors.process`.
    """
    known = set[str]()
    for text in pages.values():
        spans = _CODE.findall(prose(text))
        if any(re.match(rf"{package}\.\w", span) for span in spans):
            known.update(word for span in spans for word in re.findall(r"\w+", span))
    return [
        f"{package}.{name} is on no page of docs/reference" for name in names if name not in known
    ]


def links(path: str, text: str) -> list[str]:
    """Return the targets of a document's links within the repository, as paths from its root.

    Example:
        >>> links("docs/index.md", "[a](topics/design.md#rules) and [b](../README.md)")
        ['docs/topics/design.md', 'README.md']
    """
    targets = [
        (markdown or html).partition("#")[0] for markdown, html in _LINK.findall(prose(text))
    ]
    return [_resolved(path, target) for target in targets if target and ":" not in target]


def _resolved(path: str, target: str) -> str:
    parts: list[str] = []
    for part in (PurePosixPath(path).parent / target).parts:
        if part == ".." and parts:
            parts.pop()
        elif part != ".":
            parts.append(part)
    return "/".join(parts)


def missing_paths(path: str, text: str, exists: Callable[[str], bool]) -> list[str]:
    """List paths of our modules that a document has in a code span, and that do not exist.

    Example:
        >>> missing_paths("docs/a.md", "see `actors/gone.py`", lambda path: False)
        ['docs/a.md names actors/gone.py, which does not exist']
    """
    spans = _CODE.findall(prose(text))
    return [
        f"{path} names {span}, which does not exist"
        for span in spans
        if re.fullmatch(r"(actors|supervision|channels)/[\w/]+(\.py|/)", span) and not exists(span)
    ]


def missing_tests(path: str, text: str, read: Callable[[str], str | None]) -> list[str]:
    """Tests that a document names, as `tests/a/test_b.py::test_c`, and that are not there.

    Args:
        path: of the document.
        text: of the document.
        read: gives the text of a file, by its path from the root; None if there is none.
    """
    problems = []
    for file, test in _TEST.findall(prose(text)):
        source = read(file)
        if source is None:
            problems.append(f"{path} names {file}, which does not exist")
        elif test and test not in _functions(source):
            problems.append(f"{path} names {file}::{test}, which does not exist")
    return problems


def _functions(source: str) -> set[str]:
    return {
        node.name
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }

"""Checks of documents besides code: explained names, links with a target, tests that exist."""

import ast
import importlib
import re
import unicodedata
from collections.abc import Callable, Collection
from functools import cache
from pathlib import PurePosixPath

_FENCE = re.compile(r"^ *(```|~~~).*?^ *\1 *$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\]\(([^)\s]+)\)|(?:src|srcset|href)=\"([^\"]+)\"")
_DOTTED = re.compile(r"(?<![\w./-])(?:actors|supervision|channels)(?:\.\w+)+(?!\w|\.\w|[/@-])")
_LOGGER = re.compile(r"getLogger\(\"([\w.]+)\"\)")
_MODULE = re.compile(r"\[`((?:actors|supervision|channels)[a-z._]*)`\]\(([^)\s]+\.py)\)")
_HEADING = re.compile(r"^#{1,6} +(.+?) *#*$", re.MULTILINE)
_ANCHOR = re.compile(r"<a id=\"([^\"]+)\">")
_GENERATED = re.compile(
    r"^::: (?P<name>[\w.]+)$(?:\n {4}options:\n {6}members: \[(?P<members>[^\]]*)\]$)?",
    re.MULTILINE,
)
_TEST = re.compile(r"(tests/[\w/]+\.py)(?:::(\w+))?")


def prose(text: str) -> str:
    """A document without its fenced blocks."""
    return _FENCE.sub("", text)


def generated(text: str) -> dict[str, list[str] | None]:
    r"""Return the names whose docstrings a reference page shows. Map each class to the members that the page shows.

    None stands for all public members of the class.

    Example:
        >>> generated("# Processes\n\n::: actors.spawn\n")
        {'actors.spawn': None}
    """
    return {
        match["name"]: None if match["members"] is None else re.findall(r"\w+", match["members"])
        for match in _GENERATED.finditer(text)
    }


def misnamed_modules(path: str, text: str) -> list[str]:
    """Return a line for each link to a module that shows the name of another module, or of none.

    A link may show the name of the package from which users import the names of the module.

    Example:
        >>> misnamed_modules(
        ...     "docs/a.md",
        ...     "[`actors.names`](../actors/links.py) and [`actors`](../actors/links.py)",
        ... )
        ['docs/a.md shows actors/links.py as actors.names']
    """
    return [
        f"{path} shows {target} as {name}"
        for name, link in _MODULE.findall(prose(text))
        for target in [_resolved(path, link)]
        if not f"{target.removesuffix('.py').replace('/', '.')}.".startswith(f"{name}.")
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


def dead_anchors(path: str, text: str, read: Callable[[str], str | None]) -> list[str]:
    """Return a line for each link whose anchor does not exist in the linked document.

    The site and the repository's web pages compute the anchors of headings. They disagree about a few headings, such as
    one with a dash between spaces. A link must work in both places.

    Args:
        path: the path of the document.
        text: the text of the document.
        read: a function that returns the text of a file, by its path from the root; None if there is no such file.

    Example:
        >>> dead_anchors("docs/a.md", "[b](b.md#c)", {"docs/b.md": "# C"}.get)
        []
    """
    problems = []
    for markdown, html in _LINK.findall(prose(text)):
        target, _, anchor = (markdown or html).partition("#")
        if not anchor or ":" in target:
            continue
        page = _resolved(path, target) if target else path
        there = text if page == path else read(page)
        if there is not None and page.endswith(".md") and not _has_anchor(there, anchor):
            problems.append(f"{path} links to {page}#{anchor}, which is not there")
    return problems


def _has_anchor(text: str, anchor: str) -> bool:
    headings = _HEADING.findall(prose(text))
    repository, site = set(map(repository_anchor, headings)), set(map(site_anchor, headings))
    return (
        anchor in repository & site
        or anchor in _ANCHOR.findall(text)
        or any(f"{anchor}.".startswith(f"{name}.") for name in generated(text))
    )


def repository_anchor(heading: str) -> str:
    """Return the anchor of a heading on the repository's web pages."""
    return re.sub(r"[^\w\- ]", "", _plain(heading).lower()).replace(" ", "-")


def site_anchor(heading: str) -> str:
    """Return the anchor of a heading in the site."""
    text = unicodedata.normalize("NFKD", _plain(heading)).encode("ascii", "ignore").decode()
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", text).strip().lower())


def _plain(heading: str) -> str:
    return re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)


def _resolved(path: str, target: str) -> str:
    parts: list[str] = []
    for part in (PurePosixPath(path).parent / target).parts:
        if part == ".." and parts:
            parts.pop()
        elif part != ".":
            parts.append(part)
    return "/".join(parts)


def missing_names(path: str, text: str, loggers: Collection[str] = ()) -> list[str]:
    """List dotted names of our modules, or of what they hold, that a text has in a code span and that do not exist.

    Args:
        path: the path of the document or the source.
        text: its text, or its prose.
        loggers: names of loggers, some of which are not names of modules.

    Example:
        >>> missing_names(
        ...     "docs/a.md",
        ...     "`actors.links.link`, `actors.gone` and `channels.drain`",
        ...     ["channels.drain"],
        ... )
        ['docs/a.md names actors.gone, which does not exist']
    """
    return [
        f"{path} names {name}, which does not exist"
        for span in _CODE.findall(text)
        for name in _DOTTED.findall(span)
        if name not in loggers and not _is_there(name)
    ]


def loggers(text: str) -> set[str]:
    """Return the names of the loggers of a source.

    Example:
        >>> loggers('_log = logging.getLogger("channels.drain")')
        {'channels.drain'}
    """
    return set(_LOGGER.findall(text))


@cache
def _is_there(name: str) -> bool:
    package, *rest = name.split(".")
    found: object = importlib.import_module(package)
    for each in rest:
        package = f"{package}.{each}"
        try:
            found = importlib.import_module(package)
        except ModuleNotFoundError as error:
            # An import in the module may fail too.
            if error.name is None or not f"{package}.".startswith(f"{error.name}."):
                raise
            if not hasattr(found, each):
                return False
            found = getattr(found, each)
    return True


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

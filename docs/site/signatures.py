"""Write the signatures on the reference pages below the lines `::: name`.

Run it after you have changed a public signature: `python -m docs.site.signatures`. The site has types and docstrings in
their place, so the build takes these blocks out. They are for people who read the pages as Markdown. A test compares
them with the code.
"""

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from griffe import (
    Attribute,
    Class,
    Function,
    GriffeLoader,
    Module,
    Object,
    Parameter,
    ParameterKind,
    load_extensions,
)

from docs.site.attrs_classes import AttrsClasses

REFERENCE = Path(__file__).parents[1] / "reference"
_PACKAGES = ("actors", "supervision", "channels")

_SHOWN = re.compile(
    r"^(?P<line>::: (?P<name>[\w.]+)\n(?P<options>(?: {4}.*\n)*))(?:\n(?: {4}.*\n)+)?", re.MULTILINE
)
_MEMBERS = re.compile(r"members: \[([^\]]*)\]")
_MANAGER = re.compile(r"(?:Async)?(?:Iterator|Generator)\[(.*?)(?:, None)*\]$")
_MAX_DEFAULT = 20
_WIDTH = 112


def without_signatures(text: str) -> str:
    r"""Return a page without the blocks below its lines `::: name`.

    Example:
        >>> without_signatures("::: actors.kill\n\n    kill(pid) -> None\n\nMore.\n")
        '::: actors.kill\n\nMore.\n'
    """
    return _SHOWN.sub(r"\g<line>", text)


def with_signatures(text: str, packages: Any) -> str:
    """Return a page with the present signature of each name that it shows.

    Args:
        text: the page.
        packages: the packages, as `loaded` returns them.
    """

    def shown(match: re.Match[str]) -> str:
        only = _MEMBERS.search(match["options"])
        members = None if only is None else set(re.findall(r"\w+", only[1]))
        lines = list(_lines(_target(packages[match["name"]]), members))
        block = "\n".join(_wrapped(each) for each in lines)
        return match["line"] + (f"\n{textwrap.indent(block, '    ')}\n" if lines else "")

    return _SHOWN.sub(shown, text)


def loaded() -> Any:
    """Return all packages, as Griffe reads them without running them."""
    loader = GriffeLoader(extensions=load_extensions(AttrsClasses()))
    for package in _PACKAGES:
        loader.load(package)
    loader.resolve_aliases()
    return loader.modules_collection


def _target(found: Any) -> Object:
    target: Object = found.final_target if found.is_alias else found
    return target


def _lines(shown: Object, members: set[str] | None) -> Iterator[str]:
    match shown:
        case Module():
            for name in shown.exports or []:
                yield from _lines(_target(shown.members[str(name)]), None)
        case Function():
            yield _signature(shown, shown.name)
        case Class():
            lines = [_class_line(shown), *_member_lines(shown, members)]
            # A class without parameters and members, such as most errors, needs no more than its name.
            yield from lines if lines != [f"class {shown.name}"] else []


def _class_line(shown: Class) -> str:
    made = shown.members.get("__init__")
    if not isinstance(made, Function) or not _is_described(shown, made):
        return f"class {shown.name}"
    return f"class {shown.name}({', '.join(_parameters(made))})"


def _is_described(shown: Class, made: Function) -> bool:
    """Return True if users may call a constructor, because its parameters are public fields or are described."""
    names = [each.name for each in made.parameters if each.name != "self"]
    texts = [each.docstring.value for each in (shown, made) if each.docstring]
    described = {
        name for text in texts for name in re.findall(r"^ +[*]*(\w+): ", text, re.MULTILINE)
    }
    # The fields of a record are its parameters, so a constructor without a line of its own needs no description.
    known = set(shown.all_members) if made.lineno is None else described
    return bool(names) and names[0] in known | described


def _member_lines(shown: Class, members: set[str] | None) -> Iterator[str]:
    made = shown.members.get("__init__")
    fields = {each.name for each in made.parameters} if isinstance(made, Function) else set()
    for name, member in shown.members.items():
        wanted = not name.startswith("_") if members is None else name in members
        if wanted and isinstance(member, Function):
            yield f"    {_signature(member, name)}"
        elif (
            wanted and isinstance(member, Attribute) and member.has_docstring and name not in fields
        ):
            yield f"    {name}: {member.annotation}"


def _wrapped(line: str) -> str:
    indent = line[: len(line) - len(line.lstrip())] + "        "
    return textwrap.fill(line, _WIDTH, subsequent_indent=indent, break_long_words=False)


def _signature(function: Function, name: str) -> str:
    decorators = {str(each.callable_path).rpartition(".")[2] for each in function.decorators}
    result = str(function.returns)
    before = "async " if "async" in function.labels else ""
    if decorators & {"contextmanager", "asynccontextmanager"}:
        before, result = f"{before}with ", _MANAGER.sub(r"\1", result)
    return f"{before}{name}({', '.join(_parameters(function))}) -> {result}"


def _parameters(function: Function) -> Iterator[str]:
    in_class = function.parent is not None and function.parent.is_class
    parameters = list(function.parameters)
    if in_class and parameters and parameters[0].name in {"self", "cls"}:
        del parameters[0]
    star = False
    for each in parameters:
        if each.kind is ParameterKind.keyword_only and not star:
            yield "*"
        star = star or each.kind in {ParameterKind.keyword_only, ParameterKind.var_positional}
        yield _parameter(each)


def _parameter(parameter: Parameter) -> str:
    match parameter.kind:
        case ParameterKind.var_positional:
            return f"*{parameter.name}"
        case ParameterKind.var_keyword:
            return f"**{parameter.name}"
    if parameter.default is None:
        return parameter.name
    default = str(parameter.default)
    return f"{parameter.name}={default if len(default) <= _MAX_DEFAULT else '...'}"


def main() -> None:
    """Write the signatures of all pages."""
    packages = loaded()
    for page in REFERENCE.glob("*.md"):
        page.write_text(with_signatures(page.read_text(), packages))


if __name__ == "__main__":
    main()

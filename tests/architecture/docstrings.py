"""Checks that public docstrings document the parameters with their units, the result, and the errors."""

import ast
import inspect
import re
import textwrap
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from attrs import frozen

_SECTION = re.compile(
    r"^(Args|Returns|Yields|Raises|Attributes|Example|Examples|Note):$", re.MULTILINE
)
_ENTRY = re.compile(r"^ {4}(\*{0,2}\w+(?:, \*{0,2}\w+)*)(?: \([^)]*\))?: ", re.MULTILINE)
_LIKE = re.compile(
    r"\b[Ll]ike `[\w.]+`|\b[Aa]s `[\w.]+`|\b[Ss]ee `[\w.]+`|with the options of `[\w.]+`"
)
_RESULT = re.compile(r"\b([Rr]eturn|[Yy]ield|[Gg]ive)s?\b|^True (if|while|until)\b")
_UNIT = re.compile(
    r"second|\bms\b|byte|share|factor|rate|probability|number|count|times|ratio|fraction|percent"
)
_WITHOUT_RESULT = {"None", "NoReturn", "Never", "Self", "Iterator[None]", "AsyncIterator[None]"}


@frozen
class Subject:
    """A public function or method: its full name, and the function."""

    name: str
    function: Callable[..., Any]

    @property
    def doc(self) -> str:
        return inspect.cleandoc(self.function.__doc__ or "")


def subjects(name: str, value: object) -> Iterator[Subject]:
    """Yield a public function, or the public methods that a public class defines and documents.

    Leave out an override without a docstring, because it inherits the docstring of its base class. Leave out the
    methods that Python generates for enumerations and named tuples.
    """
    if inspect.isfunction(value):
        yield Subject(name, value)
    elif inspect.isclass(value):
        for attribute, member in vars(value).items():
            function = getattr(member, "__func__", member)
            if (
                isinstance(function, types.FunctionType)
                and not attribute.startswith("_")
                and function.__module__ == value.__module__
                and not (function.__doc__ is None and _inherits(value, attribute))
            ):
                yield Subject(f"{name}.{attribute}", function)


def _inherits(value: type, attribute: str) -> bool:
    return any(attribute in vars(base) for base in value.__mro__[1:])


def sections(doc: str) -> Mapping[str, str]:
    r"""Return the sections of a docstring in Google style. The text before them is the section "".

    Example:
        >>> sections("Do it.\n\nArgs:\n    a: the thing.")["Args"]
        '    a: the thing.'
    """
    parts = _SECTION.split(doc)
    return {
        "": parts[0],
        **{name: text.strip("\n") for name, text in zip(parts[1::2], parts[2::2], strict=True)},
    }


def documented(section: str) -> dict[str, str]:
    """Return the entries of a section, by name."""
    parts = _ENTRY.split(section)
    return {
        name.lstrip("*"): text
        for names, text in zip(parts[1::2], parts[2::2], strict=True)
        for name in names.split(", ")
    }


def problems_of(subject: Subject) -> list[str]:
    """Return the problems of a docstring; none if the docstring refers to another function, as in "Like `other`"."""
    doc = subject.doc
    if not doc:
        return [f"{subject.name} has no docstring"]
    found = sections(doc)
    if _LIKE.search(found[""]):
        return []
    problems = [*_parameters(subject, documented(found.get("Args", ""))), *_errors(subject, doc)]
    annotation = subject.function.__annotations__.get("return", "None")
    returned = (
        annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "None")
    )
    says = {"Returns", "Yields"} & found.keys() or _RESULT.search(found[""])
    if returned not in _WITHOUT_RESULT and not says:
        problems.append(f"{subject.name} does not say what it returns")
    return problems


def _parameters(subject: Subject, entries: Mapping[str, str]) -> Iterator[str]:
    for parameter in list(inspect.signature(subject.function).parameters.values()):
        if parameter.name in {"self", "cls"} or parameter.name.startswith("_"):
            continue
        if parameter.name not in entries and f"`{parameter.name}`" not in subject.doc:
            yield f"{subject.name} does not document {parameter.name}"
        elif "float" in str(parameter.annotation) and not re.search(
            rf"{_UNIT.pattern}|^As (for|in) ",
            entries.get(parameter.name, subject.doc),
            re.IGNORECASE,
        ):
            yield f"{subject.name} does not state the unit of {parameter.name}"


def _errors(subject: Subject, doc: str) -> Iterator[str]:
    tree = ast.parse(textwrap.dedent(inspect.getsource(subject.function)))
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise):
            match node.exc:
                case ast.Call(func=ast.Name(id=name)) | ast.Name(id=name):
                    if name[0].isupper() and name != "NotImplementedError" and name not in doc:
                        yield f"{subject.name} raises {name} and does not say so"

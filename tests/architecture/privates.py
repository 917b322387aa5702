"""Private attributes that one module uses of another module's objects."""

import ast
from collections.abc import Iterator, Mapping, Sequence

from tests.architecture.sources import Source

STANDARD_LIBRARY = {"_getframe", "_exit", "_current_frames"}
"""Documented functions of the standard library whose names begin with an underscore."""


def foreign_private_attributes(sources: Sequence[Source]) -> list[str]:
    """List each use of a private attribute that the module itself does not define.

    Returns:
        One `path:line expression` for each use, in the order of the sources.
    """
    return [
        f"{source.path}:{node.lineno} {ast.unparse(node)}"
        for source in sources
        for node in _private_attributes(source.tree)
        if node.attr not in _defined_in(source.tree) | STANDARD_LIBRARY
    ]


def unexplained(uses: Sequence[str], reasons: Mapping[str, str]) -> list[str]:
    """List the uses for which no reason is given, and the reasons that no use needs any more.

    Args:
        uses: what `foreign_private_attributes` returns.
        reasons: for each `path expression` why it is right.
    """
    keys = [_without_line(use) for use in uses]
    return [
        *(
            f"{use}: give the object a public name for it"
            for use in uses
            if _without_line(use) not in reasons
        ),
        *(
            f"{key}: nothing uses it any more; delete the reason"
            for key in reasons
            if key not in keys
        ),
    ]


def _without_line(use: str) -> str:
    place, _, expression = use.partition(" ")
    return f"{place.rpartition(':')[0]} {expression}"


def _private_attributes(tree: ast.Module) -> Iterator[ast.Attribute]:
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Attribute)
            and node.attr.startswith("_")
            and not node.attr.startswith("__")
            # What an object does with its own attributes is its class's business, bases included.
            and not (isinstance(node.value, ast.Name) and node.value.id in {"self", "cls"})
        ):
            yield node


def _defined_in(tree: ast.Module) -> set[str]:
    """The names that a module defines: functions, classes, variables, slots, and attributes of `self`."""
    names: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case (
                ast.FunctionDef(name=name)
                | ast.AsyncFunctionDef(name=name)
                | ast.ClassDef(name=name)
            ):
                names.add(name)
            case ast.Attribute(value=ast.Name(id="self" | "cls"), attr=attr, ctx=ast.Store()):
                names.add(attr)
            case ast.AnnAssign(target=ast.Name(id=name)):
                names.add(name)
            case ast.Assign(targets=targets, value=value):
                names |= {target.id for target in targets if isinstance(target, ast.Name)}
                if any(
                    isinstance(target, ast.Name) and target.id == "__slots__" for target in targets
                ):
                    names |= {
                        part.value
                        for part in ast.walk(value)
                        if isinstance(part, ast.Constant) and isinstance(part.value, str)
                    }
    return names

"""Find statements and expressions by their shape, and replace them.

A shape is Python source with wildcards, so it names only what matters about a place. It stays valid when the lines
around the place change, and when somebody renames a local variable for which it has a wildcard:

- `A`, or any other single capital letter, matches one expression or one statement. The same letter matches equal code.
- `AA`, or any other capital letter twice, matches any number of statements, arguments or operands.
- `...` does the same, but the replacement cannot repeat it.

The replacement is Python source too, and repeats the wildcards of the shape. If both are expressions, the shape matches
an expression anywhere in the function. Otherwise it matches consecutive statements of one block. An empty replacement
removes them.
"""

from __future__ import annotations

import ast
import copy
import re
from collections.abc import Iterator, Sequence
from typing import Any

from attrs import frozen

__all__ = ["Function", "Match", "functions_of", "matches", "replace"]

Node = ast.expr | ast.stmt

_Bound = dict[str, Any]
"""The code that each wildcard of a shape has matched: a node, or a list of nodes."""

# Two nodes of the same code may differ in these fields.
_IGNORED = frozenset({"ctx", "kind", "type_comment"})


@frozen
class Function:
    """A function or method of a module, with its qualified name."""

    name: str
    node: ast.FunctionDef | ast.AsyncFunctionDef


@frozen
class Match:
    """A place with the shape.

    Attributes:
        node: The expression, or the first of the statements.
        parent: The node that contains the expression or the statements.
        field: The name of the parent's field that contains them.
        index: The position in the list of that field; None if the field is no list.
        count: The number of statements, or 1.
        bound: The code that each wildcard has matched.
    """

    node: Node
    parent: ast.AST
    field: str
    index: int | None
    count: int
    bound: _Bound

    @property
    def line(self) -> int:
        return self.node.lineno

    @property
    def source(self) -> str:
        """The first line of the code."""
        return ast.unparse(self.node).partition("\n")[0]


def functions_of(tree: ast.Module) -> list[Function]:
    """Return all functions of a module, those inside classes and other functions too."""

    def inside(node: ast.AST, prefix: str) -> Iterator[Function]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                yield Function(prefix + child.name, child)
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                yield from inside(child, f"{prefix}{child.name}.")
            else:
                yield from inside(child, prefix)

    return list(inside(tree, ""))


def matches(shape: str, replacement: str, function: ast.AST) -> list[Match]:
    """Return the places in a function that have the shape. The replacement decides if they are expressions."""
    expression = _expression(shape)
    if expression is not None and _expression(replacement) is not None:
        return list(_matching_expressions(expression, function))
    return list(_matching_statements(ast.parse(shape).body, function))


def replace(match: Match, replacement: str) -> None:
    """Put the replacement at the place, in the syntax tree itself."""
    expression = _expression(replacement)
    new: list[Any]
    if expression is not None and isinstance(match.node, ast.expr):
        new = [_filled(expression, match.bound)]
    else:
        new = _filled_list(ast.parse(replacement).body, match.bound)
    if match.index is None:
        setattr(match.parent, match.field, new[0])
        return
    block = getattr(match.parent, match.field)
    block[match.index : match.index + match.count] = new
    if not block:
        block.append(ast.Pass())


def _expression(source: str) -> ast.expr | None:
    """Return the expression, or None if the source has statements, or nothing."""
    try:
        return ast.parse(source, mode="eval").body
    except SyntaxError:
        return None


# Finding


def _matching_expressions(shape: ast.expr, function: ast.AST) -> Iterator[Match]:
    for parent in ast.walk(function):
        for field, value in ast.iter_fields(parent):
            for index, node in enumerate(value) if isinstance(value, list) else [(None, value)]:
                if isinstance(node, ast.expr):
                    bound = _match(shape, node, {})
                    if bound is not None:
                        yield Match(node, parent, field, index, 1, bound)


def _matching_statements(shape: list[ast.stmt], function: ast.AST) -> Iterator[Match]:
    for parent in ast.walk(function):
        for field, block in ast.iter_fields(parent):
            if not (isinstance(block, list) and block and isinstance(block[0], ast.stmt)):
                continue
            for index in range(len(block)):
                found = _match_start(shape, block[index:], {})
                if found is not None:
                    bound, count = found
                    yield Match(block[index], parent, field, index, count, bound)


def _match(shape: Any, code: Any, bound: _Bound) -> _Bound | None:
    """Return what the wildcards match, together with what they have matched before. Return None without a match."""
    name = _wildcard(shape)
    if name is not None and isinstance(code, ast.expr | ast.stmt):
        return _match_name(name, code, bound)
    if isinstance(shape, list):
        found = _match_start(shape, code, bound, to_the_end=True)
        return None if found is None else found[0]
    if not isinstance(shape, ast.AST):
        return bound if type(shape) is type(code) and shape == code else None
    if type(shape) is not type(code):
        return None
    if isinstance(shape, ast.Call) and any(map(_is_ellipsis, shape.args)):
        code = _with_keywords_of(shape, code)
    now: _Bound | None = bound
    for field, value in ast.iter_fields(shape):
        if field not in _IGNORED:
            now = None if now is None else _match(value, getattr(code, field), now)
    return now


def _match_start(
    shape: Sequence[Any], code: Sequence[Any], bound: _Bound, *, to_the_end: bool = False
) -> tuple[_Bound, int] | None:
    """Match the start of a list, or the whole list. Return the wildcards and the number of matched nodes."""
    if not shape:
        return None if to_the_end and code else (bound, 0)
    name = _rest(shape[0])
    if name is None:
        now = _match(shape[0], code[0], bound) if code else None
        after = (
            None if now is None else _match_start(shape[1:], code[1:], now, to_the_end=to_the_end)
        )
        return None if after is None else (after[0], after[1] + 1)
    for count in range(len(code) + 1):
        now = bound if name == "..." else _match_name(name, list(code[:count]), bound)
        after = (
            None
            if now is None
            else _match_start(shape[1:], code[count:], now, to_the_end=to_the_end)
        )
        if after is not None:
            return after[0], after[1] + count
    return None


def _match_name(name: str, code: Any, bound: _Bound) -> _Bound | None:
    if name not in bound:
        return {**bound, name: code}
    return bound if _match(bound[name], code, {}) is not None else None


def _with_keywords_of(shape: ast.Call, code: Any) -> ast.Call:
    """Return a call without the keywords that a shape with `...` among its arguments does not name."""
    names = [each.arg for each in shape.keywords]
    return ast.Call(code.func, code.args, [each for each in code.keywords if each.arg in names])


# Wildcards


def _name(node: Any) -> str:
    """Return the name that an expression, or a statement with an expression only, consists of."""
    inner = node.value if isinstance(node, ast.Expr) else node
    return inner.id if isinstance(inner, ast.Name) else ""


def _wildcard(node: Any) -> str | None:
    """Return the letter of a wildcard for one node."""
    name = _name(node)
    return name if re.fullmatch("[A-Z]", name) else None


def _rest(node: Any) -> str | None:
    """Return the name of a wildcard for any number of nodes."""
    if _is_ellipsis(node.value if isinstance(node, ast.Expr) else node):
        return "..."
    name = _name(node)
    return name if re.fullmatch(r"([A-Z])\1", name) else None


def _is_ellipsis(node: Any) -> bool:
    return isinstance(node, ast.Constant) and node.value is ...


# Replacing


def _filled(node: Any, bound: _Bound) -> Any:
    """Return a replacement with the code of its wildcards."""
    name = _wildcard(node)
    if name is not None:
        found = copy.deepcopy(bound[name])
        # A wildcard alone on its line stands for a statement, even if it has matched an expression elsewhere.
        return (
            ast.Expr(found) if isinstance(node, ast.Expr) and isinstance(found, ast.expr) else found
        )
    if isinstance(node, ast.AST):
        fields = {field: _filled(value, bound) for field, value in ast.iter_fields(node)}
        return type(node)(**fields)
    return _filled_list(node, bound) if isinstance(node, list) else node


def _filled_list(nodes: list[Any], bound: _Bound) -> list[Any]:
    filled: list[Any] = []
    for node in nodes:
        name = _rest(node)
        filled += [_filled(node, bound)] if name is None else copy.deepcopy(bound[name])
    return filled

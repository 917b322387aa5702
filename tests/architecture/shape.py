"""The reasons that a module gives for its shields and broad excepts."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator, Sequence

from tests.architecture.sources import Source


def missing_reasons(sources: Sequence[Source]) -> list[str]:
    """Return the shields and broad excepts without a comment that justifies them.

    A broad except that ends in `raise` needs none.
    The comment stands on the line above, on the line itself or above or on the first line of the block.
    """
    problems = []
    for source in sources:
        # To walk all syntax trees and to find all comments would take seconds. So skip modules without these words.
        found = list(_needing_a_reason(source)) if re.search("except|shield", source.text) else []
        comments = _lines_with_comments(source.text) if found else set()
        problems += [
            f"{source.path}:{node.lineno} {what} without a comment that says why"
            for node, what in found
            if not comments.intersection(range(node.lineno - 1, _first_line_inside(node) + 1))
        ]
    return problems


def _lines_with_comments(text: str) -> set[int]:
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return {token.start[0] for token in tokens if token.type == tokenize.COMMENT}


def _needing_a_reason(source: Source) -> Iterator[tuple[ast.stmt | ast.ExceptHandler, str]]:
    may_shield = "shield" in source.text
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ExceptHandler) and _is_broad(node.type) and not _reraises(node):
            yield node, "a broad except"
        elif (
            may_shield and isinstance(node, ast.stmt) and any(map(_shields, _expressions_of(node)))
        ):
            yield node, "a shield"


def _is_broad(caught: ast.expr | None) -> bool:
    if isinstance(caught, ast.Tuple):
        return any(map(_is_broad, caught.elts))
    return caught is None or ast.unparse(caught) in {"Exception", "BaseException"}


def _reraises(handler: ast.ExceptHandler) -> bool:
    """Return True if a handler only cleans up and raises again, so that it hides no error."""
    last = handler.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None


def _expressions_of(statement: ast.stmt) -> Iterator[ast.AST]:
    """The parts of a statement, without the statements in its body."""
    todo: list[ast.AST] = [statement]
    while todo:
        node = todo.pop()
        yield node
        todo += [
            child
            for child in ast.iter_child_nodes(node)
            if not isinstance(child, ast.stmt | ast.ExceptHandler | ast.match_case)
        ]


def _shields(node: ast.AST) -> bool:
    match node:
        case ast.keyword(arg="shield", value=ast.Constant(value=True)):
            return True
        case ast.Assign(targets=[ast.Attribute(attr="shield")], value=ast.Constant(value=True)):
            return True
    return False


def _first_line_inside(node: ast.stmt | ast.ExceptHandler) -> int:
    body: list[ast.stmt] = getattr(node, "body", [])
    return body[0].lineno if body else _last_line(node)


def _last_line(node: ast.stmt | ast.ExceptHandler) -> int:
    return node.end_lineno or node.lineno

"""Mistakes in the methods of a channel or a socket that their source shows before anybody connects.

    await self.broadcast(...)      broadcast is not async
    await receive()                takes the messages of the channel's callbacks
    spawn(self.ticker)             goes on when the channel has ended
    return JoinRefused(...)        a refusal that is not raised

Each of them fails when it is reached, which may be long after the start and in front of a client. A name counts only if
it means, where it is written, what it means in this package. Methods without a source that can be read are passed over.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from types import FunctionType, ModuleType
from typing import Any

from actors.process import receive, spawn, spawn_monitor
from channels.handlers import InvalidHandler

__all__ = ["check_sources"]

_CHECKED = "_ashtree_sources_checked"
_DECISIONS = ("join", "connect")
_OUR_PACKAGES = ("actors.", "channels.")


def check_sources(owner: type, base: type) -> None:
    """Raise InvalidHandler for the first mistake in the methods of a class, those of its mixins included.

    Args:
        owner: a subclass of `Channel` or `Socket`.
        base: `Channel` or `Socket`.

    A class is read once: reading takes about a millisecond for each method.
    """
    if _CHECKED in vars(owner):
        return
    for each in owner.__mro__:
        if each in base.__mro__:
            continue
        for member in vars(each).values():
            function = getattr(member, "__func__", member)
            if isinstance(function, FunctionType):
                _Method(owner, base, inspect.unwrap(function)).check()
    setattr(owner, _CHECKED, True)


class _Method:
    """One method, and what its names mean where they are written."""

    def __init__(self, owner: type, base: type, function: Any) -> None:
        self.owner = owner
        self.base = base
        self.function = function
        self.code = function.__code__
        self.me = self.code.co_varnames[0] if self.code.co_argcount else None
        # Known by their names: what `self.endpoint` is, is not known before there is a client.
        self.of_the_endpoint = {
            f"{self.me}.endpoint.broadcast",
            f"{self.me}.endpoint.broadcast_from",
        }

    def check(self) -> None:
        for node in self._nodes():
            problem = self._problem(node)
            if problem is not None:
                name = self.code.co_name
                place = f"{self.code.co_filename}:{self.code.co_firstlineno + node.lineno - 1}"
                raise InvalidHandler(
                    f"{self.owner.__name__}.{name} ({place}) {problem}",
                    channel=self.owner,
                    handler=name,
                )

    def _nodes(self) -> Iterator[Any]:
        """The statements and expressions of the method, without those of the functions inside of it."""
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(self.function)))
        except (OSError, TypeError, SyntaxError, IndexError):
            # Typed at a prompt, compiled elsewhere, or changed since it was loaded.
            return
        definition = tree.body[0] if tree.body else None
        if (
            not isinstance(definition, ast.FunctionDef | ast.AsyncFunctionDef)
            or definition.name != self.code.co_name
        ):
            return
        todo: list[ast.AST] = list(definition.body)
        while todo:
            node = todo.pop(0)
            yield node
            if not isinstance(
                node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef
            ):
                todo[:0] = ast.iter_child_nodes(node)

    def _problem(self, node: ast.AST) -> str | None:
        match node:
            case ast.Await(value=ast.Call() as call):
                return self._awaited(call)
            case ast.Return(value=ast.Call(func=raised) | (ast.Name() as raised)):
                return self._returned(raised, node)
            case ast.Call(func=verb, args=[ast.Attribute(value=ast.Name(id=name)) as method, *_]):
                if name == self.me and self._meaning(verb) in (spawn, spawn_monitor):
                    return self._spawned(ast.unparse(verb), ast.unparse(method))
        return None

    def _awaited(self, call: ast.Call) -> str | None:
        verb = self._meaning(call.func)
        if verb is receive:
            if call.args or any(keyword.arg in ("match", None) for keyword in call.keywords):
                return None
            return (
                "takes any message with receive(), those for the other callbacks too; write "
                "`async def handle_info(self, message)` to act on messages, or receive(match) to wait for one of them"
            )
        written = ast.unparse(call.func)
        if not _returns_nothing(verb) and written not in self.of_the_endpoint:
            return None
        return f"awaits {written}(...), which is not async; write {written}(...) without `await`"

    def _returned(self, raised: ast.expr, node: ast.Return) -> str | None:
        error = self._meaning(raised)
        if (
            self.code.co_name not in _DECISIONS
            or not isinstance(error, type)
            or not issubclass(error, BaseException)
        ):
            return None
        written = ast.unparse(node.value) if node.value is not None else ""
        return f"returns {written}, which refuses nobody; write `raise {written}`"

    def _spawned(self, verb: str, method: str) -> str:
        return (
            f"starts {method} with {verb}, so that it goes on when the {self.base.__name__.lower()} has ended; write "
            f"spawn_link({method}), which ends with it, or send_every(current_pid(), message, seconds) and handle_info"
        )

    def _meaning(self, node: ast.expr) -> Any:
        """What an expression means, as far as that can be known without running anything; None if it cannot."""
        match node:
            case ast.Name(id=name):
                code = self.code
                if name in code.co_varnames or name in code.co_cellvars:
                    return None
                if name in code.co_freevars:
                    cell = self.function.__closure__[code.co_freevars.index(name)]
                    try:
                        return cell.cell_contents
                    except ValueError:
                        return None
                return self.function.__globals__.get(name)
            case ast.Attribute(value=ast.Name(id=name), attr=attribute) if name == self.me:
                found = inspect.getattr_static(self.owner, attribute, None)
                return (
                    found if found is inspect.getattr_static(self.base, attribute, None) else None
                )
            case ast.Attribute(value=value, attr=attribute):
                module = self._meaning(value)
                return vars(module).get(attribute) if isinstance(module, ModuleType) else None
        return None


def _returns_nothing(verb: Any) -> bool:
    """Tell whether something is a plain function of ours that cannot be awaited, because it returns no awaitable."""
    return (
        isinstance(verb, FunctionType)
        and not inspect.iscoroutinefunction(verb)
        and verb.__module__.startswith(_OUR_PACKAGES)
        and verb.__annotations__.get("return") in ("None", "SocketRef", "Pid", "Ref", "TimerRef")
    )

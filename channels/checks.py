"""Checks of the application's code: results of callbacks, results of permission checks, and the source of methods.

Only the documented result of a permission check lets a client in. Any other result refuses the client.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import sys
import textwrap
import warnings
from collections import deque
from collections.abc import Iterator, Mapping
from importlib import import_module
from types import CoroutineType, FunctionType, ModuleType
from typing import Any, Final
from weakref import WeakSet

import attrs
import msgspec

from actors.places import place_of, place_of_method
from actors.process import receive
from actors.servers import results
from channels.errors import InvalidResult
from channels.handlers import InvalidHandler
from channels.messages import Binary, Broadcast, JoinRefused, Message, PushReply
from channels.topics import Route

__all__ = [
    "AFTER_CALL",
    "AFTER_MESSAGE",
    "AFTER_PUSH",
    "check_sources",
    "invalid",
    "join_response",
    "yes_or_no",
]

# Results of callbacks

AFTER_MESSAGE = ("None", "NoReply()", "Continue(argument)", "Within(seconds)", "Stop(reason)")
AFTER_PUSH = ("None", "PushReply(payload)", *AFTER_MESSAGE[1:])
AFTER_CALL = ("actors.Reply(value)", "NoReply()", "Stop(reason)")

_AFTER_JOIN = ("None", "a dict", "a record that encodes as a JSON object", "Binary(data)")

# Records of Ashtree, which are not data for a client.
_OURS = (
    PushReply,
    Route,
    Message,
    Broadcast,
    results.Reply,
    results.NoReply,
    results.Continue,
    results.Within,
    results.Stop,
    results.Ignore,
    results.Fail,
)


def invalid(
    owner: type,
    callback: str,
    got: Any,
    expected: tuple[str, ...],
    *,
    event: str | None = None,
    method: str | None = None,
    advice: str | None = None,
) -> InvalidResult:
    """Return the error for a wrong result of a callback.

    Args:
        owner: the class of the channel or the socket.
        callback: the name of the callback, such as `join` or `handle_in`.
        got: the result. If it is a coroutine, this closes it.
        expected: the allowed results.
        event: the event of a push or a broadcast.
        method: the name of the method, if it differs from `callback`.
        advice: the correction, for the end of the message. By default, the message lists `expected`.
    """
    name = method or callback
    if name == callback:
        place = place_of(getattr(owner, name, None))
    else:
        place = place_of_method(owner, name)
    return InvalidResult(
        f"{owner.__name__}.{callback}",
        got,
        expected,
        event=event,
        place=place,
        advice=advice or _advice(callback, got),
    )


def _advice(callback: str, got: Any) -> str | None:
    kind = type(got)
    if isinstance(got, BaseException):
        return f"write `raise {kind.__name__}(...)` in place of `return`"
    if isinstance(got, type) and issubclass(got, BaseException):
        return f"write `raise {got.__name__}` in place of `return`"
    if kind is PushReply:
        if callback == "handle_call":
            return "channels.PushReply answers a client's push; write actors.Reply(value) to answer a call"
        return (
            "there is no push to answer here; write self.push(event, payload), or reply_to(socket_ref, PushReply(...)) "
            "to answer an earlier push"
        )
    if kind is results.Reply:
        if callback == "handle_in":
            return "actors.Reply answers a call; write channels.PushReply(payload) to answer a client's push"
        return "actors.Reply answers a call, and there is no call here; write self.push(event, payload)"
    if callback == "handle_in" and not isinstance(got, CoroutineType):
        return f"write PushReply(...) around it to answer the push; the callback may return {', '.join(AFTER_PUSH)}"
    return None


def join_response(channel: type, response: Any) -> Any:
    """Return the response to an accepted join.

    Raises:
        InvalidResult: `join` returned anything except None, a JSON object or a `Binary`. The caller refuses the client.
    """
    if response is None:
        return {}
    if isinstance(response, dict | Binary) or _is_record(response):
        return response
    if isinstance(response, BaseException) or (
        isinstance(response, type) and issubclass(response, BaseException)
    ):
        advice = _advice("join", response)
    elif type(response) is PushReply:
        advice = "return the payload itself, without a PushReply around it"
    elif isinstance(response, CoroutineType):
        advice = None
    else:
        refusal = f"raise {JoinRefused.__name__}({{...}})"
        advice = f"return None or a dict to let the client in, and write `{refusal}` to refuse it"
    raise invalid(channel, "join", response, _AFTER_JOIN, advice=advice)


def _is_record(value: Any) -> bool:
    if isinstance(value, (type, BaseException, *_OURS)):
        return False
    if isinstance(value, msgspec.Struct):
        return not value.__struct_config__.array_like
    return attrs.has(type(value)) or dataclasses.is_dataclass(value)


# Answers of functions


def yes_or_no(question: str, function: Any, answer: Any) -> bool:
    """Return the answer of an application's permission check. Only True is a yes.

    Args:
        question: the name of the option with the function.
        function: the function, for the message.
        answer: the result of the function. If it is a coroutine, this closes it.

    Raises:
        InvalidResult: the answer is neither True nor False.
    """
    if answer is True or answer is False:
        return bool(answer)
    name = getattr(function, "__qualname__", None) or repr(function)
    advice = None
    if inspect.isawaitable(answer):
        advice = "write a plain function, `def`, that returns True or False"
    raise InvalidResult(
        f"the function {name} of {question}",
        answer,
        ("True", "False"),
        place=place_of(function),
        advice=advice,
    )


# Sources

_CHECKED = "_ashtree_sources_checked"
_OUR_PACKAGES = ("actors.", "channels.")
# The classes whose shared values have had their warning.
_warned: Final[WeakSet[type]] = WeakSet()


def check_sources(owner: type, base: type) -> None:
    """Raise InvalidHandler for the first mistake in the methods of a class and its mixins.

    Args:
        owner: a subclass of `Channel` or `Socket`.
        base: `Channel` or `Socket`.

    The source shows these mistakes before any client connects:

        await self.broadcast(...)      broadcast is not async
        await receive()                takes the messages of the channel's callbacks
        self.topic = topic.upper()     replaces what Ashtree set for this client

    The code that runs does not show these mistakes, or shows them too late. Other mistakes, such as a refusal that is
    returned and not raised, get their answer when the code runs.

    The check counts a name only if it refers to Ashtree's own object. It skips a method whose source it cannot read. It
    reads each class once, because reading a method takes about a millisecond.
    """
    if _CHECKED in vars(owner):
        return
    _warn_of_shared_values(owner, base)
    for each in owner.__mro__:
        if each in base.__mro__:
            continue
        for member in vars(each).values():
            function = getattr(member, "__func__", member)
            if isinstance(function, FunctionType):
                _Method(owner, base, inspect.unwrap(function)).check()
    setattr(owner, _CHECKED, True)


def _warn_of_shared_values(owner: type, base: type) -> None:
    """Warn of `messages = []` in a class: all clients would share this list.

    A name in capitals, an annotation as `ClassVar`, and a value that cannot change show that the author means to share.
    A mixin of several classes has its warnings once.
    """
    for each in owner.__mro__:
        if each in base.__mro__ or each in _warned:
            continue
        _warned.add(each)
        annotations = _annotations_of(each)
        for name, value in vars(each).items():
            meant = name.isupper() or "ClassVar" in str(annotations.get(name, ""))
            if (
                isinstance(value, list | dict | set | bytearray | deque)
                and not meant
                and not name.startswith("__")
                and not hasattr(base, name)
                # `channel = {...}` in a socket is a typing error for `channels`, of which another warning tells.
                and not hasattr(base, f"{name}s")
            ):
                method = "join" if hasattr(base, "join") else "connect"
                warnings.warn_explicit(
                    f"{each.__name__}.{name} is one {type(value).__name__} that all clients share; to give each "
                    f"client its own, write self.{name} = {_empty(value)} in {method}; if you mean to share it, "
                    f"annotate it: {name}: ClassVar = ...",
                    UserWarning,
                    *_place_of_class(each),
                )


def _annotations_of(cls: type) -> Mapping[str, Any]:
    """Return the annotations of a class itself, without an evaluation, which could raise."""
    if sys.version_info >= (3, 14):
        # The module is new in this version.
        module = import_module("annotationlib")
        written: dict[str, Any] = module.get_annotations(cls, format=module.Format.STRING)
        return written
    annotations: dict[str, Any] = vars(cls).get("__annotations__", {})
    return annotations


def _empty(value: object) -> str:
    # Not the value itself, which may be large or secret.
    kind = type(value)
    return "[]" if kind is list else "{}" if kind is dict else f"{kind.__name__}()"


def _place_of_class(owner: type) -> tuple[str, int]:
    try:
        return inspect.getsourcefile(owner) or owner.__module__, inspect.getsourcelines(owner)[1]
    except (OSError, TypeError):
        # The class was typed at a prompt, or compiled without its source.
        return owner.__module__, 1


class _Method:
    """One method of the application, and the checks of its source."""

    def __init__(self, owner: type, base: type, function: Any) -> None:
        self.owner = owner
        self.base = base
        self.function = function
        self.code = function.__code__
        self.me = self.code.co_varnames[0] if self.code.co_argcount else None
        # Compared as text, because `self.endpoint` exists only while a client is connected.
        self.of_the_endpoint = {
            f"{self.me}.endpoint.broadcast",
            f"{self.me}.endpoint.broadcast_from",
            f"{self.me}.endpoint.broadcast_latest",
            f"{self.me}.endpoint.broadcast_latest_from",
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
        """Yield the statements and expressions of the method, without nested functions."""
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(self.function)))
        except (OSError, TypeError, SyntaxError, IndexError):
            # The method was typed at a prompt, compiled without its source, or edited after Python loaded it.
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
            case ast.Attribute(value=ast.Name(id=name), attr=attribute, ctx=ast.Store()):
                if name == self.me and attribute in self._reserved():
                    return self._overwritten(attribute)
        return None

    def _reserved(self) -> set[str]:
        """Return the attributes that an instance must not replace: the methods of its base class, and Ashtree's own."""
        methods = {
            name
            for each in self.base.__mro__[:-1]
            for name, value in vars(each).items()
            if isinstance(value, FunctionType) and not name.startswith("_")
        }
        return methods | ({"topic", "endpoint"} & _annotations_of(self.base).keys())

    def _overwritten(self, attribute: str) -> str:
        base = self.base.__name__
        meaning = (
            f"a method of {base}"
            if callable(getattr(self.base, attribute, None))
            else f"an attribute that Ashtree sets for each {base.lower()}"
        )
        return f"sets {self.me}.{attribute}, which is {meaning}; choose another name, such as my_{attribute}"

    def _awaited(self, call: ast.Call) -> str | None:
        verb = self._meaning(call.func)
        if verb is receive:
            if call.args or any(keyword.arg in ("match", None) for keyword in call.keywords):
                return None
            return (
                "calls receive() without a match, so it also takes messages for other callbacks; write "
                "`async def handle_info(self, message)` to handle messages, or receive(match) to wait for one"
            )
        written = ast.unparse(call.func)
        if not _returns_nothing(verb) and written not in self.of_the_endpoint:
            return None
        return f"awaits {written}(...), which is not async; write {written}(...) without `await`"

    def _meaning(self, node: ast.expr) -> Any:
        """Return the value of an expression, or None if the value is known only when the code runs."""
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
    """Return True if an object is a plain function of Ashtree that returns no awaitable."""
    return (
        isinstance(verb, FunctionType)
        and not inspect.iscoroutinefunction(verb)
        and verb.__module__.startswith(_OUR_PACKAGES)
        and verb.__annotations__.get("return") in ("None", "SocketRef", "Pid", "Ref", "TimerRef")
    )

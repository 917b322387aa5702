"""Typed payloads: what a handler's annotation says its payload is, and what a client is told that sends another thing.

    @frozen
    class NewMessage:
        body: str

    class RoomChannel(Channel):
        @handle_in("new_msg")
        async def new_msg(self, payload: NewMessage):
            self.broadcast("new_msg", {"body": payload.body})

`Any`, `object`, `dict`, `Mapping` and `Binary`, with or without parameters of `str` and `Any`, say nothing about what
is inside: such a payload is passed on as it came. Every other type is what the payload is converted to, by msgspec and
by its rules: an attrs class, a dataclass, a `TypedDict`, a `msgspec.Struct`, a list of them. A payload that does not
fit is answered with status `error` and the handler is not called; the channel lives.
"""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, TypeVar

import attrs
import msgspec

from actors.runtime import current_runtime
from channels.channel import Channel, table_of
from channels.errors import ChannelsError
from channels.handlers import Handler, InvalidHandler, names_of
from channels.messages import Binary, PushReply
from channels.telemetry import PAYLOAD_REFUSED

__all__ = ["InvalidPayload", "refused", "use_types"]

_PLACE = re.compile(r" - at `\$\.?(?P<path>.*)`$")
_MISSING = re.compile(r"^Object missing required field `(?P<name>[^`]*)`$")
_VALIDATED = re.compile(r"^(?P<what>Length of )?'(?P<name>\w+)' ")


class InvalidPayload(ChannelsError, ValueError):
    """A client sent a payload that is not what the handler of its event takes.

    The client is at fault, and is answered with `response`. Applications meet this one in telemetry only.

    Fields: `field`, the path of what does not fit, such as `user.emails[0]`, None if it is the payload as a whole;
    `problem`, what is wrong with it.
    """

    def __init__(self, field: str | None, problem: str) -> None:
        super().__init__(f"{field or 'the payload'}: {problem}")
        self.field = field
        self.problem = problem

    @property
    def response(self) -> dict[str, Any]:
        """What the client gets: `{"reason": "invalid payload", "field": "body", "problem": "..."}`."""
        return {"reason": "invalid payload", "field": self.field, "problem": self.problem}


def _decoder_of(channel: type[Channel], name: str, position: int) -> Callable[[Any], Any] | None:
    """What turns the payload of a method into what its annotation says; None if it says nothing.

    Args:
        channel: the class, for errors.
        name: of the method.
        position: of the payload among the parameters, counted from `self`, which is 0.

    Raises:
        InvalidHandler: the annotation cannot be found, or is of a kind that nothing can be converted to.
    """
    function = getattr(channel, name)
    parameters = list(inspect.signature(function).parameters.values())
    if len(parameters) <= position:
        # It takes what comes, in *args.
        return None
    wanted = _resolve(channel, name, function, parameters[position].annotation)
    if _says_nothing(wanted):
        return None
    _check(channel, name, wanted)

    def decode(payload: Any) -> Any:
        if isinstance(payload, Binary):
            raise InvalidPayload(None, "is binary, and JSON is expected")
        try:
            return msgspec.convert(payload, wanted)
        except msgspec.ValidationError as error:
            raise _explain(error) from error

    return decode


def use_types(channel: type[Channel]) -> None:
    """Have the payloads of a checked channel class converted to what its `join` and its handlers declare.

    Raises:
        InvalidHandler: an annotation cannot be found, or is of a kind that nothing can be converted to.
    """
    table = table_of(channel)
    table.decode_join = _decoder_of(channel, "join", 2)
    for event, name in names_of(channel, "in").items():
        table.incoming[event] = _typed(channel, name, event)


def _typed(channel: type[Channel], name: str, event: str) -> Handler:
    handler: Handler = getattr(channel, name)
    decode = _decoder_of(channel, name, 1)
    if decode is None:
        return handler

    async def handle(instance: Channel, payload: Any) -> Any:
        try:
            value = decode(payload)
        except InvalidPayload as error:
            refused(instance, event, error)
            return PushReply(error.response, status="error")
        return await handler(instance, value)

    return handle


def refused(channel: Channel, event: str, error: InvalidPayload) -> None:
    """Tell whoever listens that a payload was refused."""
    current_runtime().telemetry.execute(
        PAYLOAD_REFUSED,
        {},
        {"endpoint": channel.endpoint, "channel": channel, "event": event, "error": error},
    )


def _resolve(channel: type[Channel], name: str, function: Any, annotation: Any) -> Any:
    if not isinstance(annotation, str):
        return annotation
    # What the function itself sees. Its module need not be in sys.modules under its name: under cProfile and pdb
    # another program is __main__.
    names = getattr(inspect.unwrap(function), "__globals__", {})
    try:
        # What typing.get_type_hints does, for one parameter: what others are annotated with is nobody's business here.
        return eval(annotation, names)  # noqa: S307 # the program's own text
    except Exception as error:
        raise InvalidHandler(
            f"{channel.__name__}.{name} declares its payload as {annotation}, which cannot be found when the socket is "
            f"mounted ({error}); define or import it in {function.__module__}, outside of functions and of "
            "`if TYPE_CHECKING`",
            channel=channel,
            handler=name,
        ) from error


def _says_nothing(wanted: Any) -> bool:
    if wanted is inspect.Parameter.empty or isinstance(wanted, TypeVar):
        return True
    origin = typing.get_origin(wanted)
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        return all(each in (str, Any, object) for each in typing.get_args(wanted))
    if origin is typing.Union or str(origin) == "<class 'types.UnionType'>":
        return any(_says_nothing(each) for each in typing.get_args(wanted))
    return wanted in (Any, object, dict, Mapping, Binary)


def _check(channel: type[Channel], name: str, wanted: Any) -> None:
    try:
        kind = msgspec.inspect.type_info(wanted)
    except TypeError as error:
        raise _unusable(channel, name, wanted, str(error)) from error
    odd = next(_customs(kind, set()), None)
    if odd is not None:
        problem = (
            "no payload can be converted to that class"
            if odd is wanted
            else f"nothing can be converted to the class {odd.__name__} in it"
        )
        raise _unusable(channel, name, wanted, problem)


def _customs(kind: Any, seen: set[int]) -> Iterator[type]:
    """The classes somewhere in a type that msgspec knows nothing of. It would refuse whatever a client sent there."""
    if isinstance(kind, msgspec.inspect.CustomType):
        yield kind.cls
    elif isinstance(kind, msgspec.inspect.Field):
        if kind.required:
            yield from _customs(kind.type, seen)
    elif isinstance(kind, tuple):
        for each in kind:
            yield from _customs(each, seen)
    elif isinstance(kind, msgspec.inspect.Type) and id(kind) not in seen:
        # Records that hold themselves are one object, each time.
        seen.add(id(kind))
        yield from _customs(msgspec.structs.astuple(kind), seen)


def _unusable(channel: type[Channel], name: str, wanted: Any, problem: str) -> InvalidHandler:
    shown = getattr(wanted, "__name__", wanted)
    return InvalidHandler(
        f"{channel.__name__}.{name} declares its payload as {shown}: {problem}; write an attrs class, a dataclass, a "
        "TypedDict, or Any",
        channel=channel,
        handler=name,
    )


def _explain(error: msgspec.ValidationError) -> InvalidPayload:
    """Take msgspec's sentence apart: which field, and what is wrong with it."""
    text = str(error)
    path = ""
    place = _PLACE.search(text)
    if place is not None:
        text, path = text[: place.start()], place["path"]
    name = None
    if (missing := _MISSING.match(text)) is not None:
        name, text = missing["name"], "is missing"
    elif error.__cause__ is not None and error.__cause__.args:
        # An attrs validator raised this; those of attrs begin with the name of the field, or its length.
        text = str(error.__cause__.args[0])
        if (validated := _VALIDATED.match(text)) is not None:
            name, text = validated["name"], text[validated.end() :]
            if validated["what"]:
                text = f"length {text}"
        else:
            name = _field_of(error.__cause__.__traceback__)
    if name is not None:
        path = f"{path}.{name}" if path else name
    problem = text.replace("`", "")
    return InvalidPayload(path or None, problem[:1].lower() + problem[1:])


def _field_of(traceback: TracebackType | None) -> str | None:
    """The field whose validator raised: validators get the instance, the attribute and the value."""
    while traceback is not None:
        code, local = traceback.tb_frame.f_code, traceback.tb_frame.f_locals
        for name in code.co_varnames[: code.co_argcount]:
            if isinstance(local.get(name), attrs.Attribute):
                return str(local[name].name)
        traceback = traceback.tb_next
    return None

"""Typed payloads, which Ashtree converts to the type that a handler declares.

    @frozen
    class NewMessage:
        body: str

    class RoomChannel(Channel):
        @handle_in("new_msg")
        async def new_msg(self, payload: NewMessage):
            self.broadcast("new_msg", {"body": payload.body})

msgspec converts the payload to the annotated type: an attrs class, a dataclass, a `TypedDict`, a `msgspec.Struct`, or
a list of them. If the payload does not match, the client gets a reply with status `error`, and the handler does not
run. Ashtree does not convert payloads for `Any`, `object`, `Binary`, `dict`, `Mapping`, and `dict[str, Any]`.
"""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from functools import partial
from itertools import repeat
from types import TracebackType
from typing import Any, Final, TypeAlias, TypeVar

import attrs
import msgspec

from actors.runtime import current_runtime
from channels.channel import Channel
from channels.errors import ChannelsError
from channels.handlers import (
    Declarations,
    Handler,
    HandlerTable,
    InvalidHandler,
    names_of,
)
from channels.messages import Binary, PushReply
from channels.telemetry import PAYLOAD_REFUSED

__all__ = [
    "InvalidPayload",
    "explain",
    "payload_type",
    "refused",
    "result_type",
    "table_of",
]

_PLACE = re.compile(r" - at `\$\.?(?P<path>.*)`$")
_MISSING = re.compile(r"^Object missing required field `(?P<name>[^`]*)`$")
_VALIDATED = re.compile(r"^(?P<what>Length of )?'(?P<name>\w+)' ")

MAX_EXPONENT: Final = 6144
"""The greatest power of ten in a `Decimal` of a payload, as in the format decimal128 of IEEE 754."""


class InvalidPayload(ChannelsError, ValueError):
    """A client sent a payload that does not match the type in the handler's annotation.

    The client gets `response`. The application sees this error only in telemetry.

    Attributes:
        field: the path of the wrong field, such as `user.emails[0]`; None if the whole payload is wrong.
        problem: the mistake.
    """

    def __init__(self, field: str | None, problem: str) -> None:
        super().__init__(f"{field or 'the payload'}: {problem}")
        self.field = field
        self.problem = problem

    @property
    def response(self) -> dict[str, Any]:
        """The reply to the client: `{"reason": "invalid payload", "field": "body", "problem": "..."}`."""
        return {"reason": "invalid payload", "field": self.field, "problem": self.problem}


def payload_type(channel: type[Channel], name: str, position: int) -> Any | None:
    """Return the type that a method declares for its payload; None if the method accepts any payload.

    Args:
        channel: the class.
        name: the name of the method.
        position: the index of the payload among the parameters; `self` is 0.

    Raises:
        InvalidHandler: the annotation cannot be resolved.
    """
    function = getattr(channel, name)
    parameters = list(inspect.signature(function).parameters.values())
    if len(parameters) <= position:
        # The handler takes *args.
        return None
    wanted = _resolve(channel, name, function, parameters[position].annotation, role="payload")
    return None if _is_untyped(wanted) else wanted


def result_type(channel: type[Channel], name: str) -> Any | None:
    """Return the type that a method declares for its result; None if it declares no type.

    The annotation `None` is the type of None.

    Args:
        channel: the class.
        name: the name of the method.

    Raises:
        InvalidHandler: the annotation cannot be resolved.
    """
    function = getattr(channel, name)
    annotation = inspect.signature(function).return_annotation
    wanted = _resolve(channel, name, function, annotation, role="result")
    if wanted is None:
        return type(None)
    return None if _is_untyped(wanted) else wanted


def _decoder_of(channel: type[Channel], name: str, position: int) -> Callable[[Any], Any] | None:
    """Return the function that converts a method's payload to the annotated type; None if no conversion is needed.

    Args:
        channel: the class.
        name: the name of the method.
        position: the index of the payload among the parameters; `self` is 0.

    Raises:
        InvalidHandler: the annotation cannot be resolved, or msgspec cannot convert to it.
    """
    wanted = payload_type(channel, name, position)
    if wanted is None:
        return None
    _check(channel, name, wanted)

    def decode(payload: Any) -> Any:
        if isinstance(payload, Binary):
            raise InvalidPayload(None, "is binary, but the handler expects JSON")
        try:
            return msgspec.convert(payload, wanted)
        except msgspec.ValidationError as error:
            raise explain(error) from error

    find_unfit = _finder_of(msgspec.inspect.type_info(wanted), {})
    if find_unfit is None:
        return decode

    def decode_and_check(payload: Any) -> Any:
        value = decode(payload)
        unfit = find_unfit(value)
        if unfit is not None:
            path, problem = unfit
            raise InvalidPayload(path.removeprefix(".") or None, problem)
        return value

    return decode_and_check


def table_of(channel: type[Channel], declarations: Declarations | None = None) -> HandlerTable:
    """Return the handlers of a channel class, which convert payloads to the types that the class declares.

    A subclass inherits handlers. A method that overrides a handler handles the same events.

    Args:
        channel: the class.
        declarations: the checks of what the channel sends; None checks nothing.

    Raises:
        InvalidHandler: an annotation cannot be resolved, or msgspec cannot convert to it.
    """
    join: Handler = channel.join
    handle_in: Handler = channel.handle_in
    if declarations is not None:
        join, handle_in = declarations.join(join), declarations.handle_in(handle_in)
    decode_join = _decoder_of(channel, "join", 2)
    incoming = {}
    for event, name in names_of(channel, "in").items():
        handler: Handler = getattr(channel, name)
        if declarations is not None:
            handler = declarations.handler(event, handler)
        incoming[event] = _typed(channel, name, event, handler)
    outgoing = {event: getattr(channel, name) for event, name in names_of(channel, "out").items()}
    return HandlerTable(
        join=join,
        decode_join=decode_join,
        incoming=incoming,
        handle_in=handle_in,
        outgoing=outgoing,
        intercepts=frozenset(outgoing),
        declarations=declarations,
    )


def _typed(channel: type[Channel], name: str, event: str, handler: Handler) -> Handler:
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
    """Emit the telemetry event about a payload that does not match."""
    current_runtime().telemetry.execute(
        PAYLOAD_REFUSED,
        {},
        {"endpoint": channel.endpoint, "channel": channel, "event": event, "error": error},
    )


def _resolve(
    channel: type[Channel], name: str, function: Any, annotation: Any, *, role: str
) -> Any:
    if not isinstance(annotation, str):
        return annotation
    # Use the function's globals. Under cProfile and pdb, sys.modules does not have the function's module by its name.
    names = getattr(inspect.unwrap(function), "__globals__", {})
    try:
        # Not typing.get_type_hints, because the annotations of other parameters may not resolve.
        return eval(annotation, names)  # noqa: S307 # the program's own text
    except Exception as error:
        raise InvalidHandler(
            f"{channel.__name__}.{name} declares its {role} as {annotation}, which does not resolve when the socket "
            f"is mounted ({error}); define or import it at the top of {function.__module__}, not in a function or in "
            "`if TYPE_CHECKING`",
            channel=channel,
            handler=name,
        ) from error


def _is_untyped(wanted: Any) -> bool:
    if wanted is inspect.Parameter.empty or isinstance(wanted, TypeVar):
        return True
    origin = typing.get_origin(wanted)
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        return all(each in (str, Any, object) for each in typing.get_args(wanted))
    if origin is typing.Union or str(origin) == "<class 'types.UnionType'>":
        return any(_is_untyped(each) for each in typing.get_args(wanted))
    return wanted in (Any, object, dict, Mapping, Binary)


def _check(channel: type[Channel], name: str, wanted: Any) -> None:
    try:
        kind = msgspec.inspect.type_info(wanted)
    except TypeError as error:
        raise _unusable(channel, name, wanted, str(error)) from error
    # A field with a default may have an unsupported class, which clients cannot send.
    parts = _parts_of(kind, set(), optional=False)
    odd = next((each.cls for each in parts if isinstance(each, msgspec.inspect.CustomType)), None)
    if odd is not None:
        problem = (
            "msgspec cannot convert to that class"
            if odd is wanted
            else f"msgspec cannot convert to the class {odd.__name__} in it"
        )
        raise _unusable(channel, name, wanted, problem)


def _parts_of(kind: Any, seen: set[int], *, optional: bool) -> Iterator[msgspec.inspect.Type]:
    """Yield the types inside a type, and the type itself.

    Args:
        kind: the type.
        seen: the ids of the types so far.
        optional: look into fields with a default too.
    """
    if isinstance(kind, msgspec.inspect.Field):
        if kind.required or optional:
            yield from _parts_of(kind.type, seen, optional=optional)
    elif isinstance(kind, tuple):
        for each in kind:
            yield from _parts_of(each, seen, optional=optional)
    elif isinstance(kind, msgspec.inspect.Type) and id(kind) not in seen:
        # A recursive type contains itself as the same object, so `seen` ends the recursion.
        seen.add(id(kind))
        yield kind
        yield from _parts_of(msgspec.structs.astuple(kind), seen, optional=optional)


# The path of an unfit number in a value, such as `.prices[2].amount`, and the problem.
_Unfit: TypeAlias = tuple[str, str]
_Finder: TypeAlias = Callable[[Any], _Unfit | None]


def _finder_of(kind: msgspec.inspect.Type, made: dict[int, _Finder]) -> _Finder | None:
    """Return a function that finds a decimal number in a value that JSON numbers and other languages cannot express.

    With the exponent 999999999, a text of a few bytes would become a whole number of a gigabyte. The function visits
    only the parts of the value that can hold a decimal number.

    Args:
        kind: the type of the value.
        made: the functions so far, by the id of their type.

    Returns:
        None if the type cannot hold a decimal number.
    """
    parts = _parts_of(kind, set(), optional=True)
    if not any(isinstance(each, msgspec.inspect.DecimalType) for each in parts):
        return None
    if id(kind) not in made:
        # A recursive type meets itself before its function exists.
        made[id(kind)] = lambda value: find(value)  # noqa: PLW0108 # `find` is not assigned yet
        find = made[id(kind)] = _new_finder(kind, made)
    return made[id(kind)]


def _new_finder(kind: Any, made: dict[int, _Finder]) -> _Finder:
    info = msgspec.inspect
    if isinstance(kind, info.DecimalType):
        return _unfit_number
    if isinstance(kind, info.UnionType):
        finders = [find for each in kind.types if (find := _finder_of(each, made)) is not None]
        return lambda value: next((bad for find in finders if (bad := find(value))), None)
    # A DictType, or the FrozenDictType of newer versions of msgspec.
    if hasattr(kind, "key_type"):
        in_key, in_value = (_finder_of(each, made) for each in (kind.key_type, kind.value_type))
        return partial(_unfit_entry, in_key, in_value)
    if isinstance(kind, info.TupleType):
        by_index = [_finder_of(each, made) for each in kind.item_types]
        return partial(_unfit_item, by_index)
    if isinstance(kind, info.CollectionType):
        return partial(_unfit_item, repeat(_finder_of(kind.item_type, made)))
    fields = [
        (each, find) for each in kind.fields if (find := _finder_of(each.type, made)) is not None
    ]
    if isinstance(kind, info.TypedDictType):
        return partial(_unfit_field, Mapping, Mapping.get, fields)
    # The class of a generic type is an alias.
    cls = typing.get_origin(kind.cls) or kind.cls
    return partial(_unfit_field, cls, getattr, fields)


def _unfit_number(value: Any) -> _Unfit | None:
    if not isinstance(value, Decimal):
        return None
    if not value.is_finite():
        return "", f"expected a finite number, got {value}"
    if abs(value.adjusted()) > MAX_EXPONENT:
        bounds = f"between -{MAX_EXPONENT} and {MAX_EXPONENT}"
        return "", f"expected an exponent {bounds}, got {value:.3E}"
    return None


def _unfit_entry(in_key: _Finder | None, in_value: _Finder | None, value: Any) -> _Unfit | None:
    if isinstance(value, Mapping):
        for key, each in value.items():
            if in_key is not None and (bad := in_key(key)):
                return bad
            if in_value is not None and (bad := in_value(each)):
                return f".{key}{bad[0]}", bad[1]
    return None


def _unfit_item(finders: Iterable[_Finder | None], value: Any) -> _Unfit | None:
    if isinstance(value, list | tuple | set | frozenset):
        for index, (find, each) in enumerate(zip(finders, value, strict=False)):
            if find is not None and (bad := find(each)):
                return f"[{index}]{bad[0]}", bad[1]
    return None


def _unfit_field(
    cls: type,
    get: Callable[[Any, str, None], Any],
    fields: Iterable[tuple[msgspec.inspect.Field, _Finder]],
    value: Any,
) -> _Unfit | None:
    if isinstance(value, cls):
        for field, find in fields:
            if bad := find(get(value, field.name, None)):
                return f".{field.encode_name}{bad[0]}", bad[1]
    return None


def _unusable(channel: type[Channel], name: str, wanted: Any, problem: str) -> InvalidHandler:
    shown = getattr(wanted, "__name__", wanted)
    return InvalidHandler(
        f"{channel.__name__}.{name} declares its payload as {shown}: {problem}; write an attrs class, a dataclass, a "
        "TypedDict, or Any",
        channel=channel,
        handler=name,
    )


def explain(error: msgspec.ValidationError) -> InvalidPayload:
    """Parse msgspec's message into the path of the field and the problem."""
    text = str(error)
    path = ""
    place = _PLACE.search(text)
    if place is not None:
        text, path = text[: place.start()], place["path"]
    name = None
    if (missing := _MISSING.match(text)) is not None:
        name, text = missing["name"], "is missing"
    elif error.__cause__ is not None and error.__cause__.args:
        # A validator raised. The messages of attrs' own validators begin with the name of the field.
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
    """Return the field whose validator raised, from the validator's arguments: instance, attribute and value."""
    while traceback is not None:
        code, local = traceback.tb_frame.f_code, traceback.tb_frame.f_locals
        for name in code.co_varnames[: code.co_argcount]:
            if isinstance(local.get(name), attrs.Attribute):
                return str(local[name].name)
        traceback = traceback.tb_next
    return None

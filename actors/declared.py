"""Errors that are declared: an exception with typed fields, and a text that shows them. *pure*.

    @declared("child {id!r} is running as {pid!r}; stop it with terminate_child first")
    class ChildRunning(SupervisionError):
        id: object
        pid: Pid

    raise ChildRunning("store", pid)

`declared` makes the constructor and the text, as `attrs.define` makes a constructor. Type checkers know its arguments,
their order and their defaults, also those of inherited fields. Making the classes takes less time than with attrs,
because nothing is compiled. An error can be pickled and copied.
"""

from __future__ import annotations

import copyreg
from collections.abc import Callable, Mapping
from inspect import Parameter, Signature, get_annotations
from string import Formatter
from typing import Any, Literal, TypeVar, cast, dataclass_transform

from actors.text import brief

__all__ = ["declared", "fixed"]

E = TypeVar("E", bound=type[BaseException])
T = TypeVar("T")


class _Text(Formatter):
    """The format of the texts. In addition to `!r`, it has `!b` for an excerpt of a value that a client may choose."""

    def convert_field(self, value: Any, conversion: Any) -> Any:
        return brief(value) if conversion == "b" else super().convert_field(value, conversion)


_format = _Text().vformat


class _Fixed:
    def __init__(self, value: Any) -> None:
        self.value = value


def fixed(value: T, *, init: Literal[False] = False) -> T:
    """Declare a field that has the same value in every error of a class, so the constructor does not take it."""
    return cast("T", _Fixed(value))


@dataclass_transform(eq_default=False, field_specifiers=(fixed,))
def declared(text: str | None = None, *, kw_only: bool = False) -> Callable[[E], E]:
    """Make the constructor and the text of an exception class from its annotated fields.

    Args:
        text: The text, in which `{name}` is a field. None if the class has its own `__str__`, or inherits one.
        kw_only: Take the fields of this class only as keyword arguments.
    """

    def declare(cls: E) -> E:
        kind = Parameter.KEYWORD_ONLY if kw_only else Parameter.POSITIONAL_OR_KEYWORD
        fields: dict[str, Parameter | _Fixed] = dict(getattr(cls, "declared_fields", {}))
        for name in get_annotations(cls):
            default = cls.__dict__.get(name, Parameter.empty)
            is_fixed = isinstance(default, _Fixed)
            fields[name] = default if is_fixed else Parameter(name, kind, default=default)
            if is_fixed:
                setattr(cls, name, default.value)
        made: Any = cls
        made.declared_fields = fields
        made.__init__ = _constructor(cls, fields)
        made.__reduce__ = _reduce
        if text is not None:
            made.__str__ = lambda self: _format(text, (), vars(self))
        return cls

    return declare


def _constructor(cls: Any, fields: Mapping[str, Parameter | _Fixed]) -> Callable[..., None]:
    """Return the `__init__` of a class. The error's `args` are its fields, in the order of their declaration."""
    given = (each for each in fields.values() if isinstance(each, Parameter))
    parameters = sorted(given, key=lambda each: each.kind)
    signature = Signature(parameters)
    defaults = tuple(each.default for each in parameters)
    most = sum(each.kind is not Parameter.KEYWORD_ONLY for each in parameters)
    needed = [number for number, each in enumerate(defaults, 1) if each is Parameter.empty]
    least = max(needed, default=0)
    names = tuple(fields)
    # For each field: its position among the arguments, or None and its fixed value.
    places = [
        (None, each.value) if isinstance(each, _Fixed) else (parameters.index(each), None)
        for each in fields.values()
    ]
    is_in_order = places == [(number, None) for number in range(len(names))]

    def init(self: BaseException, *args: Any, **kwargs: Any) -> None:
        if kwargs or not least <= len(args) <= most:
            # Slow, but it raises what Python raises for wrong arguments.
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            args = tuple(bound.arguments.values())
        else:
            args += defaults[len(args) :]
        if not is_in_order:
            args = tuple([args[at] if at is not None else value for at, value in places])
        self.args = args
        self.__dict__.update(zip(names, args, strict=True))

    # On the function, because a subclass with a constructor of its own would inherit a signature of the class.
    itself = Parameter("self", Parameter.POSITIONAL_ONLY)
    made: Any = init
    made.__signature__ = Signature([itself, *parameters])
    return init


def _reduce(self: BaseException) -> tuple[Any, ...]:
    # Python's own way calls the class with `args`, which have no keywords.
    return copyreg.__newobj__, (type(self), *self.args), vars(self)  # type: ignore[attr-defined]

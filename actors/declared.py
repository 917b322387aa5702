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
from collections.abc import Callable
from inspect import Parameter, Signature, get_annotations
from string import Formatter
from typing import Any, TypeVar, dataclass_transform

from actors.text import brief

__all__ = ["declared"]

E = TypeVar("E", bound=type[BaseException])


class _Text(Formatter):
    """The format of the texts. In addition to `!r`, it has `!b` for an excerpt of a value that a client may choose."""

    def convert_field(self, value: Any, conversion: Any) -> Any:
        return brief(value) if conversion == "b" else super().convert_field(value, conversion)


_format = _Text().vformat


@dataclass_transform(eq_default=False)
def declared(text: str | None = None, *, kw_only: bool = False) -> Callable[[E], E]:
    """Make the constructor and the text of an exception class from its annotated fields.

    Args:
        text: The text, in which `{name}` is a field. None if the class has its own `__str__`, or inherits one.
        kw_only: Take the fields of this class only as keyword arguments.
    """

    def declare(cls: E) -> E:
        kind = Parameter.KEYWORD_ONLY if kw_only else Parameter.POSITIONAL_OR_KEYWORD
        parameters: dict[str, Parameter] = dict(getattr(cls, "_parameters", {}))
        for name in get_annotations(cls):
            default = cls.__dict__.get(name, Parameter.empty)
            parameters[name] = Parameter(name, kind, default=default)
        by_kind = sorted(parameters.values(), key=lambda each: each.kind)
        signature = Signature(by_kind)
        names = tuple(each.name for each in by_kind)
        defaults = tuple(each.default for each in by_kind)
        most = sum(each.kind is not Parameter.KEYWORD_ONLY for each in by_kind)
        needed = [number for number, each in enumerate(defaults, 1) if each is Parameter.empty]
        least = max(needed, default=0)

        def init(self: BaseException, *args: Any, **kwargs: Any) -> None:
            if kwargs or not least <= len(args) <= most:
                # Slow, but it raises what Python raises for wrong arguments.
                bound = signature.bind(*args, **kwargs)
                bound.apply_defaults()
                args = tuple(bound.arguments.values())
            else:
                args += defaults[len(args) :]
            self.args = args
            self.__dict__.update(zip(names, args, strict=True))

        made: dict[str, Any] = {
            "_parameters": parameters,
            "__signature__": signature,
            "__init__": init,
            "__reduce__": _reduce,
        }
        if text is not None:
            made["__str__"] = lambda self: _format(text, (), vars(self))
        for name, value in made.items():
            setattr(cls, name, value)
        return cls

    return declare


def _reduce(self: BaseException) -> tuple[Any, ...]:
    # Python's own way calls the class with `args`, which have no keywords.
    return copyreg.__newobj__, (type(self), *self.args), vars(self)  # type: ignore[attr-defined]

"""An extension of Griffe that gives attrs classes their constructor, so that the reference shows its parameters.

Griffe reads modules without running them. It knows how dataclasses make their constructor. This module does the same
for attrs classes and for structs of msgspec: annotated attributes become parameters. Without this module, the
reference would show no types for these parameters.
"""

from collections.abc import Iterator
from typing import Any

from griffe import (
    Attribute,
    Class,
    Expr,
    ExprCall,
    ExprKeyword,
    Extension,
    Function,
    Module,
    Parameter,
    ParameterKind,
    Parameters,
)

__all__ = ["AttrsClasses"]

_DECORATORS = {"attrs.define", "attrs.frozen", "attrs.mutable"}


class AttrsClasses(Extension):
    """Add `__init__` to the attrs classes of each loaded package."""

    def on_package(self, *, pkg: Module, **_: Any) -> None:
        """Go through all classes of a package."""
        for one in list(_classes(pkg)):
            if _is_record(one) and "__init__" not in one.members:
                one.set_member("__init__", _constructor(one))


def _classes(parent: Module | Class) -> Iterator[Class]:
    for member in list(parent.members.values()):
        if not member.is_alias and isinstance(member, Module | Class):
            if isinstance(member, Class):
                yield member
            yield from _classes(member)


def _is_record(one: Class) -> bool:
    return _decorator(one) is not None or any(
        isinstance(base, Expr) and base.canonical_path == "msgspec.Struct"
        for each in (one, *one.mro())
        for base in each.bases
    )


def _decorator(one: Class) -> Expr | None:
    for decorator in one.decorators:
        value = decorator.value
        if isinstance(value, Expr) and value.canonical_path in _DECORATORS:
            return value
    return None


def _constructor(one: Class) -> Function:
    parameters: dict[str, Parameter] = {}
    for base in [*reversed(one.mro()), one]:
        if _is_record(base):
            options = {**base.keywords, **_keywords(_decorator(base))}
            keywords = str(options.get("kw_only")) == "True"
            parameters.update({each.name: each for each in _parameters(base, keywords)})
    in_order = sorted(parameters.values(), key=lambda each: each.kind is ParameterKind.keyword_only)
    self = Parameter("self", kind=ParameterKind.positional_or_keyword)
    made = Function("__init__", parameters=Parameters(self, *in_order), returns="None")
    made.parent = one
    return made


def _parameters(one: Class, keywords: bool) -> Iterator[Parameter]:
    for member in one.members.values():
        if not isinstance(member, Attribute) or member.annotation is None:
            continue
        if "property" in member.labels or str(member.annotation).startswith("ClassVar"):
            continue
        options = _field(member)
        if options is not None and options.get("init") == "False":
            continue
        yield Parameter(
            member.name.lstrip("_"),
            annotation=member.annotation,
            kind=ParameterKind.keyword_only
            if keywords or (options or {}).get("kw_only") == "True"
            else ParameterKind.positional_or_keyword,
            default=_default(member, options),
        )


def _default(member: Attribute, options: dict[str, str] | None) -> str | Expr | None:
    if options is None:
        return member.value
    if "factory" in options:
        return f"{options['factory']}()"
    return options.get("default")


def _field(member: Attribute) -> dict[str, str] | None:
    """Return the keyword arguments of an attribute's `attrs.field`; None if the attribute has no `attrs.field`."""
    if isinstance(member.value, ExprCall) and member.value.canonical_path == "attrs.field":
        return _keywords(member.value)
    return None


def _keywords(call: Expr | None) -> dict[str, str]:
    if not isinstance(call, ExprCall):
        return {}
    return {each.name: str(each.value) for each in call.arguments if isinstance(each, ExprKeyword)}

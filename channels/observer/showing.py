"""Values of an application as JSON types. Their size is bounded, and the filter of the endpoint hides parameters.

*pure*. A value may contain a secret, so the page shows only parts with known names. It shows an object of an unknown
class as the name of its class, because its `repr` may contain anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from itertools import islice
from typing import Any, Final

from actors.masking import fields_of
from actors.refs import Pid, Ref
from channels.filters import FilterRule, filter_parameters

__all__ = ["shown"]

MAX_DEPTH: Final = 6
MAX_ITEMS: Final = 50
MAX_TEXT: Final = 300


def shown(value: Any, rule: FilterRule) -> Any:
    """Return a value in JSON types, with the filter applied to every name in it.

    Args:
        value: any value.
        rule: the `filter_parameters` of the endpoint.
    """
    return filter_parameters(_plain(value, 0), rule)


def _plain(value: Any, depth: int) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return value if len(value) <= MAX_TEXT else f"{value[:MAX_TEXT]}…"
    if isinstance(value, Pid | Ref):
        return repr(value)
    if isinstance(value, bytes | bytearray):
        return f"<{len(value)} bytes>"
    if depth >= MAX_DEPTH:
        return f"<{type(value).__name__}>"
    if isinstance(value, Mapping):
        return _bounded(
            {_name(key): each for key, each in islice(value.items(), MAX_ITEMS + 1)}, depth
        )
    if isinstance(value, list | tuple | AbstractSet):
        items = [_plain(each, depth + 1) for each in islice(value, MAX_ITEMS)]
        return [*items, f"… {len(value) - MAX_ITEMS} more"] if len(value) > MAX_ITEMS else items
    names = fields_of(type(value))
    if not names:
        return f"<{type(value).__name__}>"
    fields = {name: getattr(value, name, None) for name in names}
    return {"": type(value).__name__, **_bounded(fields, depth)}


def _bounded(fields: dict[str, Any], depth: int) -> dict[str, Any]:
    shown = {name: _plain(each, depth + 1) for name, each in islice(fields.items(), MAX_ITEMS)}
    return {**shown, "…": "more"} if len(fields) > MAX_ITEMS else shown


def _name(key: Any) -> str:
    return key[:MAX_TEXT] if isinstance(key, str) else str(_plain(key, MAX_DEPTH))

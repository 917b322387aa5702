"""Values of an application as JSON types. Their size is bounded, and the filter of the endpoint hides parameters.

*pure*. A value may contain a secret, so the page shows only parts with known names. It shows an object of an unknown
class as the name of its class, because its `repr` may contain anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from actors.masking import bounded_copy
from channels.filters import FilterRule, filter_parameters

__all__ = ["shown"]

MAX_DEPTH: Final = 6
MAX_TEXT: Final = 300


def shown(value: Any, rule: FilterRule) -> Any:
    """Return a value in JSON types, with the filter applied to every name in it.

    Args:
        value: any value.
        rule: the `filter_parameters` of the endpoint.
    """
    copied = _json(bounded_copy(value, MAX_DEPTH, marked=True))
    # `Keep` may hide the names of classes too, so they move only after the filter.
    return _classed(filter_parameters(copied, rule))


def _classed(value: Any) -> Any:
    """Return a value with each record `{"": "Auction", "lot": 5}` as `{"Auction": {"lot": 5}}`."""
    if isinstance(value, list):
        return [_classed(each) for each in value]
    if not isinstance(value, dict):
        return value
    fields = {key: _classed(each) for key, each in value.items() if key != ""}
    return {str(value[""]): fields} if "" in value else fields


def _json(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(_json(bounded_copy(key, 0))): _json(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_json(each) for each in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    text = str(value)
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}…"

"""Query strings to parameters, nested the way Phoenix nests them.

*pure*. `a=1` is `{"a": "1"}`, `a[]=1&a[]=2` is `{"a": ["1", "2"]}`, `a[b]=1` is `{"a": {"b": "1"}}`, and of two values
for one name the last counts. A query that is malformed is an `InvalidQuery`, which is answered with 400.

After Plug.Conn.Query, without lists of maps (`a[][b]=1`), which are read as maps with an empty name.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl

from channels.errors import ChannelsError

__all__ = ["InvalidQuery", "cost_of_query", "parse_query"]

_KEY = re.compile(r"([^\[\]]*)((?:\[[^\[\]]*\])*)")
# A query that nests deeper than this, or has more fields, is not one that a client library makes.
_MAX_DEPTH = 32
_MAX_FIELDS = 1000
_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")


class InvalidQuery(ChannelsError, ValueError):
    """A client sent a query string that cannot be decoded.

    The query itself is not kept: tokens travel in it. Field: `problem`, the same text.
    """

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem


def parse_query(query: str) -> dict[str, Any]:
    """Decode a query string.

        >>> parse_query("vsn=2.0.0&user[name]=ann&tags[]=a&tags[]=b")
        {'vsn': '2.0.0', 'user': {'name': 'ann'}, 'tags': ['a', 'b']}

    Fields beyond the first thousand are left out, as are names nested more than 32 deep.

    Raises:
        InvalidQuery: a percent sign without two hexadecimal digits behind it, or bytes that are not UTF-8.
    """
    if _BAD_PERCENT.search(query):
        raise InvalidQuery(
            "the query has a percent sign without two hexadecimal digits behind it; write %25 for a percent sign"
        )
    if query.count("&") >= _MAX_FIELDS:
        query = "&".join(query.split("&", _MAX_FIELDS)[:_MAX_FIELDS])
    params: dict[str, Any] = {}
    try:
        pairs = parse_qsl(query, keep_blank_values=True, errors="strict")
    except UnicodeDecodeError:
        raise InvalidQuery(
            "the query is not UTF-8 when its percent signs are decoded; encode it as UTF-8"
        ) from None
    for key, value in pairs:
        match = _KEY.fullmatch(key)
        if match is None:
            params[key] = value
            continue
        path = [match[1], *re.findall(r"\[([^\[\]]*)\]", match[2])]
        if len(path) <= _MAX_DEPTH:
            _put(params, path, value)
    return params


def cost_of_query(query: str) -> int:
    """Return the cost of decoding a query string, in units of the work budget. A usual query costs nothing."""
    return len(query) >> 3 if len(query) > 512 else 0


def _put(params: dict[str, Any], path: list[str], value: str) -> None:
    here = params
    while len(path) > 1:
        name, *path = path
        if path == [""]:
            items = here.get(name)
            if isinstance(items, list):
                items.append(value)
            else:
                here[name] = [value]
            return
        inner = here.get(name)
        if not isinstance(inner, dict):
            inner = here[name] = {}
        here = inner
    here[path[0]] = value

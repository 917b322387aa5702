"""Values without secrets: a copy of a value that masks the contents of some names.

*pure*. A name is the key of a mapping or the field of a record. A term masks every name that contains it. Case,
hyphens and underscores do not matter, so `access_token`, `accessToken` and `ACCESS-TOKEN` are one name.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import re
import uuid
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import lru_cache
from itertools import islice
from typing import Any, Final

import attrs
import msgspec

from actors.refs import Address, Pid, Ref

__all__ = [
    "FILTERED",
    "KIND_LENGTH",
    "SECRETS",
    "bounded_copy",
    "fields_of",
    "folded",
    "is_secret",
    "mask",
    "names_secret",
    "shown_kind",
    "tells_secret",
    "without_secrets",
]

FILTERED: Final = "[FILTERED]"

KIND_LENGTH: Final = 40
"""The most characters of the kind of a message in a recording."""

SECRETS: Final = ("password", "token", "secret", "api_key", "authorization")
"""The default terms. The default of Phoenix is only `password`."""

_SEPARATORS = str.maketrans("", "", "_-")
_PLAIN = (
    bool,
    int,
    float,
    str,
    enum.Enum,
    decimal.Decimal,
    uuid.UUID,
    dt.date,
    dt.time,
    dt.timedelta,
    Pid,
    Ref,
)
_DEEP = 8
_MANY = 50
_NAME = re.compile(r"[\w.-]*")
_SEPARATOR = re.compile(r"[._-]")
# A word of a name. Secrets have digits, letters of both cases, or more letters.
_WORD = re.compile(r"[A-Z]?[a-z]{1,20}")
# The number of characters of a kind in which a secret term matters.
_LOOKED_AT = 200
# The length of the longest name whose result `is_secret` keeps.
_SHORT = 80


def fields_of(cls: type, *, shown: bool = False) -> tuple[str, ...]:
    """Return the names of the fields of a record's class, and () for any other class.

    Args:
        cls: the class.
        shown: leave out the fields of attrs classes and dataclasses with `repr=False`, which contain secrets or large
            data.
    """
    if attrs.has(cls):
        return tuple(each.name for each in attrs.fields(cls) if each.repr or not shown)
    if issubclass(cls, msgspec.Struct):
        return cls.__struct_fields__
    if dataclasses.is_dataclass(cls):
        return tuple(each.name for each in dataclasses.fields(cls) if each.repr or not shown)
    return ()


def mask(value: Any, terms: Sequence[str] = SECRETS) -> Any:
    """Return the `bounded_copy` of a value with `[FILTERED]` in place of the masked contents.

        >>> mask({"user": "ann", "newPassword": "x"})
        {'user': 'ann', 'newPassword': '[FILTERED]'}

    Args:
        value: any value.
        terms: parts of names, see `without_secrets`.
    """
    return without_secrets(bounded_copy(value), terms)


def bounded_copy(value: Any, depth: int = _DEEP, *, marked: bool = False) -> Any:
    """Return a value in mappings, lists and plain values, so that a filter can look inside.

    Mappings and records (attrs, msgspec, dataclasses) become mappings. Lists, tuples and sets become lists. The result
    has at most 50 items of each container. Of bytes it shows only the length, of an address in a registry the key, and
    of any other object only the class.

    Args:
        value: any value.
        depth: the number of nested levels to show.
        marked: add the class of each record under the key `""`, and a note to each container that was cut.
    """
    if value is None or isinstance(value, _PLAIN):
        return value
    if isinstance(value, bytes | bytearray):
        return f"<{len(value)} bytes>"
    if isinstance(value, type):
        return value.__qualname__
    if depth <= 0:
        return "..."
    if isinstance(value, Address) and hasattr(value, "key"):
        return f"via({bounded_copy(value.key, depth - 1)})"
    if isinstance(value, list | tuple | AbstractSet):
        items = [bounded_copy(each, depth - 1, marked=marked) for each in islice(value, _MANY)]
        is_cut = marked and len(value) > _MANY
        return [*items, f"… {len(value) - _MANY} more"] if is_cut else items
    fields = value
    if not isinstance(value, Mapping):
        names = fields_of(type(value))
        if not names:
            return f"<{type(value).__qualname__}>"
        fields = {name: getattr(value, name, None) for name in names}
    found = {"": type(value).__name__} if marked and fields is not value else {}
    for key, each in islice(fields.items(), _MANY):
        found[key] = bounded_copy(each, depth - 1, marked=marked)
    if marked and len(fields) > _MANY:
        found["…"] = f"{len(fields) - _MANY} more"
    return found


def without_secrets(value: Any, terms: Sequence[str] = SECRETS) -> Any:
    """Return a value with `[FILTERED]` in place of the masked contents of its mappings, lists and texts.

    Args:
        value: any value. Other objects stay as they are.
        terms: parts of names. A term also masks a text that contains it together with `=` or `:`, such as the body of a
            form, or JSON.
    """
    return _masked(value, folded(terms))


def folded(terms: Sequence[str]) -> tuple[str, ...]:
    """Return terms in the form that `names_secret` and `tells_secret` take."""
    return tuple(map(_folded, terms))


def names_secret(name: object, terms: tuple[str, ...]) -> bool:
    """Return True if a name contains one of the folded terms."""
    if not isinstance(name, str):
        return False
    text = _folded(name)
    return any(term in text for term in terms)


def tells_secret(text: str, terms: tuple[str, ...]) -> bool:
    """Return True if a text may contain a secret with its name: the body of a form, JSON or a header."""
    return ("=" in text or ":" in text) and names_secret(text, terms)


def _masked(value: Any, terms: tuple[str, ...]) -> Any:
    if isinstance(value, Mapping):
        return {
            key: FILTERED if names_secret(key, terms) else _masked(each, terms)
            for key, each in value.items()
        }
    if isinstance(value, list):
        return [_masked(each, terms) for each in value]
    return FILTERED if isinstance(value, str) and tells_secret(value, terms) else value


def is_secret(name: str) -> bool:
    """Return True if a name contains one of the default terms, such as `password`."""
    return _is_short_secret(name) if len(name) <= _SHORT else names_secret(name, _FOLDED)


@lru_cache(maxsize=4096)
def _shown_short_kind(kind: str) -> str:
    return FILTERED if _is_short_secret(kind) and not _is_plain_name(kind) else kind


def shown_kind(kind: str) -> str:
    """Return the kind of a message without secrets, at a bounded length.

        >>> shown_kind("reset_password"), shown_kind("password=hunter2")
        ('reset_password', '[FILTERED]')

    The kind of a message that is a text is this text, which may be anything. If it contains one of the default terms
    and is more than a name, it may contain the secret too. A name may also contain the secret if the term, a separator
    and something other than a word follow each other in it, such as `token.eyJhbGciOi`.
    """
    if len(kind) <= KIND_LENGTH:
        return _shown_short_kind(kind)
    # Look only at the beginning, because a client may send a text of any length.
    beginning = kind[:_LOOKED_AT]
    if names_secret(beginning, _FOLDED) and (beginning != kind or not _is_plain_name(kind)):
        return FILTERED
    return kind[:KIND_LENGTH]


def _is_plain_name(kind: str) -> bool:
    """Return True for a text that is one name, and in which no value follows a secret term."""
    if not _NAME.fullmatch(kind):
        return False
    term = _TERM.search(kind)
    if term is None:
        return True
    _, *following = _SEPARATOR.split(kind[term.end() :])
    return all(not each or _WORD.fullmatch(each) for each in following)


# Clients choose the keys of payloads, so the cache must not keep long names.
@lru_cache(maxsize=4096)
def _is_short_secret(name: str) -> bool:
    return names_secret(name, _FOLDED)


def _folded(text: str) -> str:
    return text.lower().translate(_SEPARATORS)


_FOLDED = folded(SECRETS)
# The default terms, with separators between any two letters.
_TERM = re.compile("|".join("[_-]*".join(map(re.escape, term)) for term in _FOLDED), re.IGNORECASE)

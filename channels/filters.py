"""The filter that masks secret parameters of clients in logs.

*pure*. Parameters of clients contain passwords and tokens, which must not appear in logs. `actors.masking` decides
which names and texts are secret, for logs and for recordings. The source of this filter is `filter_parameters` of
Phoenix.Logger. In contrast to it, this one ignores case, hyphens and underscores in names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import msgspec

from actors.errors import InvalidOption
from actors.masking import FILTERED, SECRETS, without_secrets
from channels.messages import Binary

__all__ = ["FilterRule", "Keep", "check_rule", "filter_parameters"]


class Keep(msgspec.Struct, frozen=True):
    """A rule that shows only the parameters with these names, and masks all others.

        Endpoint(..., filter_parameters=Keep(("id", "page")))

    Args:
        names: the names. Unlike terms, they must match exactly, with the same case.
    """

    names: Sequence[str]


FilterRule: TypeAlias = Sequence[str] | Keep
"""A list of terms, or a `Keep`. A term masks every parameter whose name contains it."""


def filter_parameters(value: Any, rule: FilterRule = SECRETS) -> Any:
    """Return the parameters with `[FILTERED]` in place of the masked values.

        >>> filter_parameters({"user": {"name": "ann", "newPassword": "x"}, "x-api-key": "y"})
        {'user': {'name': 'ann', 'newPassword': '[FILTERED]'}, 'x-api-key': '[FILTERED]'}

    Args:
        value: any JSON value. The filter descends into maps and lists.
        rule: terms or a `Keep`. A term also masks a text that contains it together with `=` or `:`, such as the
            body of a form, or JSON.
    """
    if isinstance(rule, Keep):
        return _keep(value, frozenset(rule.names))
    return without_secrets(value, rule)


def check_rule(owner: str, rule: object) -> None:
    """Raise InvalidOption unless `rule` is a filter rule."""
    names = rule.names if isinstance(rule, Keep) else rule
    if (
        isinstance(names, str)
        or not isinstance(names, Sequence)
        or not all(isinstance(name, str) for name in names)
    ):
        raise InvalidOption(
            owner,
            "filter_parameters",
            rule,
            'a list of terms such as ["password"], or Keep(["id"])',
        )


def _keep(value: Any, names: frozenset[str]) -> Any:
    if isinstance(value, Mapping):
        return {key: each if key in names else _keep(each, names) for key, each in value.items()}
    if isinstance(value, list):
        return [_keep(each, names) for each in value]
    return value if isinstance(value, Binary) else FILTERED

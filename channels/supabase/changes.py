"""Changes of tables, for the `postgres_changes` of supabase's clients.

    changes = Changes(lambda change, claims: change.table == "messages", name="chat")

    class RoomChannel(SupabaseChannel):
        changes = changes

    changes.publish(endpoint.pubsub, Change("INSERT", "messages", record={"id": 1, "body": "hello"}))

The application finds the changes itself, with triggers of its database or where it writes. The tables may be in any
database.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from operator import eq, ge, gt, le, lt, ne
from typing import Annotated, Any, Literal, TypeAlias

import msgspec

from actors.errors import InvalidOption
from channels.pubsub.pubsub import PubSub
from channels.supabase.access import Claims
from channels.topics import INTERNAL

__all__ = ["Change", "Changes", "MaySelect", "Subscription"]

# The most values of a filter with `in`, as at supabase, and the most characters of a filter. Each change is compared
# with all filters of all clients.
_MOST_VALUES = 100
_MOST_TEXT = 4096


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A changed row.

    Args:
        type: the kind of change.
        table: the table.
        schema: the schema of the table.
        record: the row after an INSERT or UPDATE.
        old_record: the row before an UPDATE or DELETE, or only its primary key.
        columns: the Postgres type of each column, by which the JavaScript client converts text. A column without a
            type counts as `text`, which the client leaves as it is.
        commit_timestamp: the time of the change, such as `2026-01-31T12:00:00Z`.
    """

    type: Literal["INSERT", "UPDATE", "DELETE"]
    table: str
    schema: str = "public"
    record: dict[str, Any] | None = None
    old_record: dict[str, Any] | None = None
    columns: dict[str, str] = {}
    commit_timestamp: str = ""

    def row(self) -> dict[str, Any]:
        """Return the row after the change; for a DELETE, the row before it."""
        return (self.old_record if self.type == "DELETE" else self.record) or {}

    def data(self) -> dict[str, Any]:
        """Return the change in the form for clients."""
        record, old_record = self.record or {}, self.old_record or {}
        names = {**old_record, **record}
        columns = [{"name": name, "type": self.columns.get(name, "text")} for name in names]
        return {
            "schema": self.schema,
            "table": self.table,
            "commit_timestamp": self.commit_timestamp,
            "type": self.type,
            "columns": columns,
            "record": record,
            "old_record": old_record,
            "errors": None,
        }


MaySelect: TypeAlias = Callable[[Change, Claims], bool]
"""A function that returns True if a client with these claims may see a changed row. Only True is a yes."""


class Changes:
    """The source of the changes of an application.

    Args:
        may_select: decides which client may see a changed row, as a row-level policy does. It runs for each change and
            each client that asks for changes of its table, so it must be fast. The client also gets `old_record`.
        name: the same on every node. Sources with the same name share their changes.

    Raises:
        InvalidOption: `may_select` is not a plain function.
    """

    def __init__(self, may_select: MaySelect, *, name: str) -> None:
        if not callable(may_select) or inspect.iscoroutinefunction(may_select):
            expected = "a plain function, without async, that returns True or False"
            raise InvalidOption("Changes", "may_select", may_select, expected)
        self.may_select = may_select
        self.topic = f"{INTERNAL}supabase:changes:{name}"

    def publish(self, pubsub: PubSub, change: Change) -> None:
        """Send a change to the clients of all nodes that ask for it. Any thread can call this.

        Args:
            pubsub: the PubSub of the endpoint, `endpoint.pubsub`.
            change: the change. JSON must be able to express its rows.
        """
        pubsub.broadcast(self.topic, [self.topic, msgspec.to_builtins(change)])


class Subscription(msgspec.Struct, frozen=True, omit_defaults=True):
    """One entry of `postgres_changes` in a join."""

    event: Literal["*", "INSERT", "UPDATE", "DELETE"]
    schema: str | None = None
    table: str | None = None
    filter: Annotated[str, msgspec.Meta(max_length=_MOST_TEXT)] | None = None

    def wants(self, change: Change) -> bool:
        """Return True if the change is one of those that the client asks for."""
        return (
            self.event in ("*", change.type)
            and (self.schema or "public") in ("*", change.schema)
            and self.table in (None, "*", change.table)
            and (not self.filter or _passes(self.filter, change.row()))
        )

    def problem(self) -> str | None:
        """Return the mistake in the filter; None if there is none."""
        column, _, condition = (self.filter or "").partition("=")
        operator, _, value = condition.partition(".")
        # A comma joins several filters, which only newer versions of supabase have.
        most = _MOST_VALUES if operator == "in" else 1
        if not self.filter or (column and operator in _OPERATORS and value.count(",") < most):
            return None
        return (
            f"the filter {self.filter!r} is not column=operator.value with {', '.join(_OPERATORS)}, "
            f"or has more than {_MOST_VALUES} values"
        )


_OPERATORS: dict[str, Callable[[float, float], bool]] = dict(
    eq=eq, neq=ne, lt=lt, lte=le, gt=gt, gte=ge, **{"in": eq}
)


def _passes(text: str, row: Mapping[str, Any]) -> bool:
    column, _, condition = text.partition("=")
    operator, _, value = condition.partition(".")
    found = row.get(column)
    if found is None:
        # As in SQL, a comparison with null is not true.
        return False
    values = value.strip("()").split(",") if operator == "in" else [value]
    return any(_OPERATORS[operator](_order(found, each), 0) for each in values)


def _order(found: Any, wanted: str) -> float:
    """Compare a value with the text in a filter: as numbers if the value is one, else as text.

    The result is below, equal to or above 0. It is NaN if the text is not a number.
    """
    if isinstance(found, int | float) and not isinstance(found, bool):
        try:
            return found - float(wanted)
        except (ValueError, OverflowError):
            return math.nan
    text = str(found).lower() if isinstance(found, bool) else str(found)
    return (text > wanted) - (text < wanted)

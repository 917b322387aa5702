"""Changes of tables, for the `postgres_changes` of supabase's clients.

    changes = Changes(lambda change, claims: change.table == "messages")

    class RoomChannel(SupabaseChannel):
        changes = changes

    changes.publish(endpoint.pubsub, Change("INSERT", "messages", record={"id": 1, "body": "hello"}))

The application finds the changes itself, with triggers of its database or where it writes. The tables may be in any
database.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, TypeAlias

import msgspec

from channels.pubsub.pubsub import PubSub
from channels.supabase.access import Claims
from channels.topics import INTERNAL

__all__ = ["CHANGES", "Change", "Changes", "MaySelect", "Subscription"]

CHANGES: Final = f"{INTERNAL}supabase:changes"
"""The topic that carries changes between nodes."""

# The most values of a filter with `in`, as at supabase.
_MOST_VALUES = 100


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
            each client that asks for changes of its table, so it must be fast.
    """

    def __init__(self, may_select: MaySelect) -> None:
        self.may_select = may_select

    def publish(self, pubsub: PubSub, change: Change) -> None:
        """Send a change to the clients of all nodes that ask for it. Any thread can call this.

        Args:
            pubsub: the PubSub of the endpoint, `endpoint.pubsub`.
            change: the change. JSON must be able to express its rows.
        """
        pubsub.broadcast(CHANGES, [CHANGES, msgspec.to_builtins(change)])


class Subscription(msgspec.Struct, frozen=True, omit_defaults=True):
    """One entry of `postgres_changes` in a join."""

    event: Literal["*", "INSERT", "UPDATE", "DELETE"]
    schema: str | None = None
    table: str | None = None
    filter: str | None = None

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
        is_one = operator == "in" or "," not in value
        if not self.filter or (column and operator in _OPERATORS and is_one):
            return None
        return (
            f"the filter {self.filter!r} is not column=operator.value with {', '.join(_OPERATORS)}"
        )


_OPERATORS: dict[str, Callable[[float], bool]] = {
    "eq": lambda order: order == 0,
    "neq": lambda order: order != 0,
    "lt": lambda order: order < 0,
    "lte": lambda order: order <= 0,
    "gt": lambda order: order > 0,
    "gte": lambda order: order >= 0,
    "in": lambda order: order == 0,
}


def _passes(text: str, row: Mapping[str, Any]) -> bool:
    column, _, condition = text.partition("=")
    operator, _, value = condition.partition(".")
    found = row.get(column)
    if found is None:
        # As in SQL, a comparison with null is not true.
        return False
    values = value.strip("()").split(",")[:_MOST_VALUES] if operator == "in" else [value]
    return any(_OPERATORS[operator](_order(found, each)) for each in values)


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

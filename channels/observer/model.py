"""The processes of a runtime as the rows of a small tree, with groups, search, and the changes of the rows.

*pure*. The watcher fills a `Model`. Each page has a `View` of the model. A page shows at most `MAX_ROWS` rows, however
many processes there are, because many siblings of one sort become one row, a *group*.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from heapq import nlargest
from itertools import islice
from typing import Any, Final, TypeAlias

from attrs import define, field, frozen

__all__ = ["MAX_ROWS", "Absent", "Changes", "Entry", "Model", "Row", "View", "changes"]

MAX_ROWS: Final = 400
"""The largest number of rows of one page."""
CROWD: Final = 12
"""The number of siblings of one sort above which they become a group."""
PAGE: Final = 40
"""The largest number of members that an open group shows.

The group first shows the members with the longest mailboxes, then the oldest members.
"""
INTERNAL: Final = "Ashtree's own processes"
"""The title of the group of an endpoint's own processes. It follows the processes of the application."""
MAX_FOUND: Final = 100
"""The largest number of processes that a search shows."""
MAX_KEYS: Final = 1000
"""The largest number of rows that a page may have opened or folded."""

Row: TypeAlias = dict[str, Any]
"""One row, in JSON types. `key`, `parent` and `order` give its place. `type` is process, group, absent or more."""

_WORD = re.compile(r"[A-Za-z_][\w.]*")


@define(eq=False, slots=True)
class Entry:
    """One living process of the model.

    Attributes:
        number: the number of its pid.
        parent: the entry of its nearest living ancestor; None at the top.
        ancestors: the numbers of its ancestors, the nearest first.
        label: its name in messages.
        kind: the strategy of a supervisor, or "dynamic".
        born: the time of its start, in seconds since the epoch.
        id: the id of its child spec.
        restarts: the number of its restarts.
        mailbox: the number of waiting messages.
        rank: its position among the children of its supervisor; None below other processes.
        absent: children of this supervisor that do not run.
        is_internal: True for a process of the endpoint itself, such as its listener.
        sorts: its children, grouped by their `sort`.
    """

    number: int
    ancestors: tuple[int, ...]
    label: str
    born: float
    kind: str | None = None
    id: str | None = None
    restarts: int = 0
    mailbox: int = 0
    rank: int | None = None
    parent: Entry | None = None
    absent: tuple[Absent, ...] = ()
    is_internal: bool = False
    sorts: dict[str, dict[int, Entry]] = field(factory=dict, repr=False)

    @property
    def sort(self) -> str:
        """The first word of the label, or `INTERNAL`. Siblings with the same `sort` may become one group."""
        if self.is_internal:
            return INTERNAL
        found = _WORD.search(self.label)
        return found[0] if found else "process"

    @property
    def title(self) -> str:
        """The name. A member of a pool, whose name is a number, gets the name of the pool too."""
        if self.parent is not None and self.name.isdigit():
            return f"{self.parent.title} {self.name}"
        return self.name

    @property
    def name(self) -> str:
        """The id, or the label if there is no id."""
        return self.label if self.id is None else self.id

    @property
    def key(self) -> str:
        """The key of the entry's row."""
        return f"p{self.number}"


@frozen
class Absent:
    """A child that does not run. `status` is "restarting" or "stopped"."""

    id: str
    status: str
    restarts: int
    rank: int


@define(kw_only=True)
class View:
    """The part of the model that one page shows.

    Attributes:
        open: the keys of open groups.
        folded: the keys of processes whose children are hidden.
        search: the text to look for; empty shows the tree.
    """

    open: set[str] = field(factory=set)
    folded: set[str] = field(factory=set)
    search: str = ""

    def update(self, wanted: Mapping[str, Any]) -> None:
        """Apply the request of a page, but ignore its malformed parts."""
        for name in ("open", "folded"):
            keys = wanted.get(name)
            if isinstance(keys, list):
                texts = (key for key in keys if isinstance(key, str) and len(key) < 200)
                setattr(self, name, set(islice(texts, MAX_KEYS)))
        search = wanted.get("search")
        if isinstance(search, str):
            self.search = search[:100].strip().lower()


class Model:
    """All living processes, as a tree with groups."""

    def __init__(self) -> None:
        self.entries: dict[int, Entry] = {}
        self._top: dict[str, dict[int, Entry]] = {}
        self._waiting: list[Entry] = []

    def __len__(self) -> int:
        return len(self.entries)

    def add(self, entry: Entry) -> None:
        """Add a process. The model must already contain its living ancestors."""
        self.entries[entry.number] = entry
        self._attach(entry)

    def remove(self, number: int) -> Entry | None:
        """Remove a process that has ended. Its children move to its nearest living ancestor."""
        entry = self.entries.pop(number, None)
        if entry is None:
            return None
        # Until the next `set_mailboxes`, the entry is still in the list of those with messages.
        entry.mailbox = 0
        self._detach(entry)
        for members in list(entry.sorts.values()):
            for child in list(members.values()):
                self._attach(child)
        return entry

    def describe(self, entry: Entry, label: str, kind: str | None) -> None:
        """Update the label and the kind of a process."""
        if label != entry.label:
            self._detach(entry)
            entry.label = label
            self._attach(entry)
        entry.kind = kind

    def set_internal(self, entry: Entry, *, is_internal: bool) -> None:
        """Move a process into the group of the endpoint's own processes, or out of it."""
        if is_internal != entry.is_internal:
            self._detach(entry)
            entry.is_internal = is_internal
            self._attach(entry)

    def set_mailboxes(self, lengths: Mapping[int, int]) -> None:
        """Set the lengths of all mailboxes that are not empty. The mailboxes of other processes become empty."""
        for entry in self._waiting:
            entry.mailbox = 0
        self._waiting = []
        for number, length in lengths.items():
            found = self.entries.get(number)
            if found is not None:
                found.mailbox = length
                self._waiting.append(found)

    @property
    def waiting(self) -> list[Entry]:
        """The processes with messages in their mailboxes."""
        return self._waiting

    def title_of(self, number: int) -> str:
        """Return the title of a process, or "process" if the model does not have it."""
        entry = self.entries.get(number)
        return "process" if entry is None else entry.title

    def about(self, number: int) -> dict[str, str]:
        """Return the path and the title of a process; an empty dict if the model does not have it."""
        entry = self.entries.get(number)
        return {} if entry is None else {"path": self.path_of(entry), "title": entry.title}

    def path_of(self, entry: Entry) -> str:
        """Return the names on the path from the top to a process, joined by slashes."""
        above = "" if entry.parent is None else self.path_of(entry.parent)
        return f"{above}/{entry.name}"

    def _attach(self, entry: Entry) -> None:
        living = (self.entries.get(number) for number in entry.ancestors)
        entry.parent = next((above for above in living if above is not None), None)
        sorts = self._top if entry.parent is None else entry.parent.sorts
        sorts.setdefault(entry.sort, {})[entry.number] = entry

    def _detach(self, entry: Entry) -> None:
        sorts = self._top if entry.parent is None else entry.parent.sorts
        members = sorts.get(entry.sort, {})
        members.pop(entry.number, None)
        if not members:
            sorts.pop(entry.sort, None)

    # Rows

    def rows(self, view: View, status: Callable[[int], str]) -> dict[str, Row]:
        """Return the rows of a page by key, from the top.

        Args:
            view: the view that the page asked for.
            status: returns the status of a process by its number.
        """
        rows: dict[str, Row] = {}
        found = self._rows_found(view.search) if view.search else self._rows_below(None, view)
        for row in found:
            if len(rows) >= MAX_ROWS:
                more: Row = {"key": "more", "parent": None, "order": 10**12, "type": "more"}
                rows["more"] = {**more, "title": "further rows; search, or fold a part of the tree"}
                break
            if row["type"] == "process":
                row["status"] = status(row["pid"])
            rows[row["key"]] = row
        return rows

    def _rows_below(self, above: Entry | None, view: View) -> Iterator[Row]:
        sorts = self._top if above is None else above.sorts
        parent = None if above is None else above.key
        for child in () if above is None else above.absent:
            yield _absent(child, parent)
        for sort, members in sorts.items():
            if len(members) <= CROWD and sort != INTERNAL:
                for entry in members.values():
                    yield from self._rows_of(entry, parent, view)
                continue
            key = f"g{0 if above is None else above.number}:{sort}"
            yield _group(key, parent, sort, members, self._waiting)
            if key in view.open:
                yield from self._members(key, members, view)

    def _members(self, key: str, members: dict[int, Entry], view: View) -> Iterator[Row]:
        full = [each for each in self._waiting if members.get(each.number) is each]
        shown = {each.number: each for each in nlargest(PAGE // 2, full, _mailbox)}
        for entry in members.values():
            if len(shown) >= PAGE:
                break
            shown[entry.number] = entry
        for number in sorted(shown):
            yield from self._rows_of(shown[number], key, view)
        if len(members) > len(shown):
            yield {
                "key": f"{key}:more",
                "parent": key,
                "order": 10**12,
                "type": "more",
                "title": f"{len(members) - len(shown):,} more; search for one",
            }

    def _rows_of(self, entry: Entry, parent: str | None, view: View) -> Iterator[Row]:
        row = _process(entry, parent)
        yield row
        if entry.key not in view.folded:
            yield from self._rows_below(entry, view)

    def _rows_found(self, search: str) -> Iterator[Row]:
        """Yield the rows of processes that match a search, each after the rows of its ancestors."""
        matches = islice((each for each in self.entries.values() if _fits(each, search)), MAX_FOUND)
        shown: set[int] = set()
        for entry in matches:
            line: list[Entry] = []
            above: Entry | None = entry
            while above is not None and above.number not in shown:
                line.append(above)
                shown.add(above.number)
                above = above.parent
            for each in reversed(line):
                row = _process(each, None if each.parent is None else each.parent.key)
                row["found"] = each is entry
                yield row


def _mailbox(entry: Entry) -> int:
    return entry.mailbox


def _fits(entry: Entry, search: str) -> bool:
    return (
        search in entry.label.lower()
        or (entry.id is not None and search in entry.id.lower())
        or search in (f"<pid {entry.number}>", str(entry.number))
    )


def _process(entry: Entry, parent: str | None) -> Row:
    return {
        "key": entry.key,
        "parent": parent,
        "order": entry.number if entry.rank is None else entry.rank,
        "type": "process",
        "pid": entry.number,
        "title": entry.title,
        "kind": entry.kind,
        "mailbox": entry.mailbox,
        "restarts": entry.restarts,
        "born": round(entry.born, 3),
        "children": any(entry.sorts.values()) or bool(entry.absent),
    }


def _group(
    key: str, parent: str | None, sort: str, members: dict[int, Entry], waiting: list[Entry]
) -> Row:
    lengths = [each.mailbox for each in waiting if _is_within(each, members)]
    return {
        "key": key,
        "parent": parent,
        "order": 10**11 if sort == INTERNAL else next(iter(members)),
        "type": "group",
        "title": sort,
        "count": len(members),
        "mailbox": sum(lengths),
        "children": True,
    }


def _is_within(entry: Entry | None, members: dict[int, Entry]) -> bool:
    """Return True if a process or one of its ancestors is a member."""
    while entry is not None and members.get(entry.number) is not entry:
        entry = entry.parent
    return entry is not None


def _absent(child: Absent, parent: str | None) -> Row:
    return {
        "key": f"a{parent}:{child.id}",
        "parent": parent,
        "order": child.rank,
        "type": "absent",
        "title": child.id,
        "status": child.status,
        "restarts": child.restarts,
        "children": False,
    }


@frozen(kw_only=True)
class Changes:
    """The difference between two sets of rows: the rows to set, and the keys to remove."""

    set: list[Row]
    gone: list[str]

    def __bool__(self) -> bool:
        return bool(self.set or self.gone)


def changes(before: Mapping[str, Row], after: Mapping[str, Row]) -> Changes:
    """Return the changes that turn the rows `before` into the rows `after`."""
    return Changes(
        set=[row for key, row in after.items() if before.get(key) != row],
        gone=[key for key in before if key not in after],
    )

"""The processes of another node on a page.

*pure*. About once a second, the channel of a page sends a request to the observer of the other node. The request names
the part of the tree that the page shows. The other observer answers with the rows that have changed since its last
answer. A message may be lost. So each answer has a number, and each request names the last answer that arrived. If an
answer was lost, the other observer sends all rows again.

`Access.seal` signs each request, so only an observer with the same secret can make one.

The processes of a node have the same numbers again after a restart. So each answer has the incarnation of its node, and
each request names the incarnation of the rows on the page. A node refuses an action for another incarnation.

| field of a request | meaning |
|---|---|
| `from`, `to` | the names of the nodes |
| `page` | the number of the page's process |
| `view`, `last` | the wanted part of the tree, and the number of the last answer |
| `pid` | the process whose facts the page shows, or None |
| `incarnation` | the incarnation of the node that the rows on the page belong to; "" before the first answer |
| `action`, `job` | an action on the process, and the number of the action on this page |

| field of an answer | meaning |
|---|---|
| `from`, `page` | as above |
| `incarnation` | the incarnation of the node that answers |
| `number` | the number of this answer |
| `follows` | the number of the answer to which the changes apply; 0 if this answer has all rows |
| `set`, `gone`, `now` | the rows, as in a `tick` of the page |
| `entities` | the tables of entities, as in a `tick` |
| `process`, `about` | the facts about the process, and its path, title and last crash |
| `job`, `problem` | the number of an action, and its problem, or None |
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from attrs import define, field

from channels.observer.memory import Record
from channels.observer.model import Row, changes

__all__ = ["ASK_SECONDS", "Elsewhere", "Served"]

ASK_SECONDS: Final = 1.0
"""Seconds between two requests of a page to the node that it shows."""

MAX_SERVED: Final = 32
"""The number of pages on other nodes whose rows an observer remembers. A page that it has forgotten gets all rows."""


@define
class Elsewhere:
    """The other node whose processes a page shows.

    Attributes:
        node: the name of the node.
        last: the number of its last answer.
        asked: the time of the last request.
        heard: the time of the last answer; None before the first.
        chosen: the time at which the page chose the node.
        pid: the process whose facts the page shows.
        jobs: the number of actions so far.
        incarnation: the incarnation of the node that sent the rows on the page; "" before the first answer.
    """

    node: str
    chosen: float
    last: int = 0
    asked: float = float("-inf")
    heard: float | None = None
    pid: int | None = None
    jobs: int = 0
    incarnation: str = ""

    def is_due(self, now: float) -> bool:
        """Return True if it is time for the next request."""
        return now - self.asked >= ASK_SECONDS

    def hear(self, answer: Mapping[str, Any], now: float) -> Record | None:
        """Return the tick for the page from an answer. Return None if the answer changes rows that the page lacks.

        If the node has restarted, forget the process that the page shows, because its number may belong to another one.
        """
        self.heard = now
        follows, number = answer.get("follows"), answer.get("number")
        incarnation = str(answer.get("incarnation", ""))
        if incarnation != self.incarnation:
            # The page keeps the old incarnation as long as it has the old rows.
            self.last = 0
        if not isinstance(number, int) or follows not in {0, self.last}:
            return None
        if incarnation != self.incarnation:
            self.incarnation, self.pid = incarnation, None
        self.last = number
        tick = {name: answer[name] for name in ("set", "gone", "now", "entities") if name in answer}
        return {**tick, "all": True} if follows == 0 else tick

    def state(self, now: float) -> Record:
        """Return the name and the incarnation of the node, and the seconds since its last answer, for the page."""
        since = self.chosen if self.heard is None else self.heard
        silent = round(max(0.0, now - since), 1)
        return {
            "node": self.node,
            "incarnation": self.incarnation,
            "silent": silent,
            "answered": self.heard is not None,
        }


@define
class Served:
    """The rows that an observer has sent to pages on other nodes."""

    _pages: dict[tuple[str, int], tuple[int, dict[str, Row]]] = field(factory=dict)
    _numbers: int = 0

    def answer(self, node: str, page: int, last: object, rows: dict[str, Row]) -> Record:
        """Return the fields of the next answer to a page.

        Args:
            node: the node of the page.
            page: the number of the page's process.
            last: the number of the last answer that the page got.
            rows: the present rows.
        """
        number, before = self._pages.pop((node, page), (0, {}))
        if number == 0 or last != number:
            number, before = 0, {}
        self._numbers += 1
        self._pages[node, page] = self._numbers, rows
        if len(self._pages) > MAX_SERVED:
            del self._pages[next(iter(self._pages))]
        difference = changes(before, rows)
        return {
            "number": self._numbers,
            "follows": number,
            "set": difference.set,
            "gone": difference.gone,
        }

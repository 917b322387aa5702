"""The settings that the processes of an observer share, and the messages between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import frozen

from actors.refs import Pid
from actors.runtime import Runtime
from channels.filters import FilterRule
from channels.observer.access import Access
from channels.observer.chronicle import Chronicle
from channels.observer.memory import Memory, Record
from channels.observer.model import Model

__all__ = [
    "Answered",
    "Detail",
    "Drawn",
    "Look",
    "News",
    "ObserverSettings",
    "TimelinePart",
    "Wanted",
]


@frozen(kw_only=True, eq=False)
class ObserverSettings:
    """The settings of one observer. `Observer` documents them."""

    endpoint: Any
    access: Access
    memory: Memory
    chronicle: Chronicle
    control: bool
    payloads: bool
    interval: float
    max_pages: int
    topic: str
    runtime: Runtime

    @property
    def filter(self) -> FilterRule:
        """The rule of the endpoint for parameters that the page must hide."""
        rule: FilterRule = self.endpoint.filter_parameters
        return rule


@frozen
class Wanted:
    """A request from the channel of a page.

    The watcher answers with a problem, or None. It then sends `News` to the channel until the channel ends.
    """

    page: Pid


@frozen(eq=False)
class News:
    """The state of the runtime at one moment.

    All pages get the same model object. The watcher changes it before the next news.
    """

    model: Model
    point: Record
    pids: Mapping[int, Pid]
    nodes: Sequence[Record]
    entities: Sequence[Record]


@frozen(eq=False)
class Detail:
    """The details of one process, for a page."""

    number: int
    fields: Record


@frozen(eq=False)
class Answered:
    """The answer of another node, for a page. `channels.observer.elsewhere` lists the fields."""

    fields: Record


@frozen(eq=False)
class TimelinePart:
    """The next part of the timeline, for a page."""

    fields: Record


@frozen
class Drawn:
    """A request of a page for the next `TimelinePart`. The page has drawn the last part."""


@frozen
class Look:
    """A message of a process to itself. It tells the process to look again."""

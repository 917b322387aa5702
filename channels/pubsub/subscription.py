"""One process's interest in one topic."""

from __future__ import annotations

from typing import Any, final

from actors.refs import Pid

__all__ = ["Subscription"]


@final
class Subscription:
    """An entry in the table of a topic. Compared by identity: subscribing twice makes two.

    Attributes:
        pid: who gets the messages.
        topic: of which topic.
        metadata: for the dispatcher; None for plain messages.
    """

    __slots__ = ("metadata", "pid", "topic")

    def __init__(self, pid: Pid, topic: str, metadata: Any) -> None:
        self.pid = pid
        self.topic = topic
        self.metadata = metadata

    def __repr__(self) -> str:
        return f"<subscription of {self.pid!r} to {self.topic!r}>"

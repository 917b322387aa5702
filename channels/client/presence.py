"""The present users of a topic, as a client computes them from the server's messages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, overload

from channels.client.channel import ClientChannel
from channels.client.feed import Feed
from channels.client.presence_fold import (
    Changes,
    PresenceFold,
    PresenceJoin,
    PresenceLeave,
    State,
)

__all__ = ["PresenceView"]

T = TypeVar("T")

_MAX_CHANGES = 1000


class PresenceView:
    """The present keys of a channel's topic, kept up to date as the class `Presence` of phoenix.js does.

        channel = socket.channel("room:lobby")
        presence = PresenceView(channel)
        async with channel:
            async for change in presence.changes():
                match change:
                    case PresenceJoin(key=key, current=None):
                        print(key, "has come")
                    case PresenceLeave(key=key, current={"metas": []}):
                        print(key, "has gone")
                print("here:", list(presence.state))

    On the server, `channels.presence.Presence` tracks the users.

    Create the view before the channel joins. Otherwise the view misses the first state. While the channel is not
    joined, the state stays as it was. After the rejoin, `changes` yields the differences between the old state and the
    new one. If a diff comes before the state of its membership, the view applies it after that state.

    Args:
        channel: the channel.
        on_join: called with each `PresenceJoin`.
        on_leave: called with each `PresenceLeave`.
        on_sync: called after each message of the server that has changed the state.
        state_event: the event with the whole state.
        diff_event: the event with a diff.

    The functions must be quick. If one raises, the error leaves the block of `open_socket`.

    Source: phoenix.js 1.8, `presence.js`.
    """

    def __init__(
        self,
        channel: ClientChannel,
        *,
        on_join: Callable[[PresenceJoin], object] | None = None,
        on_leave: Callable[[PresenceLeave], object] | None = None,
        on_sync: Callable[[], object] | None = None,
        state_event: str = "presence_state",
        diff_event: str = "presence_diff",
    ) -> None:
        self._channel = channel
        self._fold = PresenceFold()
        self._on_join = on_join
        self._on_leave = on_leave
        self._on_sync = on_sync
        self._feeds: list[Feed[PresenceJoin | PresenceLeave]] = []
        channel.listen(state_event, self._synced)
        channel.listen(diff_event, self._changed)

    @property
    def state(self) -> State:
        """The present keys, each with its presence: `{"metas": [...]}`. Do not change it."""
        return self._fold.state

    @property
    def is_pending(self) -> bool:
        """True until the state of the current membership has come."""
        return self._fold.is_pending(self._channel.record.join_ref)

    @overload
    def list(self) -> list[dict[str, Any]]: ...
    @overload
    def list(self, by: Callable[[str, dict[str, Any]], T]) -> list[T]: ...
    def list(self, by: Callable[[str, Any], Any] = lambda key, presence: presence) -> list[Any]:
        """Return the presences, or the results of a function of each key and its presence.

            names = presence.list(lambda key, presence: presence["metas"][0]["name"])

        Args:
            by: the function. It gets a key, and the presence as a dict with `metas`. The default returns the presence.
        """
        return [by(key, presence) for key, presence in self._fold.state.items()]

    def changes(self) -> Feed[PresenceJoin | PresenceLeave]:
        """Return a feed of the joins and leaves that follow this call. The feed ends with the channel."""
        feed = self._channel.new_feed(_MAX_CHANGES, self._feeds.remove)
        self._feeds.append(feed)
        return feed

    def _synced(self, state: Any, join_ref: str | None) -> None:
        self._tell(self._fold.apply_state(state, join_ref))

    def _changed(self, diff: Any, join_ref: str | None) -> None:
        changes = self._fold.apply_diff(diff, join_ref)
        if changes is not None:
            self._tell(changes)

    def _tell(self, changes: Changes) -> None:
        for change in changes:
            if isinstance(change, PresenceJoin):
                if self._on_join is not None:
                    self._on_join(change)
            elif self._on_leave is not None:
                self._on_leave(change)
            for feed in self._feeds:
                feed.put(change)
        if self._on_sync is not None:
            self._on_sync()

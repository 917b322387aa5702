"""The process that announces: it sends the diffs of each topic to the clients of this node.

It sends the first diff at once, and after that one diff for a topic in each `interval`. While a `fetch` runs, changes
collect: the next round has one diff for each topic, however many changes there were.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import trio

from actors.links import trap_exits
from channels.errors import InvalidResult
from channels.messages import Broadcast
from channels.presence.delta import Entry, Meta
from channels.presence.diff import Diff
from channels.presence.snapshot import Snapshot
from channels.presence.tracker import Tracking
from channels.telemetry import PRESENCE_CALLBACK_FAILED

__all__ = ["Callbacks", "Presences", "announce", "fetched", "group"]

Presences: TypeAlias = dict[str, dict[str, Any]]
"""Presences as clients get them: `{"ann": {"metas": [{"phx_ref": "...", ...}]}}`."""


class Callbacks(Protocol):
    """The part of `Presence` that an application overrides."""

    fetches: bool
    handles_metas: bool
    fetch_timeout: float
    max_fetches: int

    async def fetch(self, topic: str, presences: Presences) -> Presences: ...

    async def init(self) -> Any: ...

    async def handle_metas(
        self,
        topic: str,
        diff: Mapping[str, Presences],
        presences: Mapping[str, Sequence[Meta]],
        state: Any,
    ) -> Any: ...

    def is_counted(self, topic: str, snapshot: Snapshot) -> bool: ...


def group(entries: Sequence[Entry]) -> Presences:
    """Group entries by key."""
    groups: Presences = {}
    for entry in entries:
        groups.setdefault(entry.key, {"metas": []})["metas"].append(entry.meta)
    return groups


async def fetched(callbacks: Callbacks, topic: str, presences: Presences) -> Presences:
    """Return presences with what the application's `fetch` adds.

    Raises:
        InvalidResult: `fetch` returned something else than a dict with an entry for each key.
        TooSlowError: it took longer than `fetch_timeout`.
        Exception: it raised.
    """
    if not presences or not callbacks.fetches:
        return presences
    with trio.fail_after(callbacks.fetch_timeout):
        result = await callbacks.fetch(topic, presences)
    if not isinstance(result, dict) or not all(
        isinstance(entry, dict) and isinstance(entry.get("metas"), list | tuple)
        for entry in result.values()
    ):
        name = f"{type(callbacks).__name__}.fetch"
        expected = ('a dict of keys to dicts with "metas", as it got them',)
        raise InvalidResult(name, result, expected)
    return result


async def announce(tracking: Tracking, callbacks: Callbacks) -> None:
    """Announce changes until the process ends."""
    announcer = _Announcer(tracking, callbacks)
    await announcer.run()


class _Announcer:
    def __init__(self, tracking: Tracking, callbacks: Callbacks) -> None:
        self.tracking = tracking
        self.callbacks = callbacks
        self.state: Any = None
        # Topics whose clients know only a count.
        self.counted: set[str] = set()

    async def run(self) -> None:
        trap_exits(False)
        if self.callbacks.handles_metas:
            self.state = await self.callbacks.init()
        tracking = self.tracking
        while True:
            await tracking.is_changed.wait()
            tracking.is_changed = trio.Event()
            await self._announce(tracking.roster.diffs.take())
            await trio.sleep(tracking.interval)

    async def _announce(self, diffs: Mapping[str, Diff]) -> None:
        if self.callbacks.fetches:
            limit = trio.CapacityLimiter(self.callbacks.max_fetches)
            async with trio.open_nursery() as nursery:
                for topic, diff in diffs.items():
                    nursery.start_soon(self._announce_limited, limit, topic, diff)
            return
        for topic, diff in diffs.items():
            await self._announce_topic(topic, diff)
            # A round may have thousands of topics.
            await trio.lowlevel.checkpoint()

    async def _announce_limited(self, limit: trio.CapacityLimiter, topic: str, diff: Diff) -> None:
        async with limit:
            await self._announce_topic(topic, diff)

    async def _announce_topic(self, topic: str, diff: Diff) -> None:
        snapshot = self.tracking.roster.snapshots.topic(topic)
        if self.callbacks.is_counted(topic, snapshot):
            self._announce_count(topic, snapshot)
            payload: dict[str, Any] = {"joins": group(diff.joins), "leaves": group(diff.leaves)}
        else:
            fetched_diff = await self._fetch(topic, diff)
            if fetched_diff is None:
                return
            payload = fetched_diff
            if topic in self.counted:
                self.counted.discard(topic)
                await self._announce_everybody(topic)
            else:
                self._send(topic, "presence_diff", payload)
        if self.callbacks.handles_metas:
            await self._handle_metas(topic, payload)

    async def _fetch(self, topic: str, diff: Diff) -> dict[str, Any] | None:
        try:
            return {
                "joins": await fetched(self.callbacks, topic, group(diff.joins)),
                "leaves": await fetched(self.callbacks, topic, group(diff.leaves)),
            }
        except Exception as error:  # whatever the application's code raises costs only this diff
            self._failed("fetch", topic, error)
            return None

    def _announce_count(self, topic: str, snapshot: Snapshot) -> None:
        if topic not in self.counted:
            if snapshot.presences:
                self.counted.add(topic)
            # Clients that know everybody must not show them for ever.
            self._send(topic, "presence_state", {})
        elif not snapshot.presences:
            self.counted.discard(topic)
        count = {"joins": {}, "leaves": {}, "count": len(snapshot)}
        self._send(topic, "presence_diff", count)

    async def _announce_everybody(self, topic: str) -> None:
        snapshot = self.tracking.roster.snapshots.topic(topic)
        everybody: Presences = {key: {"metas": list(metas)} for key, metas in snapshot.items()}
        try:
            everybody = await fetched(self.callbacks, topic, everybody)
        except Exception as error:  # as in _fetch
            self._failed("fetch", topic, error)
            return
        self._send(topic, "presence_state", everybody)

    async def _handle_metas(self, topic: str, diff: Mapping[str, Presences]) -> None:
        snapshot = self.tracking.roster.snapshots.topic(topic)
        presences = {key: list(metas) for key, metas in snapshot.items()}
        try:
            self.state = await self.callbacks.handle_metas(topic, diff, presences, self.state)
        except (
            Exception
        ) as error:  # the application's state stays as it was, and the clients have their diff
            self._failed("handle_metas", topic, error)

    def _send(self, topic: str, event: str, payload: dict[str, Any]) -> None:
        try:
            self.tracking.pubsub.local_broadcast(topic, Broadcast(topic, event, payload))
        except Exception as error:  # what `fetch` added cannot be encoded: as if it had raised
            self._failed("fetch", topic, error)

    def _failed(self, callback: str, topic: str, error: Exception) -> None:
        self.tracking.counts["callbacks_failed"] += 1
        about = {"callback": callback, "topic": topic, "exception": error}
        self.tracking.execute(PRESENCE_CALLBACK_FAILED, {}, about)

"""The announcer process: it sends the diffs of each topic to the clients of this node.

It sends the first diff at once, and after that one diff for a topic in each `interval`. Topics do not wait for each
other. While `fetch` runs for a topic, the process collects further changes of this topic, and announces other topics. A
topic never has two announcements at a time, so they stay in order.

Clients that miss an announcement, because `fetch` failed or this process ended, get a complete `presence_state` instead
of the next diff.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import trio

from actors.process import current_pid
from channels.errors import InvalidResult
from channels.messages import Broadcast
from channels.presence.delta import Entry, in_order
from channels.presence.diff import NO_DIFF, SLICE, Diff, slices
from channels.presence.snapshot import Snapshot
from channels.presence.tracker import Tracking
from channels.pubsub.pubsub import Dispatcher
from channels.telemetry import PRESENCE_CALLBACK_FAILED

__all__ = ["Callbacks", "Presences", "announce", "everybody", "fetched"]

Presences: TypeAlias = dict[str, dict[str, Any]]
"""Presences as clients get them: `{"ann": {"metas": [{"phx_ref": "...", ...}]}}`."""


class Callbacks(Protocol):
    """The part of `Presence` that the process uses."""

    fetches: bool
    handles_metas: bool
    callback_timeout: float
    max_fetches: int
    dispatcher: Dispatcher

    async def fetch(self, topic: str, presences: Presences) -> Presences: ...

    async def init(self) -> Any: ...

    async def handle_metas(
        self, topic: str, diff: Mapping[str, Presences], presences: Snapshot, state: Any
    ) -> Any: ...


def everybody(snapshot: Snapshot) -> Presences:
    """Return the members of a topic, with copies of their metas, which the receiver may change."""
    return {key: {"metas": [dict(meta) for meta in metas]} for key, metas in snapshot.items()}


async def fetched(callbacks: Callbacks, topic: str, presences: Presences) -> Presences:
    """Return presences with the additions of the application's `fetch`.

    Raises:
        InvalidResult: `fetch` returned something other than a dict with an entry for some of the keys.
        TooSlowError: `fetch` took longer than `callback_timeout`.
        Exception: `fetch` raised it.
    """
    if not presences or not callbacks.fetches:
        return presences
    with trio.fail_after(callbacks.callback_timeout):
        result = await callbacks.fetch(topic, presences.copy())
    if not isinstance(result, dict) or not all(
        key in presences and _is_entry(entry) for key, entry in result.items()
    ):
        name = f"{type(callbacks).__name__}.fetch"
        expected = ('a dict of the keys that it got, to dicts with "metas", each with its phx_ref',)
        raise InvalidResult(name, result, expected)
    return result


def _is_entry(entry: object) -> bool:
    metas = entry.get("metas") if isinstance(entry, dict) else None
    return isinstance(metas, list | tuple) and all(
        isinstance(meta, Mapping) and "phx_ref" in meta for meta in metas
    )


def _grouped(entries: Sequence[Entry]) -> Presences:
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(entry.key, []).append(entry)
    return {
        key: {"metas": [dict(entry.meta) for entry in in_order(group)]}
        for key, group in groups.items()
    }


def _changes(diff: Diff) -> dict[str, Presences]:
    """Return a diff as clients get it, before `fetch`.

    A node with a new incarnation brings the same presences again, with the same refs. phoenix.js would remove a ref
    that is in the joins and in the leaves of one diff. So this function leaves out the earlier entry of such a ref.
    """
    joins, leaves = diff.joins, diff.leaves
    if joins and leaves:
        gone = dict.fromkeys(leaves)
        refs = _refs(entry for entry in joins if entry not in gone)
        leaves = [entry for entry in leaves if _ref(entry.meta) not in refs]
        joins = [entry for entry in joins if entry not in gone or _ref(entry.meta) not in refs]
    return {"joins": _grouped(joins), "leaves": _grouped(leaves)}


def _lasting(changes: dict[str, Presences], diff: Diff) -> dict[str, Presences]:
    """Return the changes without the joins of entries that have left again, so that each joined key is present.

    Args:
        changes: the changes of the diff, after `fetch`.
        diff: the diff.
    """
    gone = dict.fromkeys(diff.leaves)
    lasting = [entry for entry in diff.joins if entry not in gone]
    if len(lasting) == len(diff.joins):
        return changes
    keys = {entry.key for entry in lasting}
    withdrawn = _refs(entry for entry in diff.joins if entry in gone) - _refs(lasting)
    joins = {
        key: {**entry, "metas": [meta for meta in entry["metas"] if _ref(meta) not in withdrawn]}
        for key, entry in changes["joins"].items()
        if key in keys
    }
    return {**changes, "joins": joins}


def _refs(entries: Iterable[Entry]) -> set[str]:
    return {ref for entry in entries if (ref := _ref(entry.meta)) is not None}


def _ref(meta: Mapping[str, Any]) -> str | None:
    # Other versions of Ashtree may send metadata without a ref, or with a ref of another form.
    ref = meta.get("phx_ref")
    return ref if isinstance(ref, str) else None


def _parts(changes: dict[str, Presences]) -> Iterator[dict[str, Presences]]:
    """Divide a diff into parts. Joins and leaves of the same key stay together."""
    keys = list(dict.fromkeys(key for side in changes.values() for key in side))
    if len(keys) <= SLICE:
        yield changes
        return
    for start in range(0, len(keys), SLICE):
        part = keys[start : start + SLICE]
        yield {
            name: {key: side[key] for key in part if key in side} for name, side in changes.items()
        }


async def announce(tracking: Tracking, callbacks: Callbacks) -> None:
    """Announce changes until the process ends."""
    tracking.announcer = current_pid()
    await _Announcer(tracking, callbacks).run()


class _Announcer:
    def __init__(self, tracking: Tracking, callbacks: Callbacks) -> None:
        self.tracking = tracking
        self.roster = tracking.roster
        self.callbacks = callbacks
        # The diffs to announce, by topic. Each diff has the snapshot of the same moment.
        self.ready: dict[str, tuple[Diff, Snapshot]] = {}
        # `handle_metas` runs one call at a time, because each call gets the state of the call before it.
        self.handling = trio.Lock()

    async def run(self) -> None:
        tracking, callbacks = self.tracking, self.callbacks
        calls_back = callbacks.fetches or callbacks.handles_metas
        # This needs no limit: a topic is in the channel at most once.
        put, get = trio.open_memory_channel[str](float("inf"))
        async with trio.open_nursery() as nursery:
            for _ in range(callbacks.max_fetches if calls_back else 1):
                nursery.start_soon(self._work, get)
            # An earlier process has ended while it announced these topics.
            for topic in tracking.announcing:
                self.roster.counting.missed(topic)
                self._put(put, topic, NO_DIFF)
            while True:
                await tracking.is_changed.wait()
                tracking.is_changed = trio.Event()
                for topic, diff in self.roster.diffs.take(later=tracking.announcing).items():
                    tracking.announcing[topic] = None
                    self._put(put, topic, diff)
                await trio.sleep(tracking.interval)

    def _put(self, topics: trio.MemorySendChannel[str], topic: str, diff: Diff) -> None:
        self.ready[topic] = diff, self.roster.snapshots.topic(topic)
        topics.send_nowait(topic)

    async def _work(self, topics: trio.MemoryReceiveChannel[str]) -> None:
        async for topic in topics:
            await self._announce(topic, *self.ready.pop(topic))
            del self.tracking.announcing[topic]
            if topic in self.roster.diffs:
                self.tracking.is_changed.set()

    async def _announce(self, topic: str, diff: Diff, snapshot: Snapshot) -> None:
        counting, handles_metas = self.roster.counting, self.callbacks.handles_metas
        has_clients = bool(self.tracking.pubsub.subscriptions(topic))
        if not has_clients:
            counting.forget(topic)
            if not handles_metas:
                return
        is_counted, is_whole = counting.announce(topic, len(snapshot))
        changes = None
        if not (self.callbacks.fetches or handles_metas or is_counted or is_whole):
            await self._announce_changes(topic, map(_changes, slices(diff, SLICE)))
            return
        if handles_metas or not (is_counted or is_whole):
            changes = await self._fetched(topic, _changes(diff))
        if not has_clients:
            pass
        elif is_counted:
            self._announce_count(topic, len(snapshot), is_whole=is_whole)
        elif is_whole or (changes is None and not snapshot.presences):
            await self._announce_everybody(topic, snapshot)
        elif changes is None:
            counting.missed(topic)
        else:
            await self._announce_changes(topic, _parts(changes))
        if handles_metas and changes is not None and diff:
            await self._handle_metas(topic, _lasting(changes, diff), snapshot)

    def _announce_count(self, topic: str, count: int, *, is_whole: bool) -> None:
        if is_whole:
            # Some clients have the whole list, and would show its members for ever. Send them an empty list.
            self._send(topic, "presence_state", {})
        self._send(topic, "presence_diff", {"joins": {}, "leaves": {}, "count": count})

    async def _announce_everybody(self, topic: str, snapshot: Snapshot) -> None:
        presences = await self._fetched(topic, {"everybody": everybody(snapshot)})
        if presences is None or not self._send(topic, "presence_state", presences["everybody"]):
            self.roster.counting.missed(topic)

    async def _announce_changes(self, topic: str, parts: Iterable[dict[str, Presences]]) -> None:
        for part in parts:
            if not self._send(topic, "presence_diff", part):
                self.roster.counting.missed(topic)
                return
            await trio.lowlevel.checkpoint()

    async def _fetched(
        self, topic: str, groups: dict[str, Presences]
    ) -> dict[str, Presences] | None:
        """Return the groups with the additions of `fetch`, or None if it failed."""
        try:
            return {
                name: await fetched(self.callbacks, topic, group) for name, group in groups.items()
            }
        except Exception as error:  # an exception of the application's code loses only this diff
            self._failed("fetch", topic, error)
            return None

    async def _handle_metas(
        self, topic: str, diff: Mapping[str, Presences], snapshot: Snapshot
    ) -> None:
        tracking = self.tracking
        async with self.handling:
            try:
                with trio.fail_after(self.callbacks.callback_timeout):
                    tracking.metas_state = await self.callbacks.handle_metas(
                        topic, diff, snapshot, tracking.metas_state
                    )
            except Exception as error:  # the state stays as it was, and the clients have their diff
                self._failed("handle_metas", topic, error)

    def _send(self, topic: str, event: str, payload: dict[str, Any]) -> bool:
        """Send an event to the clients of this node. Return False if some did not get it."""
        message, dispatcher = Broadcast(topic, event, payload), self.callbacks.dispatcher
        try:
            self.tracking.pubsub.local_broadcast(topic, message, dispatcher=dispatcher)
        except Exception as error:  # `fetch` gave invalid data, or the dispatcher raised
            self._failed("fetch", topic, error)
            return False
        return True

    def _failed(self, callback: str, topic: str, error: Exception) -> None:
        self.tracking.counts["callbacks_failed"] += 1
        about = {"callback": callback, "topic": topic, "exception": error}
        self.tracking.execute(PRESENCE_CALLBACK_FAILED, {}, about)

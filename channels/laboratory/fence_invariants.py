"""The invariant that fences protect the topics of histories, over all nodes of a run.

Register it with a scenario: `@scenario(invariants=("all", FencesHold))`. It watches the storage of every `History`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeAlias

import trio
from attrs import define, field

from actors.runtime import Runtime
from channels.durable.storage import Appended, Claimed, NewAnswer, NewMessage, Storage
from channels.durable.stream import Slice
from channels.telemetry import HISTORY_STARTED
from supervision.laboratory.chaos.invariants.base import Invariant
from supervision.recording.places import Places

__all__ = ["FencesHold"]

Place: TypeAlias = tuple[str, str]
"""The name of a history, and a topic."""


@define(eq=False)
class _Known:
    """The facts about all histories that are certain, because an operation has returned.

    Attributes:
        tried: the greatest fence of a claim that has begun.
        claimed: the greatest fence of a claim that has succeeded.
        appended: the epoch and the greatest offset of the appends that have succeeded.
    """

    tried: dict[Place, int] = field(factory=dict)
    claimed: dict[Place, int] = field(factory=dict)
    appended: dict[Place, tuple[str, int]] = field(factory=dict)


_known: trio.lowlevel.RunVar[_Known] = trio.lowlevel.RunVar("fences of histories")


class FencesHold(Invariant):
    """A storage accepts a claim only with a greater fence, and an append only with the fence that was claimed last.

    A read contains all messages that were accepted before it began. So an owner that claims its fence before it reads
    knows all messages, and nobody else adds further ones.

    The invariant compares operations that do not overlap, because the order of others is unknown. It knows the
    histories of all nodes in the same Trio run, and takes histories with one name for one history.
    """

    name: ClassVar[str] = "fences_hold"

    def attach(self, runtime: Runtime, places: Places | None = None) -> None:
        super().attach(runtime, places)
        try:
            self._known = _known.get()
        except LookupError:
            self._known = _Known()
            _known.set(self._known)
        # No code detaches this handler, because the telemetry ends with the runtime.
        runtime.telemetry.attach(HISTORY_STARTED, self._started)

    def _started(self, _event: object, _measured: object, about: Mapping[str, Any]) -> None:
        history = about["history"]
        history.storage = _WatchedStorage(history.storage, history.name, self, self._known)


class _WatchedStorage:
    """A storage that reports the operations of its history."""

    def __init__(
        self, storage: Storage, history: str, invariant: FencesHold, known: _Known
    ) -> None:
        self._storage = storage
        self._history = history
        self._invariant = invariant
        self._known = known

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    async def claim(self, topic: str, fence: int) -> Claimed:
        known, place = self._known, (self._history, topic)
        before = known.claimed.get(place, 0)
        known.tried[place] = max(fence, known.tried.get(place, 0))
        result = await self._storage.claim(topic, fence)
        if result.refused is None:
            if fence <= before:
                self._invariant.violated(
                    f"the storage accepts the claim of {topic!r} with fence {fence} after one with {before}"
                )
            known.claimed[place] = max(fence, known.claimed.get(place, 0))
        return result

    async def append(
        self, batch: Sequence[NewMessage], *, now: float, answers: Sequence[NewAnswer] = ()
    ) -> Appended:
        known = self._known
        places = [(self._history, each.topic) for each in batch]
        before = [known.claimed.get(each, 0) for each in places]
        result = await self._storage.append(batch, now=now, answers=answers)
        if result.refused:
            return result
        for place, message, claimed, offset in zip(
            places, batch, before, result.offsets, strict=True
        ):
            fence = message.fence or 0
            if fence < claimed or fence > known.tried.get(place, 0):
                self._invariant.violated(
                    f"the storage accepts an append to {message.topic!r} with fence {message.fence} after the claim "
                    f"of {claimed}"
                )
            epoch, last = known.appended.get(place, ("", 0))
            last = max(offset, last) if epoch == result.epoch else offset
            known.appended[place] = result.epoch, last
        return result

    async def read(self, topic: str, *, after: int, limit: int, now: float) -> Slice:
        epoch, last = self._known.appended.get((self._history, topic), ("", 0))
        result = await self._storage.read(topic, after=after, limit=limit, now=now)
        if result.epoch == epoch and result.last < last:
            self._invariant.violated(
                f"a read of {topic!r} ends at offset {result.last}, and {last} was accepted before it began"
            )
        return result

"""Bugs of nodes: in the message numbers of adapters, and in the exchange of presences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from attrs import evolve

from channels.presence import announcer
from channels.presence.delta import Part, Segment
from channels.presence.diff import Diff, DiffBuffer
from channels.presence.replica import Down, Removed, Replicas
from channels.presence.roster import Roster
from channels.presence.state import State
from channels.presence.tracker import Tracker
from channels.pubsub.adapter import LostEnvelopes
from channels.pubsub.lanes import Arrivals
from channels.pubsub.redis.connection import Publisher
from examples.scenarios.lobby_nodes import a_week
from supervision.laboratory.simulation.scenario import Scenario, settings_of
from supervision.laboratory.simulation.world.world import World
from tests.laws.scenarios import scenario
from tests.simulation.cluster_scenarios import cluster
from tests.simulation.planted.planting import Planted, planted

__all__ = ["BUGS"]

_BROADCASTS = "invariant broadcasts_arrive"
_PRESENCES = "invariant presences_agree"
_DIFFS = "invariant presence_diffs_fit"


def _planted(
    name: str, failure: str, *bugs: tuple[Any, str, Any], program: Scenario = cluster
) -> Planted:
    async def with_bug(world: World) -> None:
        with planted(*bugs):
            await program(world)

    settings = settings_of(program)
    marked = scenario(
        faults=settings.faults, params=settings.params, invariants=settings.invariants
    )
    return Planted(name=name, scenario=marked(with_bug), failure=failure)


# Broadcasts


def _no_gaps(
    message: Callable[..., LostEnvelopes | bool | None],
) -> Callable[..., LostEnvelopes | bool | None]:
    def without(self: Arrivals, *args: Any) -> LostEnvelopes | bool | None:
        found = message(self, *args)
        return None if isinstance(found, LostEnvelopes) else found

    return without


def _no_tail(self: Arrivals, lane: str, node: str, incarnation: str, number: int) -> None:
    """Accept the last number of a sender without a report of missing messages."""
    key = lane, node, incarnation
    self._last[key] = max(self._last.pop(key, number), number)


_take = Publisher._take
_end = Publisher._end


def _take_and_keep(self: Publisher, session: Any) -> bytes:
    data = _take(self, session)
    if data:
        vars(self).setdefault("kept", []).append((self._sent, data))
    return data


def _send_again(self: Publisher, session: Any) -> None:
    """Send unconfirmed messages again on the next connection, behind the messages that wait there."""
    kept = [
        data for last, data in vars(self).pop("kept", []) if last > session.protocol.acknowledged
    ]
    _end(self, session)
    for data in kept:
        self._outbox.put(data, session.heard + 3600)


def _everything_is_new(
    message: Callable[..., LostEnvelopes | bool | None],
) -> Callable[..., LostEnvelopes | bool | None]:
    def without(self: Arrivals, *args: Any) -> LostEnvelopes | bool | None:
        found = message(self, *args)
        return None if found is True else found

    return without


# Presences


def _part_in_silence(self: Tracker) -> None:
    """Stop without a goodbye to the other nodes."""


def _continued_by_all(self: Part, segment: Segment) -> bool:
    return True


_heard = Replicas.heard


def _same_run(self: Replicas, name: str, incarnation: int, now: float) -> Any:
    """Treat every run of a node as the known run."""
    known = self.incarnation_of(name)
    return _heard(self, name, incarnation if known is None else known, now)


_advance = Part.advance


def _removes_nothing(self: Part, segment: Segment) -> Any:
    return _advance(self, evolve(segment, removed=frozenset()))


def _never_silent(self: Replicas, now: float) -> Sequence[Down | Removed]:
    return ()


def _asks_nobody(self: Tracker, now: float) -> None:
    self.is_asking = False
    self.offers = {}


def _forgets_owners(self: Roster, owner: Any, now: float) -> None:
    if not self.state.incarnation % 3:
        self.untrack_all(owner)


_extract = State.extract


def _own_part_only(self: State, theirs: Any) -> Any:
    return {name: part for name, part in _extract(self, theirs).items() if name != self.node}


# What clients get

_changes = announcer._changes


def _no_leaves(diff: Diff) -> dict[str, announcer.Presences]:
    changes = _changes(diff)
    # The bug: after an update, clients keep the old metadata.
    return {**changes, "leaves": {}} if changes["joins"] else changes


def _not_noted(self: DiffBuffer, topic: str) -> None:
    """Do not record that a client has read the topic."""


BUGS = (
    _planted(
        "a gap before a message is not reported",
        _BROADCASTS,
        (Arrivals, "message", _no_gaps(Arrivals.message)),
    ),
    _planted(
        "a loss at the end of a row of messages is not reported",
        _BROADCASTS,
        (Arrivals, "heartbeat", _no_tail),
    ),
    _planted(
        "a publisher sends again what was not confirmed, and receivers do not compare numbers",
        _BROADCASTS,
        (Publisher, "_take", _take_and_keep),
        (Publisher, "_end", _send_again),
        (Arrivals, "message", _everything_is_new(Arrivals.message)),
    ),
    _planted(
        "a node that stops says no goodbye",
        _PRESENCES,
        (Tracker, "_part", _part_in_silence),
    ),
    _planted(
        "gaps between changes are not noticed",
        _PRESENCES,
        (Part, "is_continued_by", _continued_by_all),
    ),
    _planted(
        "a new run of a node is taken for the one before",
        _PRESENCES,
        (Replicas, "heard", _same_run),
    ),
    _planted(
        "a merge drops removals",
        _PRESENCES,
        (Part, "advance", _removes_nothing),
    ),
    _planted(
        "a node that is silent stays",
        _PRESENCES,
        (Replicas, "silent", _never_silent),
    ),
    _planted(
        "a node does not ask for what it lacks",
        _PRESENCES,
        (Tracker, "_ask", _asks_nobody),
    ),
    _planted(
        "the end of an owner is not always noticed",
        _PRESENCES,
        (Roster, "owner_ended", _forgets_owners),
    ),
    _planted(
        "a node answers with the parts of others, and not with its own",
        _PRESENCES,
        (State, "extract", _own_part_only),
    ),
    _planted(
        "a diff with joins has no leaves",
        _DIFFS,
        (announcer, "_changes", _no_leaves),
        program=a_week,
    ),
    _planted(
        "a diff leaves out what a client has read meanwhile",
        _DIFFS,
        (DiffBuffer, "note_read", _not_noted),
        program=a_week,
    ),
)

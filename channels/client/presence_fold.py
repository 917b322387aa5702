"""The computation of a presence: from states and diffs to the present keys and the changes.

*pure*. A presence is `{"metas": [{"phx_ref": ..., ...}, ...]}`: one meta for each tracked process of a key. The server
may add more entries beside `metas`. A state is a dict of presences by key. The `phx_ref` of a meta identifies it.

The functions change no argument. Source: phoenix.js 1.8, `presence.js`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from attrs import define, field, frozen

__all__ = [
    "MAX_PENDING",
    "PresenceFold",
    "PresenceJoin",
    "PresenceLeave",
    "State",
    "sync_diff",
    "sync_state",
]

MAX_PENDING: Final = 1000
"""The most diffs that wait for a state. Older diffs are dropped, because a later state contains them."""

State: TypeAlias = dict[str, dict[str, Any]]
"""The present keys, each with its presence."""


@frozen
class PresenceJoin:
    """A key has new metas.

    Attributes:
        key: the key, such as a user's id.
        current: the presence before; None if the key is new.
        joined: the presence with the new metas only.
    """

    key: str
    current: dict[str, Any] | None
    joined: dict[str, Any]


@frozen
class PresenceLeave:
    """A key has lost metas.

    Attributes:
        key: the key.
        current: the presence that remains. If it has no metas, the key has left.
        left: the presence with the lost metas only.
    """

    key: str
    current: dict[str, Any]
    left: dict[str, Any]


Changes: TypeAlias = list[PresenceJoin | PresenceLeave]


def sync_state(state: State, new: Mapping[str, Any]) -> tuple[State, Changes]:
    """Replace the state by the state of the server, and return the changes.

        >>> state, changes = sync_state({}, {"ann": {"metas": [{"phx_ref": "1"}]}})
        >>> changes
        [PresenceJoin(key='ann', current=None, joined={'metas': [{'phx_ref': '1'}]})]

    Args:
        state: the state so far. It may be from an earlier membership.
        new: the payload of `presence_state`.
    """
    joins: State = {}
    leaves: State = {key: presence for key, presence in state.items() if key not in new}
    for key, presence in new.items():
        current = state.get(key)
        if current is None:
            joins[key] = presence
            continue
        joined = _without(presence["metas"], current["metas"])
        left = _without(current["metas"], presence["metas"])
        if joined:
            joins[key] = {**presence, "metas": joined}
        if left:
            leaves[key] = {**current, "metas": left}
    return sync_diff(state, {"joins": joins, "leaves": leaves})


def sync_diff(state: State, diff: Mapping[str, Any]) -> tuple[State, Changes]:
    """Apply the joins and the leaves of a diff, and return the new state and the changes.

    Args:
        state: the state so far.
        diff: the payload of `presence_diff`: presences by key, under `joins` and `leaves`.
    """
    state = dict(state)
    changes: Changes = []
    for key, presence in diff["joins"].items():
        current = state.get(key)
        metas = list(presence["metas"])
        if current is not None:
            metas = _without(current["metas"], metas) + metas
        state[key] = {**presence, "metas": metas}
        changes.append(PresenceJoin(key, current, presence))
    for key, presence in diff["leaves"].items():
        current = state.get(key)
        if current is None:
            continue
        rest = {**current, "metas": _without(current["metas"], presence["metas"])}
        changes.append(PresenceLeave(key, rest, presence))
        if rest["metas"]:
            state[key] = rest
        else:
            del state[key]
    return state, changes


def _without(metas: list[Any], others: list[Any]) -> list[Any]:
    refs = [other.get("phx_ref") for other in others]
    return [meta for meta in metas if meta.get("phx_ref") not in refs]


@define
class PresenceFold:
    """The presence of one topic across memberships.

    The fold applies a diff only after the state of the same membership. A diff that arrives before the state waits,
    because the state may not contain the diff's changes. If a membership ends before its state arrives, the fold drops
    its waiting diffs when the state of the next membership arrives, because that state is newer.

    Attributes:
        state: the present keys.
        join_ref: the join_ref of the membership whose state has arrived; None before the first state.
        pending: the diffs that wait for the state, each with the join_ref of its membership.
    """

    state: State = field(factory=dict)
    join_ref: str | None = None
    pending: deque[tuple[str | None, Mapping[str, Any]]] = field(
        factory=lambda: deque(maxlen=MAX_PENDING)
    )

    def is_pending(self, join_ref: str | None) -> bool:
        """Return True until the state of a membership has come."""
        return self.join_ref is None or self.join_ref != join_ref

    def apply_state(self, state: Mapping[str, Any], join_ref: str | None) -> Changes:
        """Apply a `presence_state` of a membership, and the diffs that waited for it."""
        folded, changes = sync_state(self.state, state)
        for membership, diff in self.pending:
            if membership == join_ref:
                folded, more = sync_diff(folded, diff)
                changes += more
        self.pending.clear()
        self.state, self.join_ref = folded, join_ref
        return changes

    def apply_diff(self, diff: Mapping[str, Any], join_ref: str | None) -> Changes | None:
        """Apply a `presence_diff`, or return None and keep it for later."""
        if self.is_pending(join_ref):
            self.pending.append((join_ref, diff))
            return None
        self.state, changes = sync_diff(self.state, diff)
        return changes

"""Presence as phoenix.js folds it: states, diffs, and what they change."""

from __future__ import annotations

from typing import Any

from channels.client.presence_fold import (
    PresenceFold,
    PresenceJoin,
    PresenceLeave,
    State,
    sync_diff,
    sync_state,
)


def metas(*refs: str, **more: Any) -> dict[str, Any]:
    return {"metas": [{"phx_ref": ref, **more} for ref in refs]}


def diff(joins: State | None = None, leaves: State | None = None) -> dict[str, State]:
    return {"joins": joins or {}, "leaves": leaves or {}}


def test_the_first_state_is_all_joins() -> None:
    new = {"u1": metas("1"), "u2": metas("2", "3")}
    state, changes = sync_state({}, new)
    assert state == new
    assert changes == [
        PresenceJoin("u1", None, metas("1")),
        PresenceJoin("u2", None, metas("2", "3")),
    ]


def test_keys_that_the_new_state_lacks_leave() -> None:
    state, changes = sync_state({"u1": metas("1"), "u2": metas("2")}, {"u2": metas("2")})
    assert state == {"u2": metas("2")}
    assert changes == [PresenceLeave("u1", {"metas": []}, metas("1"))]


def test_only_the_new_metas_of_a_known_key_join() -> None:
    state, changes = sync_state({"u1": metas("1")}, {"u1": metas("1", "2")})
    assert state == {"u1": metas("1", "2")}
    assert changes == [PresenceJoin("u1", metas("1"), metas("2"))]


def test_a_key_whose_metas_changed_joins_before_it_leaves() -> None:
    state, changes = sync_state({"u1": metas("1")}, {"u1": metas("2")})
    assert state == {"u1": metas("2")}
    assert changes == [
        PresenceJoin("u1", metas("1"), metas("2")),
        PresenceLeave("u1", metas("2"), metas("1")),
    ]


def test_an_equal_state_changes_nothing() -> None:
    state = {"u1": metas("1", "2")}
    assert sync_state(state, state) == (state, [])


def test_the_old_metas_come_before_the_joined_ones() -> None:
    state, _ = sync_diff({"u1": metas("1")}, diff(joins={"u1": metas("2")}))
    assert state == {"u1": metas("1", "2")}


def test_a_meta_that_joins_again_is_replaced() -> None:
    state, _ = sync_diff({"u1": metas("1", "2")}, diff(joins={"u1": metas("1", status="away")}))
    assert [meta["phx_ref"] for meta in state["u1"]["metas"]] == ["2", "1"]
    assert state["u1"]["metas"][1]["status"] == "away"


def test_a_join_replaces_what_the_server_adds_to_a_presence() -> None:
    state, _ = sync_diff(
        {"u1": {**metas("1"), "name": "ann"}}, diff(joins={"u1": {**metas("2"), "name": "anna"}})
    )
    assert state["u1"]["name"] == "anna"


def test_a_key_without_metas_is_gone_and_others_stay() -> None:
    state, changes = sync_diff(
        {"u1": metas("1", "2"), "u2": metas("3")},
        diff(leaves={"u1": metas("1"), "u2": metas("3"), "u3": metas("4")}),
    )
    assert state == {"u1": metas("2")}
    assert changes == [
        PresenceLeave("u1", metas("2"), metas("1")),
        PresenceLeave("u2", {"metas": []}, metas("3")),
    ]


def test_what_the_caller_passes_is_not_changed() -> None:
    state, new = {"u1": metas("1"), "u2": metas("2")}, {"u1": metas("1", "3")}
    change = diff(joins={"u1": metas("4")}, leaves={"u1": metas("1")})
    sync_state(state, new)
    sync_diff(state, change)
    assert state == {"u1": metas("1"), "u2": metas("2")}
    assert new == {"u1": metas("1", "3")}
    assert change == diff(joins={"u1": metas("4")}, leaves={"u1": metas("1")})


def test_keys_may_be_any_text() -> None:
    state, _ = sync_state({}, {"__proto__": metas("1"), "constructor": metas("2"), "": metas("3")})
    state, _ = sync_diff(state, diff(leaves={"__proto__": metas("1")}))
    assert state == {"constructor": metas("2"), "": metas("3")}


def test_a_diff_before_the_state_waits_for_it() -> None:
    fold = PresenceFold()
    assert fold.apply_diff(diff(joins={"u2": metas("2")}), "1") is None
    assert fold.state == {}
    changes = fold.apply_state({"u1": metas("1")}, "1")
    assert fold.state == {"u1": metas("1"), "u2": metas("2")}
    assert [change.key for change in changes] == ["u1", "u2"]
    assert not fold.pending


def test_a_diff_after_a_rejoin_waits_for_the_new_state() -> None:
    fold = PresenceFold()
    fold.apply_state({"u1": metas("1")}, "1")
    assert fold.apply_diff(diff(leaves={"u1": metas("1")}), "5") is None
    assert fold.is_pending("5")
    assert fold.state == {"u1": metas("1")}
    fold.apply_state({"u1": metas("1"), "u2": metas("2")}, "5")
    assert fold.state == {"u2": metas("2")}


def test_a_diff_of_a_membership_without_a_state_does_not_apply_to_the_next_state() -> None:
    fold = PresenceFold()
    # The first membership ends before its state comes, and u1 leaves before the second membership begins.
    fold.apply_diff(diff(joins={"u1": metas("1")}), "1")
    fold.apply_diff(diff(joins={"u2": metas("2")}), "5")
    changes = fold.apply_state({}, "5")
    assert fold.state == {"u2": metas("2")}
    assert [change.key for change in changes] == ["u2"]
    assert not fold.pending


def test_a_rejoin_tells_only_what_changed_meanwhile() -> None:
    fold = PresenceFold()
    fold.apply_state({"u1": metas("1"), "u2": metas("2")}, "1")
    changes = fold.apply_state({"u2": metas("2"), "u3": metas("3")}, "7")
    assert changes == [
        PresenceJoin("u3", None, metas("3")),
        PresenceLeave("u1", {"metas": []}, metas("1")),
    ]


def test_an_update_is_a_join_and_a_leave_without_a_gap() -> None:
    fold = PresenceFold()
    fold.apply_state({"u1": metas("1", status="here")}, "1")
    changes = fold.apply_diff(
        diff(joins={"u1": metas("2", status="away")}, leaves={"u1": metas("1", status="here")}), "1"
    )
    assert fold.state == {"u1": metas("2", status="away")}
    assert changes is not None
    assert [type(change) for change in changes] == [PresenceJoin, PresenceLeave]

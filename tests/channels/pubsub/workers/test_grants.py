"""The table of grants: sessions of holders, and fences when the clock does not advance."""

from __future__ import annotations

import pytest

from channels.pubsub.adapter import Node
from channels.pubsub.workers.grants import (
    Acquire,
    Close,
    DueAlarms,
    Grants,
    NoSession,
    Open,
    Owned,
    OwnedBy,
    Release,
    SetAlarm,
    Transfer,
)

A, B = Node("a", "1"), Node("b", "1")


@pytest.fixture
def grants() -> Grants:
    grants = Grants()
    Open("auctions", 1, A).carry_out(grants, 1, 0)
    Open("auctions", 1, B).carry_out(grants, 2, 0)
    return grants


def test_a_fence_is_the_time_or_one_more_than_the_last_fence(grants: Grants) -> None:
    fences = []
    for number, now in enumerate((100, 100, 50, 200)):
        answer = Acquire("auctions", 1, str(number)).carry_out(grants, 1, now)
        assert isinstance(answer, Owned)
        fences.append(answer.fence)
    assert fences == [100, 101, 102, 200]


def test_a_fence_grows_for_the_next_owner_when_the_clock_was_set_back(grants: Grants) -> None:
    assert Acquire("auctions", 1, "42").carry_out(grants, 1, 1000) == Owned(1000)
    assert Release("auctions", 1, "42", 1000).carry_out(grants, 1, 10)
    assert Acquire("auctions", 1, "42").carry_out(grants, 2, 10) == Owned(1001)


def test_freeing_a_holder_frees_its_keys_in_all_tables_and_keeps_alarms(grants: Grants) -> None:
    Open("games", 1, A).carry_out(grants, 1, 0)
    for supervisor in ("auctions", "games"):
        Acquire(supervisor, 1, "42").carry_out(grants, 1, 7)
    assert SetAlarm("games", 1, "42", 5.0, 8).carry_out(grants, 1, 9)
    assert grants.keys_of(1) == 2
    assert grants.free(1) == [A]
    assert grants.free(1) == []
    assert grants.keys_of(1) == 0
    assert isinstance(Acquire("auctions", 1, "42").carry_out(grants, 2, 9), Owned)
    Open("games", 1, B).carry_out(grants, 2, 0)
    assert DueAlarms("games", 1, 6.0, 9).carry_out(grants, 2, 9) == [("42", 5.0)]


def test_requests_of_an_ended_session_are_refused(grants: Grants) -> None:
    Acquire("auctions", 1, "42").carry_out(grants, 1, 0)
    Open("auctions", 2, A).carry_out(grants, 1, 0)
    for request in (
        Acquire("auctions", 1, "43"),
        Release("auctions", 1, "42", 1),
        Close("auctions", 1),
        Open("auctions", 1, A),
        Open("auctions", 2, A),
    ):
        with pytest.raises(NoSession):
            request.carry_out(grants, 1, 0)
    assert isinstance(Acquire("auctions", 1, "42").carry_out(grants, 2, 0), Owned)


def test_a_key_is_transferred_to_the_present_session_of_the_target(grants: Grants) -> None:
    Open("auctions", 2, B).carry_out(grants, 2, 0)
    assert Acquire("auctions", 1, "42").carry_out(grants, 1, 10) == Owned(10)
    assert Transfer("auctions", 1, "42", 10, B).carry_out(grants, 1, 20) == 20
    assert Acquire("auctions", 2, "42").carry_out(grants, 2, 30) == Owned(
        20, arrived=True, sender=A
    )
    assert Acquire("auctions", 1, "42").carry_out(grants, 1, 30) == OwnedBy(B)


def test_a_table_forgets_cleared_alarms(grants: Grants) -> None:
    Acquire("auctions", 1, "42").carry_out(grants, 1, 1)
    for number in range(1000):
        assert SetAlarm("auctions", 1, "42", float(number), 1).carry_out(grants, 1, 1)
    assert SetAlarm("auctions", 1, "42", None, 1).carry_out(grants, 1, 1)
    assert DueAlarms("auctions", 1, 1e9, 10).carry_out(grants, 1, 1) == []
    assert grants.table("auctions").times == []

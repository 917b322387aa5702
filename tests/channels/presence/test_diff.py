"""The diffs of an interval become one diff for each topic."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from channels.presence.delta import Entry
from channels.presence.diff import NO_DIFF, Diff, DiffBuffer, by_topic

ANN, BOB, CEM = (
    Entry("a", topic, key, "pid 1", {"phx_ref": key})
    for topic, key in [("room:1", "ann"), ("room:1", "bob"), ("room:2", "cem")]
)


def test_a_diff_is_split_by_topic_in_order() -> None:
    parts = by_topic(Diff(joins=[BOB, CEM, ANN], leaves=[CEM]))
    assert parts == {"room:1": Diff([BOB, ANN], []), "room:2": Diff([CEM], [CEM])}
    assert by_topic(NO_DIFF) == {}


def test_an_empty_diff_is_false() -> None:
    assert not Diff([], [])
    assert Diff([ANN], [])
    assert Diff([], [ANN])


def test_the_diffs_of_an_interval_are_one() -> None:
    buffer = DiffBuffer()
    buffer.add(Diff(joins=[ANN, CEM]))
    buffer.add(Diff(joins=[BOB]))
    assert len(buffer) == 2
    assert buffer.take() == {"room:1": Diff([ANN, BOB], []), "room:2": Diff([CEM], [])}
    assert len(buffer) == 0
    assert buffer.take() == {}


def test_an_update_keeps_both_sides() -> None:
    newer = Entry("a", "room:1", "ann", "pid 1", {"phx_ref": "2"})
    buffer = DiffBuffer()
    buffer.add(Diff(joins=[newer], leaves=[ANN]))
    assert buffer.take() == {"room:1": Diff([newer], [ANN])}


def test_an_entry_that_comes_and_goes_within_an_interval_is_not_mentioned() -> None:
    buffer = DiffBuffer()
    buffer.add(Diff(joins=[ANN]))
    buffer.add(Diff(leaves=[ANN]))
    buffer.add(Diff(leaves=[BOB]))
    buffer.add(Diff(joins=[BOB]))
    assert buffer.take() == {}


def test_if_a_reader_saw_an_entry_join_all_see_it_join_and_leave() -> None:
    buffer = DiffBuffer()
    buffer.add(Diff(joins=[ANN]))
    buffer.note_read("room:2")
    buffer.note_read("room:1")
    buffer.add(Diff(leaves=[ANN]))
    assert buffer.take() == {"room:1": Diff([ANN], [ANN])}


def test_a_reader_that_came_later_sees_the_leave_of_an_entry_that_joined_in_between() -> None:
    buffer = DiffBuffer()
    buffer.add(Diff(joins=[ANN]))
    buffer.note_read("room:1")
    buffer.add(Diff(joins=[BOB]))
    buffer.note_read("room:1")
    buffer.add(Diff(leaves=[BOB]))
    assert buffer.take() == {"room:1": Diff([ANN, BOB], [BOB])}


ACTIONS = st.lists(st.sampled_from(["change", "read", "take"]), max_size=20)


@given(ACTIONS, st.booleans())
def test_everybody_who_applies_the_diffs_knows_the_truth(actions: list[str], present: bool) -> None:
    """A reader takes the list of members at some time, and applies all later diffs."""
    buffer = DiffBuffer()
    readers = [present]

    def take() -> None:
        diff = buffer.take().get("room:1", NO_DIFF)
        assert max(len(diff.joins), len(diff.leaves)) <= 1
        if diff:
            # A client applies the joins first, and then the leaves.
            readers[:] = [not diff.leaves for _ in readers]
        assert set(readers) == {present}

    for action in actions:
        if action == "change":
            present = not present
            buffer.add(Diff(joins=[ANN]) if present else Diff(leaves=[ANN]))
        elif action == "read":
            buffer.note_read("room:1")
            readers.append(present)
        else:
            take()
    take()

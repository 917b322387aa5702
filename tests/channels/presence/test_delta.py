"""Segments of the changes of one node."""

from __future__ import annotations

import pytest

from channels.presence.delta import Entry, Segment, merged, size_of

ENTRIES = {tag: Entry("a", "room:1", f"key {tag}", "pid 1", {"n": tag}) for tag in range(1, 20)}


def segment(
    start: int, end: int, *tags: int, removed: tuple[int, ...] = (), incarnation: int = 1
) -> Segment:
    return Segment(
        incarnation=incarnation,
        start=start,
        end=end,
        entries={tag: ENTRIES[tag] for tag in tags},
        removed=frozenset(removed),
    )


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        pytest.param(segment(0, 2, 1, 2), segment(2, 3, 3), segment(0, 3, 1, 2, 3), id="next"),
        pytest.param(segment(0, 2, 1, 2), segment(1, 3, 2, 3), segment(0, 3, 1, 2, 3), id="beside"),
        pytest.param(segment(0, 5, 1), segment(2, 4, 3), segment(0, 5, 1), id="within"),
        pytest.param(segment(2, 4, 3), segment(2, 5, 5), segment(2, 5, 5), id="same start"),
        pytest.param(segment(2, 5, 5), segment(3, 5, 5), segment(2, 5, 5), id="same end"),
        pytest.param(segment(1, 2), segment(1, 2), segment(1, 2), id="same"),
        pytest.param(
            segment(0, 2, 1, 2), segment(2, 3, removed=(1,)), segment(0, 3, 2), id="removed later"
        ),
        pytest.param(
            segment(4, 5, removed=(2,)),
            segment(5, 7, removed=(3, 4)),
            segment(4, 7, removed=(2, 3, 4)),
            id="removed before",
        ),
        pytest.param(
            segment(4, 7, 5, 6), segment(5, 8), segment(4, 8, 5), id="removed in what both cover"
        ),
    ],
)
def test_segments_without_a_gap_merge(one: Segment, other: Segment, both: Segment) -> None:
    assert merged(one, other) == both
    assert merged(other, one) == both


def test_segments_with_a_gap_do_not_merge() -> None:
    assert merged(segment(0, 2, 1), segment(3, 4, 4)) is None
    assert merged(segment(3, 4, 4), segment(0, 2, 1)) is None


def test_the_segment_of_the_newer_incarnation_wins() -> None:
    old, new = segment(0, 9, 1), segment(0, 1, 1, incarnation=2)
    assert merged(old, new) is new
    assert merged(new, old) is new


def test_a_merged_segment_lists_its_entries_by_ascending_tag() -> None:
    both = merged(segment(3, 9, 4, 6, 9), segment(0, 8, 1, 4, 6))
    assert both is not None
    assert list(both.entries) == [1, 4, 6, 9]


def test_the_size_counts_entries_and_removed_tags() -> None:
    assert segment(4, 7, 5, 7, removed=(1,)).size == 3
    assert size_of({"a": segment(0, 1, 1), "b": segment(2, 4, 4, removed=(1, 2))}) == 4
    assert size_of({}) == 0

"""Segments of the changes of one node."""

from __future__ import annotations

import pytest

from channels.presence.delta import Entry, Part, Segment, size_of

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


def part_of(first: Segment) -> Part:
    part = Part(first.incarnation, first.start)
    part.advance(first)
    return part


@pytest.mark.parametrize(
    ("first", "second", "both", "joined", "left"),
    [
        pytest.param(
            segment(0, 2, 1, 2), segment(2, 3, 3), segment(0, 3, 1, 2, 3), [3], [], id="next"
        ),
        pytest.param(
            segment(0, 2, 1, 2), segment(1, 3, 2, 3), segment(0, 3, 1, 2, 3), [3], [], id="overlap"
        ),
        pytest.param(
            segment(2, 4, 3), segment(2, 5, 5), segment(2, 5, 5), [5], [3], id="same start"
        ),
        pytest.param(
            segment(0, 4, 1, 2, 3), segment(0, 9, 2, 9), segment(0, 9, 2, 9), [9], [1, 3], id="all"
        ),
        pytest.param(
            segment(0, 2, 1, 2),
            segment(2, 3, removed=(1,)),
            segment(0, 3, 2),
            [],
            [1],
            id="removed later",
        ),
        pytest.param(
            segment(4, 5, removed=(2,)),
            segment(5, 7, removed=(3, 4)),
            segment(4, 7, removed=(2, 3, 4)),
            [],
            [],
            id="removed before",
        ),
        pytest.param(
            segment(4, 7, 5, 6),
            segment(5, 8),
            segment(4, 8, 5),
            [],
            [6],
            id="removed in what both cover",
        ),
    ],
)
def test_a_part_grows_with_a_segment_that_continues_it(
    first: Segment, second: Segment, both: Segment, joined: list[int], left: list[int]
) -> None:
    part = part_of(first)
    assert part.is_continued_by(second)
    new, gone = part.advance(second)
    assert [entry.meta["n"] for entry in new] == joined
    assert [entry.meta["n"] for entry in gone] == left
    assert part.segment() == both
    assert list(part.segment().entries) == sorted(both.entries)
    assert part.size == both.size


def test_only_later_ticks_of_the_same_run_without_a_gap_continue_a_part() -> None:
    part = part_of(segment(2, 5, 4))
    assert part.is_continued_by(segment(5, 6))
    assert part.is_continued_by(segment(2, 6))
    assert not part.is_continued_by(segment(6, 7))
    assert not part.is_continued_by(segment(2, 5))
    assert not part.is_continued_by(segment(1, 9))
    assert not part.is_continued_by(segment(5, 6, incarnation=2))


def test_a_segment_of_a_part_does_not_change_with_it() -> None:
    part = part_of(segment(0, 1, 1))
    before = part.segment()
    part.advance(segment(1, 3, 3, removed=(1,)))
    assert before == segment(0, 1, 1)


def test_the_size_counts_entries_and_removed_tags() -> None:
    assert segment(4, 7, 5, 7, removed=(1,)).size == 3
    assert size_of({"a": segment(0, 1, 1), "b": segment(2, 4, 4, removed=(1, 2))}) == 4
    assert size_of({}) == 0

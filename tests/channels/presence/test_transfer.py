"""Large deltas travel in pages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.presence.delta import Delta, size_of
from channels.presence.transfer import Assemblies, split
from tests.channels.presence.test_delta import segment

LARGE: Delta = {
    "a": segment(6, 14, 7, 9, 12, 13, 14, removed=(1, 2, 5)),
    "b": segment(0, 3),
    "c": segment(0, 4, 1, 3, 4),
}


def assembled(pages: list[Delta], assemblies: Assemblies | None = None) -> list[Delta | None]:
    assemblies = Assemblies() if assemblies is None else assemblies
    count = len(pages)
    return [assemblies.add("x", "r", index, count, page) for index, page in enumerate(pages)]


@given(st.integers(1, 15))
def test_the_pages_of_a_delta_are_the_delta(max_weight: int) -> None:
    pages = list(split(LARGE, max_weight))
    assert all(size_of(page) <= max_weight for page in pages)
    *before, whole = assembled(pages)
    assert whole == LARGE
    assert before == [None] * (len(pages) - 1)


def test_an_empty_delta_has_one_page() -> None:
    assert list(split({}, 10)) == [{}]
    assert assembled([{}]) == [{}]


def test_a_page_holds_as_much_as_its_weight_allows() -> None:
    pages = list(split({"a": LARGE["a"]}, 10, weight=lambda entry: entry.meta["n"], tag_weight=5))
    sizes = [(list(page["a"].entries), sorted(page["a"].removed)) for page in pages]
    # An entry that is heavier than a page has one of its own.
    expected = [([], [1, 2]), ([], [5]), ([7], []), ([9], []), ([12], []), ([13], []), ([14], [])]
    assert sizes == expected


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_transfer_with_a_lost_page_is_dropped(lost: int) -> None:
    assemblies = Assemblies()
    pages = list(split(LARGE, 3))
    for index, page in enumerate(pages):
        if index != lost:
            assert assemblies.add("x", "r", index, len(pages), page) is None
    assert len(assemblies) == 0
    assert assemblies.dropped == (1 if lost else 0)


def test_a_new_transfer_replaces_one_that_is_not_complete() -> None:
    assemblies = Assemblies()
    pages = list(split(LARGE, 3))
    assemblies.add("x", "old", 0, len(pages), pages[0])
    assert assembled(pages, assemblies)[-1] == LARGE
    assert assemblies.dropped == 1


def test_pages_of_a_transfer_that_is_not_under_way_are_ignored() -> None:
    assemblies = Assemblies()
    pages = list(split(LARGE, 3))
    assert assemblies.add("x", "r", 1, len(pages), pages[1]) is None
    assemblies.add("x", "r", 0, len(pages), pages[0])
    assert assemblies.add("x", "other", 1, len(pages), pages[1]) is None
    assert len(assemblies) == 1


def test_each_sender_has_a_transfer_of_its_own() -> None:
    assemblies = Assemblies()
    pages = list(split(LARGE, 6))
    for index, page in enumerate(pages):
        whole = [assemblies.add(sender, "r", index, len(pages), page) for sender in "xy"]
    assert whole == [LARGE, LARGE]


def test_a_transfer_that_is_too_large_is_dropped() -> None:
    assemblies = Assemblies(max_size=5)
    assert assembled(list(split(LARGE, 3)), assemblies)[-1] is None
    assert (len(assemblies), assemblies.dropped) == (0, 1)


@pytest.mark.parametrize(
    "page",
    [
        {"a": segment(0, 9, 2, incarnation=2)},
        {"a": segment(0, 8, 2)},
        {"a": segment(1, 9, 2)},
        {"a": segment(0, 9, 1)},
    ],
    ids=["another incarnation", "another end", "another start", "tags that do not ascend"],
)
def test_pages_that_do_not_belong_together_are_dropped(page: Delta) -> None:
    assemblies = Assemblies()
    assert assembled([{"a": segment(0, 9, 1)}, page], assemblies) == [None, None]
    assert (len(assemblies), assemblies.dropped) == (0, 1)


def test_what_came_from_a_node_that_is_down_is_dropped() -> None:
    assemblies = Assemblies()
    assemblies.add("x", "r", 0, 2, LARGE)
    assemblies.forget("x")
    assemblies.forget("y")
    assert len(assemblies) == 0

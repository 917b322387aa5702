"""The choice of a node for each key."""

from __future__ import annotations

from collections import Counter

from channels.entities.placement import MAX_CHOICES, Candidate, Placement, winner
from channels.pubsub.adapter import Node


def node(name: str, incarnation: str = "1") -> Node:
    return Node(name, incarnation)


def candidate(
    name: str,
    *,
    incarnation: str = "1",
    labels: tuple[str, ...] = (),
    draining: bool = False,
    drained: bool = False,
    heard: float = 0.0,
) -> Candidate:
    return Candidate(node(name, incarnation), frozenset(labels), draining, drained, heard)


KEYS = [f"key {number}" for number in range(3000)]


def test_keys_spread_evenly_and_few_move_when_a_node_comes() -> None:
    nodes = [node("a"), node("b"), node("c")]
    before = {key: winner(key, nodes) for key in KEYS}
    assert all(900 < count < 1100 for count in Counter(before.values()).values())
    after = {key: winner(key, [*nodes, node("d")]) for key in KEYS}
    moved = [key for key in KEYS if before[key] != after[key]]
    assert {after[key] for key in moved} == {node("d")}
    assert 650 < len(moved) < 850


def test_all_nodes_choose_alike_in_any_order_and_after_a_restart() -> None:
    assert winner("k", [node("a"), node("b")]) == winner("k", [node("b"), node("a")])
    one, other = winner("k", [node("a", "1"), node("b")]), winner("k", [node("a", "2"), node("b")])
    assert one is not None
    assert other is not None
    assert one.name == other.name
    assert winner("k", []) is None


def test_a_draining_node_gets_no_keys_unless_all_drain() -> None:
    placement = Placement(node("a"), ())
    assert placement.hear(candidate("b"))
    assert {placement.choose(key) for key in KEYS} == {node("a"), node("b")}
    assert placement.hear(candidate("b", draining=True))
    assert {placement.choose(key) for key in KEYS} == {node("a")}
    placement.drain(True)
    assert placement.takes_keys
    assert placement.choose("k") == node("a")
    placement.hear(candidate("b"))
    assert not placement.takes_keys
    assert placement.choose("k") == node("b")
    placement.note_draining(node("b"))
    assert placement.choose("k") == node("a")


def test_a_key_with_a_label_goes_only_to_nodes_that_have_it() -> None:
    placement = Placement(node("a"), ["gpu"])
    placement.hear(candidate("b", labels=("gpu", "big")))
    placement.hear(candidate("c"))
    assert {placement.choose(key, "gpu") for key in KEYS} == {node("a"), node("b")}
    assert placement.choose("k", "big") == node("b")
    assert placement.choose("k", "tpu") is None


def test_only_a_change_of_the_nodes_is_news() -> None:
    placement = Placement(node("a"), ())
    assert placement.hear(candidate("b", heard=1.0))
    assert not placement.hear(candidate("b", heard=2.0))
    assert placement.silent(2.0) == []
    assert placement.silent(2.5) == [node("b")]
    assert placement.hear(candidate("b", incarnation="2"))
    # A late hello of an earlier start changes nothing.
    assert not placement.hear(candidate("b", incarnation="1"))
    assert not placement.forget(node("b", "1"))
    assert placement.knows(node("b", "2"))
    assert placement.forget(node("b", "2"))
    assert not placement.knows(node("b", "2"))
    assert placement.knows(node("a"))


def test_a_drained_node_owns_no_keys() -> None:
    placement = Placement(node("a"), ())
    placement.hear(candidate("b", draining=True))
    assert placement.may_own(node("b"))
    placement.hear(candidate("b", draining=True, drained=True))
    assert not placement.may_own(node("b"))
    assert placement.may_own(node("a"))


def test_the_number_of_remembered_choices_is_bounded() -> None:
    placement = Placement(node("a"), ())
    for number in range(MAX_CHOICES + 5):
        placement.choose(str(number))
    assert len(placement._choices) <= MAX_CHOICES

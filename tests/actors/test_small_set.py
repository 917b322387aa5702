"""Ordered sets that usually have no item or one item."""

import random

import pytest

from actors.small_set import (
    SmallSet,
    Table,
    add_to,
    has_item,
    items_of,
    remove_from,
    view_of,
    with_item,
    without_item,
)


class Item:
    pass


def test_a_small_set_has_the_items_and_the_order_of_a_dict() -> None:
    items = [Item() for _ in range(4)]
    stream = random.Random(7)
    small: SmallSet[Item] = None
    expected: dict[Item, None] = {}
    for _ in range(500):
        item = stream.choice(items)
        if stream.random() < 0.5:
            small = with_item(small, item)
            expected[item] = None
        else:
            small = without_item(small, item)
            expected.pop(item, None)
        assert items_of(small) == tuple(expected) == tuple(view_of(small))
        assert [has_item(small, each) for each in items] == [each in expected for each in items]


def test_a_set_with_one_item_is_the_item_itself_and_an_empty_set_is_none() -> None:
    one, other = Item(), Item()
    assert with_item(None, one) is one
    assert with_item(one, one) is one
    assert without_item(one, one) is None
    both = with_item(one, other)
    assert without_item(without_item(both, one), other) is None


def test_removing_an_absent_item_changes_nothing() -> None:
    one, other, absent = Item(), Item(), Item()
    assert without_item(None, absent) is None
    assert without_item(one, absent) is one
    assert items_of(without_item(with_item(one, other), absent)) == (one, other)


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_items_stay_the_same_when_the_set_changes_during_an_iteration(count: int) -> None:
    items = [Item() for _ in range(count)]
    small: SmallSet[Item] = None
    for item in items:
        small = with_item(small, item)
    seen = []
    for item in items_of(small):
        small = without_item(small, item)
        seen.append(item)
    assert seen == items
    assert small is None


def test_a_view_of_a_large_set_is_no_copy() -> None:
    small = with_item(with_item(None, Item()), Item())
    view = view_of(small)
    small = with_item(small, Item())
    assert len(view) == len(items_of(small)) == 3


def test_a_table_of_small_sets_equals_a_dict_of_dicts_and_keeps_no_empty_set() -> None:
    items = [Item() for _ in range(3)]
    stream = random.Random(11)
    table: Table[str, Item] = {}
    expected: dict[str, dict[Item, None]] = {"a": {}, "b": {}}
    for _ in range(500):
        key, item = stream.choice("ab"), stream.choice(items)
        if stream.random() < 0.5:
            add_to(table, key, item)
            expected[key][item] = None
        else:
            removed = remove_from(table, key, item)
            assert removed == (item in expected[key])
            expected[key].pop(item, None)
        found = {key: items_of(small) for key, small in table.items()}
        assert found == {key: tuple(each) for key, each in expected.items() if each}

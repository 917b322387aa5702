"""The table of a registry is equal to a plain list of entries, but faster."""

from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from actors import Pid
from actors.registry._table import Entry, RegistryTable, strict

# Values that a dict would treat as one key, and others.
KEYS: list[Any] = ["a", 1, 1.0, True, (1, "a"), (1.0, "a"), frozenset({0}), frozenset({False})]


class OldestFirst:
    """A plain model of the table."""

    def __init__(self) -> None:
        self.entries: list[Entry[Any, int]] = []

    def of(self, key: Any) -> list[Entry[Any, int]]:
        return [entry for entry in self.entries if repr(entry.key) == repr(key)]

    def remove(self, gone: list[Entry[Any, int]]) -> list[Entry[Any, int]]:
        self.entries = [entry for entry in self.entries if all(entry is not one for one in gone)]
        return gone


keys = st.sampled_from(KEYS)
pids = st.integers(0, 3)
operations = st.one_of(
    st.tuples(st.just("add"), keys, pids, st.integers(0, 3)),
    st.tuples(st.just("remove"), keys, pids),
    st.tuples(st.just("remove even"), keys, pids),
    st.tuples(st.just("end"), pids),
)


@hypothesis.given(st.lists(operations, max_size=40))
def test_the_table_agrees_with_a_list_of_entries(script: list[Any]) -> None:
    table: RegistryTable[Any, int] = RegistryTable()
    model = OldestFirst()
    runtime: Any = None  # pids are only compared
    people = [Pid(number, runtime) for number in range(4)]
    for operation, *args in script:
        if operation == "add":
            key, number, value = args
            table.add(key, people[number], value)
            model.entries.append(Entry(key, people[number], value))
        elif operation == "end":
            pid = people[args[0]]
            gone = [entry for entry in model.entries if entry.pid is pid]
            assert table.remove_process(pid) == model.remove(gone)
        else:
            key, pid = args[0], people[args[1]]
            even = operation == "remove even"
            gone = [
                entry
                for entry in model.of(key)
                if entry.pid is pid and not (even and entry.value % 2)
            ]
            match = (lambda value: value % 2 == 0) if even else None
            assert table.remove(key, pid, match) == model.remove(gone)
    assert len(table) == len(model.entries)
    assert sorted(map(repr, table.entries())) == sorted(map(repr, model.entries))
    for key in KEYS:
        assert table.lookup(key) == model.of(key)
        assert table.first(key) == (model.of(key)[0] if model.of(key) else None)
    for pid in people:
        mine = [entry.key for entry in model.entries if entry.pid is pid]
        assert list(map(repr, table.keys(pid))) == list(map(repr, mine))
        assert table.has(pid) == bool(mine)
    assert set(table.pids()) == {entry.pid for entry in model.entries}


def test_keys_of_different_types_are_different() -> None:
    assert len({strict(key) for key in KEYS}) == len(KEYS)


def test_a_key_that_is_not_hashable_is_refused_with_advice() -> None:
    with pytest.raises(TypeError, match=r"the key \[1\] is not hashable.*write a string"):
        strict([1])
    with pytest.raises(TypeError, match=r"the key \{\} is not hashable"):
        strict(("a", ({},)))


def test_a_match_that_raises_removes_nothing() -> None:
    runtime: Any = None
    table: RegistryTable[str, int] = RegistryTable()
    pid = Pid(1, runtime)
    for value in (1, 0):
        table.add("key", pid, value)
    with pytest.raises(ZeroDivisionError):
        table.remove("key", pid, lambda value: 1 / value > 0)
    assert len(table) == 2


def test_a_match_function_may_remove_entries() -> None:
    runtime: Any = None
    table: RegistryTable[str, int] = RegistryTable()
    pid = Pid(1, runtime)
    for value in (1, 2):
        table.add("key", pid, value)

    def match(value: int) -> bool:
        table.remove_process(pid)
        return True

    assert table.remove("key", pid, match) == []
    assert len(table) == 0

"""The checks agree with brute force on random small histories, and end in time on large ones."""

from __future__ import annotations

import math
import random
from collections.abc import Hashable, Sequence
from typing import Any

import pytest
from msgspec import structs

from supervision.histories import (
    Fate,
    Lock,
    Model,
    Operation,
    Queue,
    Register,
    check_linearizable,
    check_sequential,
)

_MODELS: dict[str, Model[Any]] = {
    "register": Register(),
    "unique": Register(),
    "queue": Queue(),
    "lock": Lock(),
}


def _can_be_explained(operations: Sequence[Operation], model: Model[Any]) -> bool:
    """Try every order, as the definition says."""
    done = {number for number, each in enumerate(operations) if each.fate is Fate.DONE}
    seen: set[tuple[frozenset[int], Hashable]] = set()

    def extend(placed: frozenset[int], state: Hashable) -> bool:
        if done <= placed:
            return True
        if (placed, state) in seen:
            return False
        seen.add((placed, state))
        left = [number for number in range(len(operations)) if number not in placed]
        earliest = min(operations[number].end for number in left)
        for number in left:
            each = operations[number]
            if each.start > earliest:
                continue
            then, expected = model.step(state, each)
            fits = each.fate is Fate.OPEN or model.agrees(expected, each)
            if fits and extend(placed | {number}, then):
                return True
        return False

    return extend(frozenset(), model.init())


def _content(draw: random.Random, kind: str, number: int) -> tuple[str, tuple[Any, ...], Any]:
    value = draw.randint(0, 2)
    some = draw.choice([None, 0, 1, 2])
    flag = draw.random() < 0.5
    choices: dict[str, list[tuple[str, tuple[Any, ...], Any]]] = {
        "register": [
            ("write", (value,), None),
            ("read", (), some),
            ("compare_and_set", (value, draw.randint(0, 2)), flag),
        ],
        "unique": [("write", (number,), None), ("read", (), draw.choice([None, *range(8)]))],
        "queue": [("put", (value,), None), ("take", (), some)],
        "lock": [("acquire", (), draw.choice([None, 1, 2, 3])), ("release", (value + 1,), flag)],
    }
    return draw.choice(choices[kind])


def _random_history(draw: random.Random, kind: str) -> list[Operation]:
    operations: list[Operation] = []
    free_at: dict[str, int] = {}
    for number in range(draw.randint(1, 8)):
        client = draw.choice("abcd")
        start = free_at.get(client, 0) + draw.randint(0, 3)
        is_open = draw.random() < 0.15
        end = math.inf if is_open else start + draw.randint(0, 6)
        free_at[client] = start + 1 if is_open else int(end) + 1
        name, arguments, result = _content(draw, kind, number)
        operations.append(
            Operation(
                client=client,
                name=name,
                arguments=arguments,
                result=None if is_open else result,
                start=start,
                end=end,
                fate=Fate.OPEN if is_open else Fate.DONE,
            )
        )
    return sorted(operations, key=lambda each: (each.start, each.end))


DEEP = [
    pytest.param(first, 20_000, marks=pytest.mark.deep)
    for first in range(1_000_000, 1_100_000, 20_000)
]


@pytest.mark.parametrize(("first", "count"), [(0, 3000), *DEEP])
def test_the_check_agrees_with_brute_force_on_random_histories(first: int, count: int) -> None:
    verdicts = {True: 0, False: 0}
    for seed in range(first, first + count):
        draw = random.Random(seed)
        kind = draw.choice(list(_MODELS))
        history, model = _random_history(draw, kind), _MODELS[kind]
        expected = _can_be_explained(history, model)
        verdict = check_linearizable(history, model)
        assert verdict.ok is expected, f"seed {seed}: {verdict}"
        verdicts[expected] += 1
        if not expected:
            # The other operations may have had any effect, and still this window cannot be explained.
            rest = [
                each
                if each in verdict.window
                else Operation(
                    client=number,
                    name=each.name,
                    arguments=each.arguments,
                    start=each.start,
                    fate=Fate.OPEN,
                )
                for number, each in enumerate(history)
            ]
            assert not _can_be_explained(rest, model), f"seed {seed}: {verdict}"
    assert min(verdicts.values()) > count // 5


def _busy_history(
    draw: random.Random, *, values: int | None, keys: int, count: int = 1000, clients: int = 20
) -> list[Operation]:
    """Return a correct history of clients that are always busy. None makes each written value a new one."""
    model = Register()
    states = dict.fromkeys(range(keys), model.init())
    operations: list[Operation] = []
    free = list(range(clients))
    running: list[dict[str, Any]] = []
    position = number = 0
    while len(operations) < count:
        position += 1
        if free and (not running or draw.random() < 0.5):
            number += 1
            value = number if values is None else draw.randrange(values)
            name, arguments = draw.choice(
                [("write", (value,)), ("read", ())]
                if values is None
                else [
                    ("write", (value,)),
                    ("read", ()),
                    ("compare_and_set", (draw.randrange(values), value)),
                ]
            )
            client = free.pop(draw.randrange(len(free)))
            key = draw.randrange(keys)
            begun = {"client": client, "name": name, "arguments": arguments, "key": key}
            running.append({**begun, "start": position})
            continue
        each = draw.choice(running)
        if "result" not in each:
            operation = Operation(**each)
            states[each["key"]], each["result"] = model.step(states[each["key"]], operation)
        else:
            running.remove(each)
            free.append(each["client"])
            operations.append(Operation(**each, end=position))
    open_ones = [{**each, "result": None} for each in running]
    return [*operations, *(Operation(**each, fate=Fate.OPEN) for each in open_ones)]


@pytest.mark.parametrize(("values", "keys"), [(None, 1), (2, 1), (5, 20)])
def test_a_thousand_operations_of_twenty_busy_clients_are_checked(
    values: int | None, keys: int
) -> None:
    history = _busy_history(random.Random(1), values=values, keys=keys)
    verdict = check_linearizable(history, Register(), max_steps=1_000_000)
    assert verdict.ok is True


def test_a_wrong_answer_among_a_thousand_operations_is_found_and_shrunk_to_a_few() -> None:
    history = _busy_history(random.Random(2), values=5, keys=5)
    reads = [number for number, each in enumerate(history) if each.name == "read"]
    wrong = reads[len(reads) // 2]
    history[wrong] = structs.replace(history[wrong], result=99)
    verdict = check_linearizable(history, Register())
    assert verdict.ok is False
    assert history[wrong] in verdict.window
    assert len(verdict.window) < 10


def test_a_history_that_is_too_hard_is_unknown_and_never_correct() -> None:
    history = _busy_history(random.Random(0), values=5, keys=1)
    verdict = check_linearizable(history, Register(), max_steps=20_000)
    assert verdict.ok is None
    assert verdict.problem.startswith("unknown after 20,000 steps")
    with pytest.raises(AssertionError, match="unknown after"):
        verdict.require()


def test_a_check_that_reaches_its_time_limit_is_unknown() -> None:
    history = _busy_history(random.Random(0), values=5, keys=1)
    verdict = check_linearizable(history, Register(), timeout=0.01)
    assert verdict.ok is None
    assert verdict.problem.startswith("unknown after 0.01 s: the check of 1019 operations on 0 ")


def test_a_stale_read_is_sequential_and_not_linearizable() -> None:
    history = [
        Operation(client="a", name="write", arguments=(1,), start=1, end=2),
        Operation(client="b", name="read", result=None, start=3, end=4),
        Operation(client="b", name="read", result=1, start=5, end=6),
    ]
    assert check_sequential(history, Register()).ok is True
    assert check_linearizable(history, Register()).ok is False
    reordered = [
        history[0],
        *(
            Operation(client="b", name="read", result=result, start=start, end=start + 1)
            for result, start in [(1, 3), (None, 5)]
        ),
    ]
    assert check_sequential(reordered, Register()).ok is False


def _keeps_the_order_of_each_client(operations: Sequence[Operation], model: Model[Any]) -> bool:
    """Try every order that keeps the order of each client, as the definition of `sequential` says."""
    done = {number for number, each in enumerate(operations) if each.fate is Fate.DONE}

    def extend(placed: frozenset[int], state: Hashable) -> bool:
        if done <= placed:
            return True
        for number, each in enumerate(operations):
            earlier = {
                n
                for n, other in enumerate(operations[:number])
                if other.client == each.client and n in done and each.fate is Fate.DONE
            }
            if number in placed or not earlier <= placed:
                continue
            then, expected = model.step(state, each)
            fits = each.fate is Fate.OPEN or model.agrees(expected, each)
            if fits and extend(placed | {number}, then):
                return True
        return False

    return extend(frozenset(), model.init())


def test_the_sequential_check_agrees_with_brute_force_on_random_histories() -> None:
    verdicts = {True: 0, False: 0}
    for seed in range(600):
        draw = random.Random(seed)
        kind = draw.choice(list(_MODELS))
        history, model = _random_history(draw, kind)[:6], _MODELS[kind]
        expected = _keeps_the_order_of_each_client(history, model)
        assert check_sequential(history, model).ok is expected, f"seed {seed}"
        verdicts[expected] += 1
    assert min(verdicts.values()) > 60

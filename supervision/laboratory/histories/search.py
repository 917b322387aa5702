"""Searches for an order of the operations that explains their results.

*pure*. `in_real_time` looks for a linearization: one order of all operations, in which each operation lies between its
start and its end, and gives the result of the model. `in_client_order` only keeps the order of each client.

Deciding this is NP-complete, and no single search suffices. The first search goes depth first, and proves a correct
history quickly, because it places the operation with the earliest end first. The second goes breadth first over the
starts and ends, and refutes a wrong history quickly, because it sees the end at which no order is left. So
`in_real_time` gives the first a part of the steps, and the rest to the second.

Both place an operation that never changes any state as soon as its result is right, and undo it only with the operation
before it. This is sound only for operations that the model declares as `reads`. (An operation that merely does not
change the *present* state may have to wait for another one.)

Sources: Wing and Gong, "Testing and verifying concurrent objects"; Lowe, "Testing for linearizability".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeAlias

import msgspec

from supervision.laboratory.histories.models import Model
from supervision.laboratory.histories.operations import Fate, Operation

__all__ = ["Budget", "Found", "in_client_order", "in_real_time"]

Pair: TypeAlias = tuple[int, Hashable]
_Order: TypeAlias = "tuple[_Order, int] | None"

# The steps of the search depth first: about half a second. If it has found no order until then, it rarely does.
_DEPTH_FIRST = 500_000
# The most pairs of placed operations and a state that a search remembers. A pair takes about 200 bytes.
_MAX_PAIRS = 1_000_000


class Budget:
    """The steps of the model that a check may take, and the time at which it ends.

    Args:
        steps: the steps. A simulated run has no other limit, because its clock stands still meanwhile.
        is_late: a function that returns True after the time limit.
    """

    __slots__ = ("is_late", "left")

    def __init__(self, steps: int, is_late: Callable[[], bool]) -> None:
        self.left = steps
        self.is_late = is_late

    def part(self, steps: int) -> Budget:
        """Return a budget with some of the steps that are left, and take them from this one."""
        steps = min(steps, self.left)
        self.left -= steps
        return Budget(steps, self.is_late)

    def spend(self) -> bool:
        """Take one step from the budget. Return False if no step or no time is left."""
        self.left -= 1
        # The time is expensive to read, compared with a step.
        return self.left >= 0 and (self.left % 1024 != 0 or not self.is_late())


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a search.

    Attributes:
        order: positions of operations, in an order that explains them; None if there is no such order, or if the search
            has not ended.
        ended: False if the budget ran out.
        longest: an order with the most answered operations that the search could explain. If there is no order of all,
            no other answered operation fits behind it.
    """

    order: tuple[int, ...] | None
    ended: bool = True
    longest: tuple[int, ...] = ()


def in_real_time(
    operations: Sequence[Operation], model: Model[Any], budget: Budget, *, repeats: bool = False
) -> Found:
    """Look for a linearization of operations that all act on one object.

    Args:
        operations: operations in the order of their starts.
        model: the model.
        budget: the most steps of the model.
        repeats: let an operation without an answer have its effect any number of times. More histories have an order
            then, but a search with many such operations is much shorter.
    """
    operations = _without_open_reads(operations, model)
    if repeats:
        return _depth_first(operations, model, budget.part(_DEPTH_FIRST), repeats=True)
    part = budget.part(_DEPTH_FIRST)
    first = _depth_first(operations, model, part)
    budget.left += max(0, part.left)
    if first.ended:
        return first
    second = _breadth_first(operations, model, budget)
    return second if second.ended else msgspec.structs.replace(second, longest=first.longest)


def _without_open_reads(operations: Sequence[Operation], model: Model[Any]) -> list[Operation]:
    """Leave out the reads without an answer, which explain nothing."""
    return [
        each for each in operations if each.fate is not Fate.OPEN or each.name not in model.reads
    ]


class _Chain:
    """The operations that a search has not placed, in one order. Placed ones can return in reverse order."""

    __slots__ = ("after", "before")

    def __init__(self, order: Sequence[int], size: int) -> None:
        # The position `size` is both ends of the chain.
        self.after = [size] * (size + 1)
        self.before = [size] * (size + 1)
        last = size
        for each in order:
            self.after[last], self.before[each] = each, last
            last = each
        self.after[last], self.before[size] = size, last

    def remove(self, position: int) -> None:
        before, after = self.before[position], self.after[position]
        self.after[before], self.before[after] = after, before

    def restore(self, position: int) -> None:
        self.after[self.before[position]] = self.before[self.after[position]] = position


def _depth_first(  # noqa: C901, PLR0915 - one search, whose steps share all variables
    operations: Sequence[Operation], model: Model[Any], budget: Budget, *, repeats: bool = False
) -> Found:
    size = len(operations)
    bits = [
        0 if repeats and each.fate is Fate.OPEN else 1 << number
        for number, each in enumerate(operations)
    ]
    most = 4 * size
    starts = _Chain(range(size), size)
    ends = _Chain(sorted(range(size), key=lambda each: operations[each].end), size)
    left = sum(each.fate is Fate.DONE for each in operations)
    seen: set[Pair] = set()
    order: list[int] = []
    longest: tuple[int, ...] = ()
    # The smallest number of answered operations that are left behind any order. Operations without an answer do not
    # count, because an order may always contain more of them.
    least = left
    state = model.init()
    placed = 0
    # For each placed operation: the state before it, and the other candidates for its place.
    frames: list[tuple[Any, list[int]]] = []

    def candidates() -> list[int]:
        """Return the operations that may come next: no operation that is left has ended before their start."""
        earliest = ends.after[size]
        limit = operations[earliest].end if earliest != size else math.inf
        found = []
        each = starts.after[size]
        while each != size and operations[each].start <= limit:
            found.append(each)
            each = starts.after[each]
        # The last one comes first: a read; then the operation that must come first of all, or one that makes it
        # possible; then the others by their ends.
        urgent = operations[earliest] if earliest != size else None

        def rank(each: int) -> tuple[bool, bool, float]:
            operation = operations[each]
            if operation.name in model.reads:
                return True, True, -operation.end
            helps = False
            if urgent is not None and urgent is not operation:
                budget.left -= 2
                then, _ = model.step(state, operation)
                helps = model.agrees(model.step(then, urgent)[1], urgent)
            return False, helps, -operation.end

        found.sort(key=rank)
        return found

    waiting = candidates()
    while left:
        following = None
        while waiting:
            # Repeated operations may lead to ever new states, such as those of a queue.
            if not budget.spend() or len(order) > most:
                return Found(order=None, ended=False, longest=longest)
            each = waiting.pop()
            operation = operations[each]
            then, expected = model.step(state, operation)
            if operation.fate is Fate.DONE and not model.agrees(expected, operation):
                continue
            pair = (placed | bits[each], then)
            if pair not in seen:
                if len(seen) >= _MAX_PAIRS:
                    return Found(order=None, ended=False, longest=longest)
                seen.add(pair)
                following = each, then
                break
            if operation.name in model.reads:
                # This read could come here without loss, and what follows it is known to fail.
                waiting.clear()
        if following is not None:
            each, then = following
            # A legal read needs no alternative.
            frames.append((state, [] if operations[each].name in model.reads else waiting))
            state, placed = then, placed | bits[each]
            if bits[each]:
                starts.remove(each)
                ends.remove(each)
            order.append(each)
            left -= operations[each].fate is Fate.DONE
            if left < least:
                least, longest = left, tuple(order)
            waiting = candidates()
            continue
        if not frames:
            return Found(order=None, longest=longest)
        each = order.pop()
        state, waiting = frames.pop()
        placed ^= bits[each]
        if bits[each]:
            ends.restore(each)
            starts.restore(each)
        left += operations[each].fate is Fate.DONE
    return Found(order=tuple(order), longest=tuple(order))


def _breadth_first(  # noqa: C901, PLR0912 - one search, whose steps share all variables
    operations: Sequence[Operation], model: Model[Any], budget: Budget
) -> Found:
    """Keep every pair of the placed pending operations and the state, and extend all pairs at each end."""
    # At equal positions, a start comes before an end, so that the two operations overlap.
    events = sorted(
        [(each.start, 0, number) for number, each in enumerate(operations)]
        + [
            (each.end, 1, number)
            for number, each in enumerate(operations)
            if each.fate is Fate.DONE
        ]
    )
    pending: list[int] = []
    # Each order is a chain of pairs, which share their beginnings.
    pairs: dict[Pair, _Order] = {(0, model.init()): None}
    for _, is_end, number in events:
        if not is_end:
            pending.append(number)
            continue
        after: dict[Pair, _Order] = {}
        seen = set(pairs)
        stack = list(pairs.items())
        while stack:
            (placed, state), order = stack.pop()
            if placed >> number & 1:
                after.setdefault((placed ^ 1 << number, state), order)
                continue
            following: list[tuple[Pair, _Order]] = []
            for each in pending:
                if placed >> each & 1:
                    continue
                if not budget.spend():
                    return Found(order=None, ended=False)
                operation = operations[each]
                then, expected = model.step(state, operation)
                if operation.fate is Fate.DONE and not model.agrees(expected, operation):
                    continue
                pair = (placed | 1 << each, then)
                if operation.name in model.reads:
                    following = [(pair, (order, each))]
                    break
                following.append((pair, (order, each)))
            for pair, longer in following:
                if pair not in seen:
                    if len(seen) >= _MAX_PAIRS:
                        return Found(order=None, ended=False)
                    seen.add(pair)
                    stack.append((pair, longer))
        if not after:
            return Found(order=None, longest=max(map(_unrolled, pairs.values()), key=len))
        pairs = after
        pending.remove(number)
    whole = _unrolled(next(iter(pairs.values())))
    return Found(order=whole, longest=whole)


def _unrolled(order: _Order) -> tuple[int, ...]:
    found: list[int] = []
    while order is not None:
        order, last = order
        found.append(last)
    return tuple(reversed(found))


def in_client_order(  # noqa: C901, PLR0912 - one search, whose steps share all variables
    operations: Sequence[Operation], model: Model[Any], budget: Budget, *, repeats: bool = False
) -> Found:
    """Look for an order that keeps the order of each client's operations, on all keys together.

    Args:
        operations: operations in the order of their starts.
        model: the model.
        budget: the most steps of the model.
        repeats: as for `in_real_time`.
    """
    lanes: dict[Hashable, list[int]] = {}
    for number, operation in enumerate(operations):
        # An open operation may take effect after the later ones of its client.
        key = (operation.client, number if operation.fate is Fate.OPEN else None)
        lanes.setdefault(key, []).append(number)
    clients = list(lanes.values())
    total = sum(each.fate is Fate.DONE for each in operations)
    begin = (0,) * len(clients)
    seen: set[tuple[tuple[int, ...], Hashable]] = set()
    stack: list[tuple[tuple[int, ...], Any, tuple[int, ...], int]] = [(begin, model.init(), (), 0)]
    longest: tuple[int, ...] = ()
    most = 0
    while stack:
        places, state, order, done = stack.pop()
        if done == total:
            return Found(order=order, longest=order)
        if done > most:
            most, longest = done, order
        following: list[tuple[tuple[int, ...], Any, tuple[int, ...], int]] = []
        for index, lane in enumerate(clients):
            if places[index] == len(lane):
                continue
            each = lane[places[index]]
            operation = operations[each]
            moved = (*places[:index], places[index] + 1, *places[index + 1 :])
            if repeats and operation.fate is Fate.OPEN:
                moved = places
            if not budget.spend() or len(order) > 4 * len(operations):
                return Found(order=None, ended=False, longest=longest)
            then, expected = model.step(state, operation)
            if operation.fate is Fate.DONE and not model.agrees(expected, operation):
                continue
            entry = (moved, then, (*order, each), done + (operation.fate is Fate.DONE))
            if operation.name in model.reads and operation.fate is Fate.DONE:
                following = [entry]
                break
            following.append(entry)
        for entry in following:
            pair = (entry[0], entry[1])
            if pair not in seen:
                if len(seen) >= _MAX_PAIRS:
                    return Found(order=None, ended=False, longest=longest)
                seen.add(pair)
                stack.append(entry)
    return Found(order=None, longest=longest)

"""The check of a register whose writes all have different values. It takes linear time, after sorting.

*pure*. Each write forms a group with the reads of its value. Let f be the earliest end in a group, and s its latest
start. If f < s, the register certainly had this value from f to s: a *forward* zone. Otherwise the group fits into one
moment between s and f: a *backward* zone. A history is linearizable if each read returns a written value and does not
end before its write starts, if no two forward zones overlap, and if no forward zone contains a backward one.

Source: Gibbons and Korach, "Testing shared memories".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from supervision.laboratory.histories.models import Model, Register
from supervision.laboratory.histories.operations import Fate, Operation

__all__ = ["applies", "conflict"]


def applies(operations: Sequence[Operation], model: Model[object]) -> bool:
    """Return True if these operations are reads of a register and writes of different values."""
    if type(model) is not Register:
        return False
    values = [model.first]
    for each in operations:
        if each.name == "write" and len(each.arguments) == 1:
            values.append(each.arguments[0])
        elif each.name != "read":
            return False
    try:
        hash(tuple(each.result for each in operations))
        return len(set(values)) == len(values)
    except TypeError:
        # The search tells the user that the values must be hashable.
        return False


def conflict(  # noqa: C901 - the three rules of the theorem, in its order
    operations: Sequence[Operation], first: object
) -> tuple[Operation, ...] | None:
    """Return operations that no order explains together, or None if the history is linearizable.

    Args:
        operations: operations for which `applies` is True.
        first: the value before the first write.
    """
    writes: dict[object, Operation] = {
        each.arguments[0]: each for each in operations if each.name == "write"
    }
    reads: dict[object, list[Operation]] = {}
    for each in operations:
        if each.name != "read" or each.fate is not Fate.DONE:
            continue
        value = each.result
        write = writes.get(value)
        if write is None and value != first:
            return (each,)
        if write is not None and each.end < write.start:
            return (write, each)
        reads.setdefault(value, []).append(each)
    zones: list[tuple[float, float, tuple[Operation, ...]]] = []
    for value, write in writes.items():
        group = (write, *reads.get(value, ()))
        if write.fate is Fate.OPEN and len(group) == 1:
            # Nobody has seen it, so it may have had no effect.
            continue
        zones.append(_zone(group))
    # The first value was written before everything else.
    group = tuple(reads.get(first, ()))
    if group:
        latest = max(group, key=lambda each: each.start)
        zones.append((-math.inf, latest.start, (latest,)))
    forward = sorted((each for each in zones if each[0] < each[1]), key=lambda each: each[0])
    for (_, end, one), (start, _, other) in pairwise(forward):
        if start < end:
            return (*one, *other)
    backward = sorted(
        ((each[1], each[0], each[2]) for each in zones if each[0] >= each[1]),
        key=lambda each: each[:2],
    )
    place = 0
    for start, end, members in backward:
        while place < len(forward) and forward[place][1] < start:
            place += 1
        if place < len(forward) and forward[place][0] < start and end < forward[place][1]:
            return (*forward[place][2], *members)
    return None


def _zone(group: Sequence[Operation]) -> tuple[float, float, tuple[Operation, ...]]:
    """Return the earliest end and the latest start of a group, and the operations that set them."""
    first = min(group, key=lambda each: each.end)
    last = max(group, key=lambda each: each.start)
    return first.end, last.start, tuple(dict.fromkeys((group[0], first, last)))

"""The picture of operations as text: a lane for each client, a bar for each operation.

*pure*.

    a  |--- write(1) -> None ---|
    b       |- read() -> None -|
    c                              |- read() -> None -|
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

from supervision.laboratory.histories.operations import Fate, Operation

__all__ = ["lanes"]


def lanes(operations: Sequence[Operation], *, width: int = 100) -> str:
    """Return lanes for the clients, from left to right in the order of events.

    The distances show only the order, so that every text has room.

    Args:
        operations: the operations, such as the window of a verdict.
        width: the most characters of a line. A longer picture is cut, and ends with an ellipsis.
    """
    labels = {number: _label(each) for number, each in enumerate(operations)}
    # A column for each start and end, and at equal positions the starts first, because the operations overlap.
    moments = sorted(
        [(each.start, 0, number) for number, each in enumerate(operations)]
        + [(each.end, 1, number) for number, each in enumerate(operations)]
    )
    starts: dict[int, int] = {}
    ends: dict[int, int] = {}
    column = 0
    for position, is_end, number in moments:
        if not is_end:
            starts[number] = column
        else:
            # The bar has room for its label: "|- label -|".
            column = max(column, starts[number] + len(labels[number]) + 5)
            ends[number] = column
            if position == math.inf:
                continue
        column += 1
    margin = max((len(str(each.client)) for each in operations), default=0) + 2
    rows: dict[Hashable, list[str]] = {}
    for number, each in enumerate(operations):
        row = rows.setdefault(each.client, [])
        row += " " * (ends[number] + 1 - len(row))
        row[starts[number] : ends[number] + 1] = _bar(
            labels[number], ends[number] + 1 - starts[number], is_open=each.fate is Fate.OPEN
        )
    lines = [f"{client!s:<{margin}}{''.join(row).rstrip()}" for client, row in rows.items()]
    return "\n".join(line if len(line) <= width else f"{line[: width - 3]}..." for line in lines)


def _label(operation: Operation) -> str:
    return str(operation).partition(": ")[2]


def _bar(label: str, width: int, *, is_open: bool) -> list[str]:
    inner = f" {label} ".center(width - 2, "-")
    return list(f"|{inner}{'?' if is_open else '|'}")

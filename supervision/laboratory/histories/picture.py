"""The picture of operations as text: a lane for each client, a bar for each operation.

*pure*.

    a  |--- write(1) -> None ---|
    b       |- read() -> None -|
    c                              |- read() -> None -|

The bar of an operation without an answer ends with a question mark. `page_files/lanes.js` of the page of a run finds
the bars in this text, and draws them.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

from msgspec import structs

from supervision.laboratory.histories.operations import Fate, Operation

__all__ = ["lanes"]


def lanes(operations: Sequence[Operation], *, width: int = 100) -> str:
    """Return lanes for the clients, from left to right in the order of events.

    The distances show only the order, so that every text has room. In a picture that is too wide, the bars have
    numbers, and a list below it has the operations.

    Args:
        operations: the operations, such as the window of a verdict.
        width: the most characters of a line. A line that is still longer ends with an ellipsis.
    """
    if len({each.key for each in operations}) == 1:
        operations = [structs.replace(each, key=None) for each in operations]
    labels = [str(each).partition(": ")[2] for each in operations]
    lines = _lanes(operations, labels)
    if any(len(line) > width for line in lines):
        lines = _lanes(operations, [str(number) for number in range(1, len(labels) + 1)])
        lines += [f"{number}: {label}" for number, label in enumerate(labels, 1)]
    return "\n".join(line if len(line) <= width else f"{line[: width - 3]}..." for line in lines)


def _lanes(operations: Sequence[Operation], labels: Sequence[str]) -> list[str]:
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
    return [f"{client!s:<{margin}}{''.join(row).rstrip()}" for client, row in rows.items()]


def _bar(label: str, width: int, *, is_open: bool) -> list[str]:
    inner = f" {label} ".center(width - 2, "-")
    return list(f"|{inner}{'?' if is_open else '|'}")

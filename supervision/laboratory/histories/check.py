"""The checks of a history, and their verdicts."""

from __future__ import annotations

import math
import time
from bisect import bisect_left
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, TypeAlias

import msgspec
from msgspec import structs

from actors.arguments import check_positive
from actors.errors import ActorsError
from actors.text import brief
from supervision.laboratory.histories import registers
from supervision.laboratory.histories.models import Model, Register
from supervision.laboratory.histories.operations import Fate, Operation, by_key, checked
from supervision.laboratory.histories.picture import lanes
from supervision.laboratory.histories.search import Budget, Found, in_client_order, in_real_time

__all__ = ["NotExplained", "Verdict", "check_linearizable", "check_sequential"]


_Search: TypeAlias = Callable[..., Found]

_SHOWN = 3  # the most operations that a sentence names
_EXPLANATION = 100_000  # the most steps for that sentence
_HASHABLE = "A state must be hashable, such as a tuple or a frozenset"

DEFAULT_MAX_STEPS = 20_000_000
"""The most steps of the model. Python takes about a microsecond for each."""


class NotExplained(ActorsError, AssertionError):
    """A history breaks its model, or the check did not end.

    Attributes:
        verdict: the verdict.
    """

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict)
        self.verdict = verdict


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a check.

    Attributes:
        property: the property: `"linearizable"`, `"sequential"` and so on.
        ok: True if the history has the property; False if it does not; None if the check ended at its limit.
        problem: a sentence that says why; empty if the history has the property.
        operations: the number of operations that were checked.
        window: the smallest group of operations that was found to break the property, in the order of their starts.
    """

    property: str
    ok: bool | None
    problem: str = ""
    operations: int = 0
    window: tuple[Operation, ...] = ()

    def __str__(self) -> str:
        if self.ok:
            return f"{self.operations} operations are {self.property}"
        return "\n".join(filter(None, (self.problem, lanes(self.window))))

    def require(self) -> None:
        """Raise NotExplained unless the history has the property. A check that did not end raises, too."""
        if not self.ok:
            raise NotExplained(self)


def check_linearizable(
    history: Iterable[Operation],
    model: Model[Any],
    *,
    timeout: float = 30.0,
    max_steps: int = DEFAULT_MAX_STEPS,
) -> Verdict:
    """Check that one order of the operations explains all results, with each operation between its start and its end.

        verdict = check_linearizable(history, Register())
        verdict.require()

    The check looks at each key alone, because a history is linearizable if that of each object is (Herlihy and Wing).
    An operation without an answer may have had its effect, or not; the check accepts both.

    Args:
        history: the operations.
        model: the model of the object behind each key.
        timeout: seconds for the check. In a simulated run its clock stands still, so that only `max_steps` counts.
        max_steps: the most steps of the model.

    Returns:
        The verdict. `ok` is None if the check reached a limit, and never True then.

    Raises:
        InvalidArgument: an operation is malformed, or the model does not have it.
        Exception: an exception of the model, with a note that names the operation.
    """
    return _check(history, model, "linearizable", by_key, in_real_time, timeout, max_steps)


def check_sequential(
    history: Iterable[Operation],
    model: Model[Any],
    *,
    timeout: float = 30.0,
    max_steps: int = DEFAULT_MAX_STEPS,
) -> Verdict:
    """Check that one order explains all results and keeps the order of each client's operations, but no other.

    So an answer may be old, as long as no client sees the past return. All keys are in one order, so the model must
    know the keys. The check suits about 100 operations. See `check_linearizable`.
    """
    return _check(history, model, "sequential", _all, in_client_order, timeout, max_steps)


def _all(operations: list[Operation]) -> dict[Hashable, list[Operation]]:
    return {None: operations}


def _check(  # noqa: PLR0917 - the two checks differ in these only
    history: Iterable[Operation],
    model: Model[Any],
    name: str,
    parts_of: Callable[[list[Operation]], dict[Hashable, list[Operation]]],
    search: _Search,
    timeout: float,
    max_steps: int,
) -> Verdict:
    check_positive(f"check_{name}", "timeout", timeout)
    check_positive(f"check_{name}", "max_steps", max_steps)
    operations = checked(history)
    end = time.monotonic() + timeout
    budget = Budget(max_steps, lambda: time.monotonic() > end)
    guarded = _Guarded(model)
    unknown: Verdict | None = None
    for key, part in parts_of(operations).items():
        where = "" if key is None else f" on {brief(key)}"
        if name == "linearizable" and registers.applies(part, model):
            assert isinstance(model, Register)
            contradiction = registers.conflict(part, model.first)
            if contradiction is not None:
                these = sorted(contradiction, key=lambda each: (each.start, each.end))
                return _broken(name, where, operations, these, frozenset(), guarded, search)
            continue
        found = search(part, guarded, budget)
        if found.order is not None:
            continue
        if found.ended:
            again = Budget(max_steps // 4, budget.is_late)
            opened = _shrunk(part, guarded, search, again)
            return _broken(name, where, operations, part, opened, guarded, search)
        limit = (
            f"{timeout:g} s" if budget.is_late() else f"{max_steps:,} steps or the memory for them"
        )
        unknown = Verdict(
            property=name,
            ok=None,
            problem=f"unknown after {limit}: the check of {len(part)} operations{where} did not end. It explained "
            f"{len(found.longest)} of them in one order. Record fewer operations, or give them keys",
            operations=len(operations),
        )
    return unknown or Verdict(property=name, ok=True, operations=len(operations))


def _broken(  # noqa: PLR0917 - the parts of one verdict
    name: str,
    where: str,
    operations: Sequence[Operation],
    part: Sequence[Operation],
    opened: frozenset[int],
    model: Model[Any],
    search: _Search,
) -> Verdict:
    """Return the verdict about operations that break the model, although some of them may have had any effect."""
    numbers = [n for n, each in enumerate(part) if n not in opened or each.name not in model.reads]

    def explained(
        numbers: list[int], *, repeats: bool = False
    ) -> tuple[list[Operation], Found, int]:
        trial = [_opened(part[n]) if n in opened else part[n] for n in numbers]
        found = search(trial, model, _explanation(), repeats=repeats)
        return trial, found, sum(numbers[place] not in opened for place in found.longest)

    # Of the others, keep those that the longest order needs.
    _, found, _ = explained(numbers, repeats=True)
    used = {numbers[place] for place in found.longest}
    numbers = [n for n in numbers if n not in opened or n in used]
    trial, found, count = explained(numbers)
    for n in sorted(opened.intersection(numbers)):
        fewer = [each for each in numbers if each != n]
        if found.ended and explained(fewer)[2] == count:
            numbers = fewer
    rest = [each if n in numbers else _opened(each) for n, each in enumerate(part)]
    if not any(_is_broken(rest, model, search, _explanation(), repeats=r) for r in (True, False)):
        # The model treats an operation differently if its client got no answer, as `Lock` does.
        numbers = [n for n in numbers if n not in opened]
    trial, found, _ = explained(numbers)
    window = tuple(part[n] for n in numbers)
    problem = (
        f"no order of these {len(window)} operations{where} gives the results that the clients got"
    )
    if len(window) == 1:
        problem = f"no operation{where} explains the result of `{_without_key(window[0])}`"
    elif found.ended and found.order is None:
        # At the end of the longest order, no other operation has a result that the model explains.
        state = model.init()
        for place in found.longest:
            state, _ = model.step(state, trial[place])
        left = (n for n, each in enumerate(trial) if n not in found.longest)
        stuck = min((trial[n] for n in left), key=lambda each: each.end)
        last = found.longest[-_SHOWN:]
        before = [f"`{_without_key(part[numbers[place]])}`" for place in last]
        after = f"after {', '.join(before)}" if before else "at the beginning"
        answer = brief(model.step(state, stuck)[1])
        problem += f": {after}, a correct answer to `{_without_key(stuck)}` is {answer}"
    return Verdict(
        property=name,
        ok=False,
        problem=f"not {name}: {problem}",
        operations=len(operations),
        window=window,
    )


def _without_key(operation: Operation) -> Operation:
    """Return an operation for a sentence that has named the key."""
    return structs.replace(operation, key=None)


class _Guarded(Model[Any]):
    """A model whose exceptions name the operation."""

    def __init__(self, model: Model[Any]) -> None:
        self._model = model
        self.reads = model.reads  # type: ignore[misc] # the reads of this model, not of the class

    def init(self) -> Any:
        first = self._model.init()
        try:
            hash(first)
        except TypeError as error:
            error.add_note(
                f"{type(self._model).__name__}.init returned {brief(first)}; {_HASHABLE}"
            )
            raise
        return first

    def step(self, state: Any, operation: Operation) -> tuple[Any, Any]:
        try:
            following, result = self._model.step(state, operation)
            hash(following)
        except Exception as error:
            error.add_note(
                f"{type(self._model).__name__}.step got `{operation}` in the state {brief(state)}; it returns the next "
                f"state and the result. {_HASHABLE}"
            )
            raise
        return following, result

    def agrees(self, expected: Any, operation: Operation) -> bool:
        try:
            return self._model.agrees(expected, operation)
        except Exception as error:
            error.add_note(
                f"{type(self._model).__name__} cannot compare the result {brief(expected)} with that of `{operation}`"
            )
            raise


def _shrunk(
    operations: Sequence[Operation],
    model: Model[Any],
    search: _Search,
    budget: Budget,
) -> frozenset[int]:
    """Return the numbers of operations that may have had any effect, although the others break the model.

    Ends early if the budget does.
    """
    # The beginning of a linearizable history is linearizable. So find the first answer at which it is not.
    ends = sorted(each.end for each in operations if each.fate is Fate.DONE)
    first = bisect_left(
        ends, True, key=lambda end: _is_broken(_until(operations, end), model, search, budget)
    )
    last = ends[min(first, len(ends) - 1)]
    # Those after it are open reads or open writes, which nothing needs.
    certain = [_opened(each) if each.end > last else each for each in operations]
    # Leaving out an operation whose effect another one has seen would make a break of its own. So a left-out operation
    # becomes an open one, which the search may place anywhere after its start, or nowhere.
    opened = {number for number, each in enumerate(certain) if each.fate is Fate.OPEN}
    # That would make the search long, so let such operations have any number of effects, if the break remains.
    repeats = _is_broken(certain, model, search, budget, repeats=True)
    size = max(1, len(certain) // 2)
    while True:
        changed = False
        kept = [number for number in range(len(certain)) if number not in opened]
        for place in range(0, len(kept), size):
            trial = opened.union(kept[place : place + size])
            left = [_opened(each) if n in trial else each for n, each in enumerate(certain)]
            if _is_broken(left, model, search, budget, repeats=repeats):
                opened, changed = trial, True
            if budget.left <= 0 or budget.is_late():
                break
        else:
            if changed or size > 1:
                size = max(1, size // 2)
                continue
        return frozenset(opened)


def _is_broken(
    operations: Sequence[Operation],
    model: Model[Any],
    search: _Search,
    budget: Budget,
    *,
    repeats: bool = False,
) -> bool:
    found = search(operations, model, budget, repeats=repeats)
    return found.order is None and found.ended


def _explanation() -> Budget:
    return Budget(_EXPLANATION, lambda: False)


def _until(operations: Sequence[Operation], end: float) -> list[Operation]:
    """Return the history as it was right after an answer."""
    return [_opened(each) if each.end > end else each for each in operations if each.start <= end]


def _opened(operation: Operation) -> Operation:
    return structs.replace(operation, end=math.inf, fate=Fate.OPEN)

"""The values that a scenario draws from `world.random`: recorded call by call, and replaced while a failure shrinks.

    draws = Draws([Draw(purpose=("orders",), number=1, call="randrange", value=3)])
    Streams(7, new=draws.new).stream("scenario", "orders").randrange(100)          # 3

Each record is one call of the scenario, such as `randrange(100)`, and not the raw numbers behind it. So a replaced
value is always a possible result of its call, and it keeps its meaning:

- A number from a range, and a choice, shrink towards the first of their possible values.
- The result of `random()` is usually a chance. It keeps one significant digit of its distance to the nearer of 0 and 1,
  so a rare event stays rare and a frequent event stays frequent. Other distributions and `choices` call `random()`.
- `shuffle` and `sample` shrink towards the original order.
- Bits, bytes and numbers from a range of 2**32 or more are often identifiers, so they do not shrink.

The world draws its latencies, orders and faults from other streams, which have no records.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from random import Random
from typing import Any, TypeAlias

from attrs import evolve, field, frozen

from supervision.recording.describe import describe

__all__ = ["Draw", "Draws", "Value"]

Value: TypeAlias = int | float | tuple[int, ...]
"""A number, a position among the possible values, or several positions."""

_IDENTIFIERS = 2**32


@frozen(kw_only=True)
class Draw:
    """One call of `world.random`, or the value that replaces its value.

    Attributes:
        purpose: the purpose of the stream, as text.
        number: the number of the call among all calls of its stream, from 1.
        call: the method of the stream, such as `randrange`.
        value: the value in this run. For `choice` and `randrange`, it is the position among the possible values; for
            `sample` and `shuffle`, the positions of all items.
        own: the value that the seed gives.
        simplest: the simplest value that keeps the meaning.
        result: the result of the call as text, for people.
    """

    purpose: tuple[str, ...]
    number: int
    call: str
    value: Value
    own: Value = 0
    simplest: Value = 0
    result: str = field(default="", eq=False, repr=False)

    def __str__(self) -> str:
        purpose = ", ".join(map(repr, self.purpose))
        return f"world.random({purpose}) gave {self.result} in call {self.number}, {self.call}()"

    @property
    def is_simple(self) -> bool:
        """True if the value cannot become simpler at once."""
        return self.value == self.simplest

    def simpler_orders(self) -> Iterator[Value]:
        """Yield the value with one more item in its simplest place, for a call with several items."""
        if isinstance(self.value, tuple) and isinstance(self.simplest, tuple):
            for index, wanted in enumerate(self.simplest):
                items = list(self.value)
                if wanted in items:
                    items[items.index(wanted)] = items[index]
                items[index] = wanted
                if tuple(items) != self.value:
                    yield tuple(items)


class Draws:
    """The calls of one run, and the values that replace some of them.

    Args:
        replacements: the values to use. A value is ignored if its call now has other possible values.

    Attributes:
        drawn: the calls so far.
    """

    def __init__(self, replacements: Iterable[Draw]) -> None:
        self.drawn: list[Draw] = []
        self._replacements = {(each.purpose, each.number): each for each in replacements}

    def new(self, name: tuple[object, ...], seed: int) -> Random:
        """Return a new stream. Only the streams of the scenario have records."""
        if name[0] != "scenario":
            return Random(seed)
        stream = _Stream(seed)
        stream.records, stream.purpose = self, tuple(map(str, name[1:]))
        return stream

    def use(self, own: Draw, fits: Callable[[Any], bool], result: Callable[[Any], Any]) -> Any:
        """Record a call and return its result. `fits` returns True for a possible value."""
        other = self._replacements.get((own.purpose, own.number))
        value = own.value
        if other is not None and other.call == own.call and type(other.value) is type(value):
            value = other.value if fits(other.value) else value
        found = result(value)
        self.drawn.append(evolve(own, value=value, result=describe(found)))
        return found


class _Stream(Random):
    """A stream with records. It draws the same numbers as a `Random` without records."""

    records: Draws
    purpose: tuple[str, ...]
    calls = 0
    # Without this line, Python would draw whole numbers from `random`, because this class replaces it.
    getrandbits = Random.getrandbits

    def _use(
        self,
        call: str,
        own: Value,
        simplest: Value,
        fits: Callable[[Any], bool],
        result: Callable[[Any], Any] = lambda value: value,
    ) -> Any:
        self.calls += 1
        fields = {"value": own, "own": own, "simplest": simplest}
        draw = Draw(purpose=self.purpose, number=self.calls, call=call, **fields)  # type: ignore[arg-type]
        return self.records.use(draw, fits, result)

    def random(self) -> float:
        own = super().random()
        near = min(own, 1.0 - own)
        near = round(near, -math.floor(math.log10(near))) if near else near
        simplest = near if own < 0.5 else round(1.0 - near, 12)
        return self._use("random", own, simplest, lambda value: 0.0 <= value < 1.0)  # type: ignore[no-any-return]

    def uniform(self, a: float, b: float) -> float:
        own, ends = a + (b - a) * super().random(), sorted((a, b))
        return self._use("uniform", own, float(a), lambda value: ends[0] <= value <= ends[1])  # type: ignore[no-any-return]

    def randrange(self, start: int, stop: int | None = None, step: int = 1) -> int:
        items = range(start) if stop is None else range(start, stop, step)
        if not items or abs(items[-1] - items[0]) >= _IDENTIFIERS:
            return super().randrange(start, stop, step)
        return self._one("randrange", items)  # type: ignore[no-any-return]

    def choice(self, seq: Any) -> Any:
        return self._one("choice", seq) if len(seq) else super().choice(seq)

    def _one(self, call: str, items: Any) -> Any:
        own = super().randrange(len(items))
        return self._use(call, own, 0, lambda value: 0 <= value < len(items), items.__getitem__)

    def sample(self, population: Any, k: int, *, counts: Iterable[int] | None = None) -> list[Any]:
        if counts is not None:
            return super().sample(population, k, counts=counts)
        return self._several("sample", population, super().sample(range(len(population)), k))

    def shuffle(self, x: Any) -> None:
        own = list(range(len(x)))
        super().shuffle(own)
        x[:] = self._several("shuffle", list(x), own)

    def _several(self, call: str, items: Any, own: list[int]) -> list[Any]:
        def fits(value: tuple[int, ...]) -> bool:
            return len(set(value)) == len(own) == len(value) and set(value) <= set(
                range(len(items))
            )

        def picked(value: tuple[int, ...]) -> list[Any]:
            return [items[each] for each in value]

        return self._use(call, tuple(own), tuple(range(len(own))), fits, picked)  # type: ignore[no-any-return]

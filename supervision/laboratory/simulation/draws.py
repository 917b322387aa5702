"""The values that a scenario draws from `world.random`: recorded call by call, and replaced while a failure shrinks.

    draws = Draws([Draw(purpose=("orders",), number=1, call="randrange", value=3)])
    draws.stream(("orders",), Random(7)).randrange(100)          # 3

Each record is one call of the scenario, such as `randrange(100)`, and not the raw numbers behind it. So a replaced
value is always a possible result of its call, and it keeps its meaning:

- A number from a range, and a choice, shrink towards the first of their possible values.
- The result of `random()` is usually a chance. It keeps one significant digit of its distance to the nearer of 0 and 1,
  so a rare event stays rare and a frequent event stays frequent. Results of other distributions keep one digit too.
- `choices` shrinks towards the item of the greatest weight, `shuffle` and `sample` towards the original order.
- Bits, bytes and numbers from a range of 2**32 or more are often identifiers, so they do not shrink.

The world draws its latencies, orders and faults from other streams, which have no records.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, MutableSequence, Sequence
from itertools import pairwise
from random import Random
from typing import Any, TypeAlias

from attrs import evolve, field, frozen

from supervision.recording.describe import describe

__all__ = ["Draw", "Drawn", "Draws", "Value"]

Value: TypeAlias = int | float | tuple[int, ...]
"""A number, a position among the possible values, or several positions."""

_IDENTIFIERS = 2**32


@frozen(kw_only=True)
class Draw:
    """A value that replaces the value that the seed gives.

    Attributes:
        purpose: the purpose of the stream, as text.
        number: the number of the call among all calls of its stream, from 1.
        call: the method of the stream, such as `randrange`.
        value: the value. For `choice` and `randrange`, it is the position among the possible values; for `choices`,
            `sample` and `shuffle`, the positions of all items.
        result: the result of the call as text, for people.
    """

    purpose: tuple[str, ...]
    number: int
    call: str
    value: Value
    result: str = field(default="", eq=False, repr=False)

    def __str__(self) -> str:
        purpose = ", ".join(map(repr, self.purpose))
        return f"world.random({purpose}) gave {self.result} in call {self.number}, {self.call}()"


@frozen(kw_only=True)
class Drawn:
    """One call of a run.

    Attributes:
        draw: the call and its value in this run.
        own: the value that the seed gives.
        simplest: the simplest value that keeps the meaning.
    """

    draw: Draw
    own: Value
    simplest: Value

    @property
    def is_simple(self) -> bool:
        """True if the value cannot become simpler at once."""
        return self.draw.value == self.simplest

    def with_value(self, value: Value) -> Draw:
        """Return the same call with another value."""
        return evolve(self.draw, value=value)

    def simpler(self) -> Iterator[Value]:
        """Yield values between the present one and the simplest, for calls with several items."""
        value, simplest = self.draw.value, self.simplest
        if not isinstance(value, tuple) or not isinstance(simplest, tuple):
            return
        distinct = self.draw.call != "choices"
        for index, wanted in enumerate(simplest):
            if value[index] != wanted:
                items = list(value)
                if distinct and wanted in items:
                    items[items.index(wanted)] = items[index]
                items[index] = wanted
                yield tuple(items)


class Draws:
    """The calls of one run, and the values that replace some of them.

    Args:
        replacements: the values to use. A value is ignored if its call now has other possible values.

    Attributes:
        drawn: the calls so far.
    """

    def __init__(self, replacements: Iterable[Draw]) -> None:
        self.drawn: list[Drawn] = []
        self._replacements = {(each.purpose, each.number): each for each in replacements}
        self._streams: dict[tuple[object, ...], _Stream] = {}

    @property
    def replaced(self) -> tuple[Draw, ...]:
        """The values that replaced values of the seed."""
        return tuple(each.draw for each in self.drawn if each.draw.value != each.own)

    def stream(self, purpose: tuple[object, ...], source: Random) -> Random:
        """Return the stream of a purpose, which draws from `source` and records each call."""
        stream = self._streams.get(purpose)
        if stream is None:
            names = tuple(map(str, purpose))
            stream = self._streams[purpose] = _Stream(source, names, self)
        return stream

    def use(
        self,
        purpose: tuple[str, ...],
        number: int,
        call: str,
        own: Value,
        simplest: Value,
        *,
        fits: Callable[[Any], bool],
        result: Callable[[Any], object],
    ) -> Any:
        """Record a call and return its value in this run.

        Args:
            purpose: the purpose of the stream.
            number: the number of the call.
            call: the method.
            own: the value of the seed.
            simplest: the simplest value.
            fits: returns True for a possible value of this call.
            result: turns a value into the result of the call.
        """
        other = self._replacements.get((purpose, number))
        value = own
        if other is not None and other.call == call and type(other.value) is type(own):
            value = other.value if fits(other.value) else own
        draw = Draw(
            purpose=purpose, number=number, call=call, value=value, result=describe(result(value))
        )
        self.drawn.append(Drawn(draw=draw, own=own, simplest=simplest))
        return value


class _Stream(Random):
    """A stream of `world.random` with records. The numbers come from another stream, so that they stay the same."""

    def __init__(self, source: Random, purpose: tuple[str, ...], draws: Draws) -> None:
        # Without `Random.__init__`, which would seed the source.
        self._source = source
        self._purpose = purpose
        self._draws = draws
        self._number = 0

    def _use(
        self,
        call: str,
        own: Value,
        simplest: Value,
        fits: Callable[[Any], bool],
        result: Callable[[Any], object] = lambda value: value,
    ) -> Any:
        self._number += 1
        return self._draws.use(
            self._purpose, self._number, call, own, simplest, fits=fits, result=result
        )

    # The state

    def seed(self, a: Any = None, version: int = 2) -> None:
        self._source.seed(a, version)

    def getstate(self) -> tuple[Any, ...]:
        return self._source.getstate()

    def setstate(self, state: tuple[Any, ...]) -> None:
        self._source.setstate(state)

    def getrandbits(self, k: int, /) -> int:
        return self._source.getrandbits(k)

    def randbytes(self, n: int) -> bytes:
        return self._source.randbytes(n)

    # Numbers

    def random(self) -> float:
        own = self._source.random()
        near = _one_digit(min(own, 1.0 - own))
        simplest = near if own < 0.5 else round(1.0 - near, 12)
        return self._use("random", own, simplest, lambda value: 0.0 <= value < 1.0)  # type: ignore[no-any-return]

    def uniform(self, a: float, b: float) -> float:
        own = self._source.uniform(a, b)
        low, high = float(min(a, b)), float(max(a, b))
        return self._use("uniform", own, float(a), lambda value: low <= value <= high)  # type: ignore[no-any-return]

    def triangular(self, low: float = 0.0, high: float = 1.0, mode: float | None = None) -> float:
        own = self._source.triangular(low, high, mode)
        return self._use("triangular", own, float(low), lambda value: low <= value <= high)  # type: ignore[no-any-return]

    def randrange(self, start: int, stop: int | None = None, step: int = 1) -> int:
        items = range(start) if stop is None else range(start, stop, step)
        if not items or items[-1] - items[0] >= _IDENTIFIERS:
            return self._source.randrange(start, stop, step)
        return self._one("randrange", items)  # type: ignore[no-any-return]

    def randint(self, a: int, b: int) -> int:
        return self.randrange(a, b + 1)

    # Items

    def choice(self, seq: Any) -> Any:
        return self._one("choice", seq)

    def _one(self, call: str, items: Any) -> Any:
        count = len(items)
        own = self._source.choice(range(count))
        return items[self._use(call, own, 0, lambda value: 0 <= value < count, items.__getitem__)]

    def choices(
        self,
        population: Any,
        weights: Sequence[Any] | None = None,
        *,
        cum_weights: Sequence[Any] | None = None,
        k: int = 1,
    ) -> list[Any]:
        count = len(population)
        if cum_weights is not None:
            heaviest = [after - before for before, after in pairwise((0, *cum_weights))]
        else:
            heaviest = list(weights or [1] * count)
        own = self._source.choices(range(count), weights, cum_weights=cum_weights, k=k)
        simplest = (heaviest.index(max(heaviest)),) * k
        return self._several("choices", population, tuple(own), simplest)

    def sample(
        self, population: Sequence[Any], k: int, *, counts: Iterable[int] | None = None
    ) -> list[Any]:
        if counts is not None:
            population = [
                item for item, count in zip(population, counts, strict=True) for _ in range(count)
            ]
        own = self._source.sample(range(len(population)), k)
        return self._several("sample", population, tuple(own), tuple(range(k)))

    def shuffle(self, x: MutableSequence[Any]) -> None:
        own = list(range(len(x)))
        self._source.shuffle(own)
        x[:] = self._several("shuffle", list(x), tuple(own), tuple(range(len(x))))

    def _several(
        self, call: str, items: Any, own: tuple[int, ...], simplest: tuple[int, ...]
    ) -> list[Any]:
        def fits(value: tuple[int, ...]) -> bool:
            distinct = call == "choices" or len(set(value)) == len(value)
            return (
                len(value) == len(own)
                and distinct
                and all(0 <= each < len(items) for each in value)
            )

        def picked(value: tuple[int, ...]) -> list[Any]:
            return [items[each] for each in value]

        return picked(self._use(call, own, simplest, fits, picked))


def _one_digit(value: float) -> float:
    """Return the number with one significant digit: 0.5 for 0.4837, and 0.03 for 0.0321."""
    if not value or not math.isfinite(value):
        return value
    return round(value, -math.floor(math.log10(abs(value))))


def _distribution(name: str) -> Callable[..., float]:
    def draw(self: _Stream, *args: Any, **kwargs: Any) -> float:
        own = getattr(self._source, name)(*args, **kwargs)
        return self._use(name, own, _one_digit(own), math.isfinite)  # type: ignore[no-any-return]

    return draw


for _name in (
    *("betavariate", "expovariate", "gammavariate", "gauss", "lognormvariate", "normalvariate"),
    *("paretovariate", "vonmisesvariate", "weibullvariate"),
):
    setattr(_Stream, _name, _distribution(_name))

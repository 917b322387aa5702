"""Models: what a system does if it carries out one operation after the other.

*pure*. A model has an initial state and a step. `step` takes a state and an operation. It returns the next state and
the result that a correct system gives. States must be hashable, and `step` must not change them.

    class Register(Model[int | None]):
        reads = frozenset({"read"})

        def init(self):
            return None

        def step(self, state, operation):
            match operation.name, operation.arguments:
                case "write", (value,):
                    return value, None
                case "read", ():
                    return state, state
            raise self.unknown(operation)
"""

from __future__ import annotations

from typing import Any, ClassVar, Generic, TypeVar

from actors.errors import InvalidArgument
from supervision.laboratory.histories.operations import Fate, Operation

__all__ = ["Counter", "Lock", "Map", "Model", "Queue", "Register", "Set"]

S = TypeVar("S")


class Model(Generic[S]):
    """Base of all models.

    Attributes:
        reads: the names of operations that never change any state. The search places them without trying anything else.
            An operation that only sometimes changes the state does not belong here.
    """

    reads: ClassVar[frozenset[str]] = frozenset()

    def init(self) -> S:
        """Return the state before all operations."""
        raise NotImplementedError(
            f"{type(self).__name__} has no `init(self)`; it returns the first state"
        )

    def step(self, state: S, operation: Operation) -> tuple[S, Any]:
        """Return the state after an operation, and the result of the operation.

        Args:
            state: the state before the operation. Do not change it.
            operation: the operation. Its own result is not to be used.
        """
        raise NotImplementedError(
            f"{type(self).__name__} has no `step(self, state, operation)`; it returns the next state and the result"
        )

    def agrees(self, expected: Any, operation: Operation) -> bool:
        """Return True if the result that the client got fits the result of the model. By default they must be equal.

        Args:
            expected: the result of the model.
            operation: the operation, with the result that its client got.
        """
        return bool(expected == operation.result)

    def unknown(self, operation: Operation) -> InvalidArgument:
        """Return the error for an operation that the model does not have.

        Args:
            operation: the operation.
        """
        return InvalidArgument(
            None,
            operation,
            f"the model {type(self).__name__} has no operation {operation.name!r} with {len(operation.arguments)} "
            f"arguments, and the history has `{operation}`",
        )


class Register(Model[Any]):
    """One value. `write(value)`, `read() -> value`, `compare_and_set(old, new) -> bool`.

    Args:
        first: the value before the first write.
    """

    reads = frozenset({"read"})

    def __init__(self, first: Any = None) -> None:
        self.first = first

    def init(self) -> Any:
        return self.first

    def step(self, state: Any, operation: Operation) -> tuple[Any, Any]:
        match operation.name, operation.arguments:
            case "write", (value,):
                return value, None
            case "read", ():
                return state, state
            case "compare_and_set", (old, new):
                return (new, True) if state == old else (state, False)
        raise self.unknown(operation)


class Counter(Model[int]):
    """A number. `add(number) -> None`, `increment() -> new value`, `read() -> value`."""

    reads = frozenset({"read"})

    def init(self) -> int:
        return 0

    def step(self, state: int, operation: Operation) -> tuple[int, Any]:
        match operation.name, operation.arguments:
            case "add", (number,):
                return state + number, None
            case "increment", ():
                return state + 1, state + 1
            case "read", ():
                return state, state
        raise self.unknown(operation)


class Set(Model[frozenset[Any]]):
    """A set. `add(item) -> was new`, `remove(item) -> was there`, `contains(item) -> bool`, `read() -> all items`.

    `read` may give the items in any order and in any collection.
    """

    reads = frozenset({"contains", "read"})

    def init(self) -> frozenset[Any]:
        return frozenset()

    def step(self, state: frozenset[Any], operation: Operation) -> tuple[frozenset[Any], Any]:
        match operation.name, operation.arguments:
            case "add", (item,):
                return state | {item}, item not in state
            case "remove", (item,):
                return state - {item}, item in state
            case "contains", (item,):
                return state, item in state
            case "read", ():
                return state, state
        raise self.unknown(operation)

    def agrees(self, expected: Any, operation: Operation) -> bool:
        if operation.name == "read":
            return sorted(map(repr, expected)) == sorted(map(repr, operation.result))
        return bool(expected == operation.result)


class Queue(Model[tuple[Any, ...]]):
    """A queue, first in first out. `put(item) -> None`, `take() -> the oldest item, or None if it is empty`."""

    def init(self) -> tuple[Any, ...]:
        return ()

    def step(self, state: tuple[Any, ...], operation: Operation) -> tuple[tuple[Any, ...], Any]:
        match operation.name, operation.arguments:
            case "put", (item,):
                return (*state, item), None
            case "take", ():
                return (state[1:], state[0]) if state else (state, None)
        raise self.unknown(operation)


_UNKNOWN = "a client that never learned its fence"


class Lock(Model[tuple[Any, int]]):
    """A lock with a fence. `acquire() -> fence, or None if another client has it`, `release(fence) -> bool`.

    Each acquisition must have a greater fence than all earlier ones. The numbers themselves are free.
    """

    def init(self) -> tuple[Any, int]:
        return None, 0

    def step(self, state: tuple[Any, int], operation: Operation) -> tuple[tuple[Any, int], Any]:
        holder, last = state
        match operation.name, operation.arguments:
            case "acquire", ():
                if holder is not None:
                    return state, None
                if operation.fate is Fate.OPEN:
                    return (_UNKNOWN, last), last
                fence = operation.result
                return (state if fence is None else (fence, fence)), last
            case "release", (fence,):
                return ((None, last), True) if holder == fence else (state, False)
        raise self.unknown(operation)

    def agrees(self, expected: Any, operation: Operation) -> bool:
        if operation.name == "release" or expected is None or operation.result is None:
            return bool(expected == operation.result)
        return bool(operation.result > expected)


class Map(Model[frozenset[tuple[Any, Any]]]):
    """A dict. `put(key, value) -> None`, `get(key) -> value or None`, `delete(key) -> was there`.

    If no operation reads several keys, give each operation its `key` and use a `Register` instead: that is far faster.
    """

    reads = frozenset({"get", "read"})

    def init(self) -> frozenset[tuple[Any, Any]]:
        return frozenset()

    def step(
        self, state: frozenset[tuple[Any, Any]], operation: Operation
    ) -> tuple[frozenset[tuple[Any, Any]], Any]:
        items = dict(state)
        match operation.name, operation.arguments:
            case "put", (key, value):
                return frozenset({**items, key: value}.items()), None
            case "get", (key,):
                return state, items.get(key)
            case "delete", (key,):
                was_there = key in items
                items.pop(key, None)
                return frozenset(items.items()), was_there
            case "read", ():
                return state, items
        raise self.unknown(operation)

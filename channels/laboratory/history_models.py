"""Models of what channels promise, for the checks of `supervision.histories`: durable topics, keyed pushes, presences.

*pure*. Export: `channels.testing`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, TypeAlias

import msgspec

from supervision.histories import Model, Operation

__all__ = ["DurableTopic", "KeyedPush", "Presences"]

_Log: TypeAlias = tuple[bytes, ...]
_Readers: TypeAlias = frozenset[tuple[Any, int]]
_Answers: TypeAlias = frozenset[tuple[Any, Any]]


class DurableTopic(Model[tuple[_Log, _Readers]]):
    """A durable topic. `append(message) -> position`, `read(after) -> messages`, `receive(position, message)`.

    Positions are numbers from 1, or texts such as `"5f1c:17"`. A read returns all messages after a position. A client
    receives the messages from any first one on, in their order and without a gap. Record less than the limits of the
    history, because the model never forgets a message.

        def describe(topic, request):
            match request:
                case ClientRequest(kind="push", event="say", payload=payload):
                    return "append", (payload["text"],), topic
                case ClientRequest(kind="message", event="say", payload=payload):
                    return "receive", (payload["_position"], payload["text"]), topic
    """

    reads = frozenset({"read"})

    def init(self) -> tuple[_Log, _Readers]:
        return (), frozenset()

    def step(
        self, state: tuple[_Log, _Readers], operation: Operation
    ) -> tuple[tuple[_Log, _Readers], Any]:
        log, readers = state
        match operation.name, operation.arguments:
            case "append", (message,):
                return ((*log, _encoded(message)), readers), len(log) + 1
            case "read", (after,):
                return state, log[_offset(after) :]
            case "receive", (position, message):
                offset, known = _offset(position), dict(readers)
                fits = log[offset - 1 : offset] == (_encoded(message),)
                following = known.get(operation.client, offset - 1) + 1
                known[operation.client] = offset
                if not fits or following != offset:
                    return state, False
                return (log, frozenset(known.items())), True
        raise self.unknown(operation)

    def agrees(self, expected: Any, operation: Operation) -> bool:
        match operation.name:
            case "append":
                return bool(expected == _offset(operation.result))
            case "read":
                return bool(expected == tuple(map(_encoded, operation.result)))
        return bool(expected)


class KeyedPush(Model[tuple[Any, _Answers]]):
    """Pushes with a key, which a client may repeat. The first takes effect, and the others get its answer.

        check_linearizable(history, KeyedPush(Counter()))

    The first argument of each operation is its key, except of those that only read. A client of a durable topic puts
    the key into the field `_key` of the payload.

    Args:
        model: the model of the channel without keys.
    """

    def __init__(self, model: Model[Any]) -> None:
        self.model = model
        self.reads = model.reads  # type: ignore[misc] # the reads of this model, not of the class

    def init(self) -> tuple[Any, _Answers]:
        return self.model.init(), frozenset()

    def step(
        self, state: tuple[Any, _Answers], operation: Operation
    ) -> tuple[tuple[Any, _Answers], Any]:
        inner, answers = state
        if operation.name in self.reads:
            return state, self.model.step(inner, operation)[1]
        key, known = operation.arguments[0], dict(answers)
        if key not in known:
            inner, known[key] = self.model.step(inner, self._without_key(operation))
        return (inner, frozenset(known.items())), known[key]

    def agrees(self, expected: Any, operation: Operation) -> bool:
        return self.model.agrees(expected, self._without_key(operation))

    def _without_key(self, operation: Operation) -> Operation:
        if operation.name in self.reads:
            return operation
        return msgspec.structs.replace(operation, arguments=operation.arguments[1:])


class Presences(Model[frozenset[tuple[Any, int]]]):
    """The presences of a topic, at rest. `join(key)`, `leave(key)`, `list() -> keys, or presences`.

    Presences follow the clients with a delay. So record a `list` only when all joins and leaves are over, and their
    diffs have arrived.
    """

    reads = frozenset({"list"})

    def init(self) -> frozenset[tuple[Any, int]]:
        return frozenset()

    def step(
        self, state: frozenset[tuple[Any, int]], operation: Operation
    ) -> tuple[frozenset[tuple[Any, int]], Any]:
        counts = Counter(dict(state))
        match operation.name, operation.arguments:
            case "join", (key,):
                counts[key] += 1
            case "leave", (key,):
                counts[key] -= 1
            case "list", ():
                return state, dict(state)
            case _:
                raise self.unknown(operation)
        return frozenset((+counts).items()), None

    def agrees(self, expected: Any, operation: Operation) -> bool:
        if operation.name != "list":
            return True
        found = operation.result
        if not isinstance(found, Mapping):
            return bool(set(expected) == set(found))
        return bool(expected == {key: len(each["metas"]) for key, each in found.items()})


def _encoded(message: Any) -> bytes:
    """Return a stand-in for a message that is hashable, and equal for equal messages."""
    return msgspec.json.encode(message, order="sorted", enc_hook=repr)


def _offset(position: Any) -> int:
    return int(str(position).rpartition(":")[2])

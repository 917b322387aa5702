"""Histories that grow while a program runs, simulated or live.

    history = OperationHistory()
    with history.recording():                     # every `call` of the runtime is an operation
        ...
    check_linearizable(history, Register()).require()

Without processes, or for operations that are not calls, write them yourself:

    with history.operation("client-1", "write", 7, key="room:1") as operation:
        operation.result = await push(...)

The ends have the order in which the program saw them, so a check of the history never needs a clock.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Hashable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any, TypeAlias

import msgspec

from actors.instrumentation.instrument import Instrument, callback_for, payload_of
from actors.refs import Pid
from actors.runtime import Runtime, current_runtime
from supervision.laboratory.histories.operations import Fate, Operation

__all__ = ["Describe", "OpenOperation", "OperationHistory", "describe_request"]

Described: TypeAlias = tuple[str, tuple[Any, ...], Hashable]
Describe: TypeAlias = Callable[[Pid, Any], Described | None]
"""Takes the server and the request of a call. Returns name, arguments and key of the operation; None leaves it out."""


def describe_request(server: Pid, request: Any) -> Described:
    """Return the operation of a request, with the server as its key.

    >>> describe_request(server, ("write", 7))
    ('write', (7,), <pid 3>)

    A text is a name without arguments, a tuple that begins with a text is a name and its arguments, and a struct is the
    name of its class, in lower case, and the values of its fields.

    Args:
        server: the process that was called.
        request: the request.
    """
    if isinstance(request, str):
        return request, (), server
    if isinstance(request, tuple) and request and isinstance(request[0], str):
        return request[0], request[1:], server
    if isinstance(request, msgspec.Struct):
        return type(request).__name__.lower(), msgspec.structs.astuple(request), server
    return type(request).__name__, (request,), server


class OpenOperation:
    """An operation under way.

    Attributes:
        result: the answer of the system. Set it before the end of the block.
    """

    __slots__ = ("arguments", "client", "key", "life", "name", "result", "start")

    def __init__(  # noqa: PLR0917 - made in one place
        self,
        client: Hashable,
        life: int,
        name: str,
        arguments: tuple[Any, ...],
        key: Hashable,
        start: int,
    ) -> None:
        self.client = client
        self.life = life
        self.name = name
        self.arguments = arguments
        self.key = key
        self.start = start
        self.result: Any = None


class OperationHistory:
    """The operations of a run, in the order in which they began.

    Iterate over it to get the operations so far. An operation that is under way is `OPEN`.
    """

    def __init__(self) -> None:
        self._positions = count(1)
        self._ended: list[Operation] = []
        self._under_way: dict[int, OpenOperation] = {}
        # After an operation without an answer, a client goes on under a new name: the old operation may still run.
        self._lives: dict[Hashable, int] = {}

    def __iter__(self) -> Iterator[Operation]:
        open_ones = [
            self._operation(each, Fate.OPEN, math.inf) for each in self._under_way.values()
        ]
        return iter(sorted([*self._ended, *open_ones], key=lambda each: each.start))

    def __len__(self) -> int:
        return len(self._ended) + len(self._under_way)

    @contextmanager
    def operation(
        self, client: Hashable, name: str, *arguments: Any, key: Hashable = None
    ) -> Generator[OpenOperation]:
        """Record the block as one operation.

        An exception with `may_have_run = False`, such as NoProcess, ends it as FAILED. After any other exception, the
        operation stays OPEN, because it may have had its effect, or may have it later.

        Args:
            client: the client.
            name: the name of the operation in the model.
            *arguments: its arguments.
            key: the object on which it acts.

        Returns:
            A context manager. Set `result` of its value to the answer.
        """
        number = self.begin(client, name, arguments, key)
        operation = self._under_way[number]
        try:
            yield operation
        except BaseException as error:
            # Broad, because each exception says something about the operation. It is raised again.
            if getattr(error, "may_have_run", True):
                self.give_up(number)
            else:
                self.end(number, Fate.FAILED)
            raise
        self.end(number, Fate.DONE, operation.result)

    def begin(self, client: Hashable, name: str, arguments: tuple[Any, ...], key: Hashable) -> int:
        """Note the start of an operation, and return its number.

        Args:
            client: the client.
            name: the name of the operation in the model.
            arguments: its arguments.
            key: the object on which it acts.
        """
        start = next(self._positions)
        life = self._lives.get(client, 0)
        self._under_way[start] = OpenOperation(client, life, name, arguments, key, start)
        return start

    def end(self, number: int, fate: Fate, result: Any = None) -> None:
        """Note the end of an operation.

        Args:
            number: the result of `begin`.
            fate: what the client knows about the operation.
            result: the answer, if the operation is done.
        """
        operation = self._under_way.pop(number)
        operation.result = result
        self._ended.append(self._operation(operation, fate, next(self._positions)))

    def give_up(self, number: int) -> None:
        """Note that the client of an operation no longer waits for its answer.

        Args:
            number: the result of `begin`.
        """
        operation = self._under_way.pop(number)
        operation.result = None
        self._ended.append(self._operation(operation, Fate.OPEN, math.inf))
        self._lives[operation.client] = operation.life + 1

    @staticmethod
    def _operation(operation: OpenOperation, fate: Fate, end: float) -> Operation:
        return Operation(
            client=(operation.client, operation.life) if operation.life else operation.client,
            name=operation.name,
            arguments=operation.arguments,
            result=operation.result if fate is Fate.DONE else None,
            key=operation.key,
            start=operation.start,
            end=end,
            fate=fate,
        )

    @contextmanager
    def recording(
        self, *, describe: Describe = describe_request, runtime: Runtime | None = None
    ) -> Generator[None]:
        """Record each `call` of a runtime within the block as an operation of the calling process.

        Calls that have no answer at the end of the block stay open.

        Args:
            describe: a function that returns the operation of a request, such as `describe_request`.
            runtime: the runtime; by default the current one.

        Returns:
            A context manager without a value.
        """
        runtime = current_runtime() if runtime is None else runtime
        remove = runtime.add_instrument(_Calls(self, describe))
        try:
            yield
        finally:
            remove()


class _Calls(Instrument):
    """The instrument that turns calls into operations."""

    def __init__(self, history: OperationHistory, describe: Describe) -> None:
        self._history = history
        self._describe = describe
        self._starting: tuple[object, Pid | None] | None = None
        self._numbers: dict[object, int] = {}
        self._answers: dict[object, Any] = {}

    def call_started(self, caller: Pid | None, server: Pid, call: object, timeout: float) -> None:
        # The next message is the request of this call, because there is no checkpoint in between.
        self._starting = call, caller

    def message_sent(self, sender: Pid | None, receiver: Pid, message: Any) -> None:
        if self._starting is None or callback_for(message) != "handle_call":
            return
        (call, caller), self._starting = self._starting, None
        described = self._describe(receiver, payload_of(message))
        if described is not None:
            # A task that is no process is a client for each of its calls.
            client = caller if caller is not None else call
            self._numbers[call] = self._history.begin(client, *described)

    def call_answered(self, call: object, value: Any) -> None:
        if call in self._numbers:
            self._answers[call] = value

    def call_ended(self, call: object, how: str) -> None:
        number = self._numbers.pop(call, None)
        if number is None:
            return
        if how == "answered":
            self._history.end(number, Fate.DONE, self._answers.pop(call))
        else:
            self._history.give_up(number)

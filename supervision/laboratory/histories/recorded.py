"""Histories that grow while a program runs, simulated or live.

    history = OperationHistory()
    with history.recording():                     # the calls of the runtime, and the pushes of channels.client
        ...
    check_linearizable(history, Register()).require()

Without processes, or for operations that are not calls, write them yourself:

    with history.operation("client-1", "write", 7, key="room:1") as operation:
        operation.result = await push(...)

The ends have the order in which the program saw them, so a check of the history never needs a clock.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Hashable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from fnmatch import fnmatchcase
from itertools import count
from typing import Any, TypeAlias

import msgspec

from actors.instrumentation.instrument import Instrument, callback_for, payload_of
from actors.instrumentation.telemetry import OPERATION_BEGAN, OPERATION_ENDED, Event
from actors.refs import Pid
from actors.runtime import Runtime, current_runtime
from actors.text import brief
from supervision.laboratory.histories.operations import Fate, Operation

__all__ = [
    "ClientRequest",
    "Describe",
    "OpenOperation",
    "OperationHistory",
    "describe_request",
    "is_wanted",
    "plain_answer",
]

Described: TypeAlias = tuple[str, tuple[Any, ...], Hashable]
Describe: TypeAlias = Callable[[Any, Any], Described | None]
"""Takes the server of a call, or the topic of a client's request, and the request. Returns name, arguments and key of
the operation; None leaves it out."""

# Requests of Ashtree's own code, such as those to start a child.
_MACHINERY = frozenset(("actors", "supervision", "channels"))


class ClientRequest(msgspec.Struct, frozen=True):
    """A request of a client to a channel.

    Attributes:
        kind: `"push"`, `"join"`, `"leave"`, or `"message"` for a message that the client got.
        event: the event, such as `"phx_join"`.
        payload: the payload as the program sent it, or as the client got it.
    """

    kind: str
    event: str
    payload: Any = None


def describe_request(target: Any, request: Any) -> Described | None:
    """Return the operation of a request, with its server or topic as its key.

    >>> describe_request("cache", ("write", 7))
    ('write', (7,), 'cache')
    >>> describe_request("cell:1", ClientRequest("push", "write", {"value": 7}))
    ('write', (7,), 'cell:1')

    A text is a name without arguments, a tuple that begins with a text is a name and its arguments, and a struct is the
    name of its class, in lower case, and the values of its fields. A push is its event and the values in its payload,
    without the fields whose names begin with an underscore. Joins, leaves and messages are left out.

    Args:
        target: the name of the server, or its pid if it has no name; or the topic.
        request: the request of a call, or a `ClientRequest`.
    """
    match request:
        case ClientRequest(kind="push", event=event, payload=payload):
            fields = _public(payload)
            arguments = tuple(fields.values()) if isinstance(fields, dict) else (payload,)
            return event, () if payload is None else arguments, target
        case ClientRequest():
            return None
        case str():
            return request, (), target
        case tuple((str(name), *arguments)):
            return name, tuple(arguments), target
        case msgspec.Struct():
            return type(request).__name__.lower(), msgspec.structs.astuple(request), target
    return type(request).__name__, (request,), target


def plain_answer(status: str, response: Any) -> Any:
    """Return the result of a push: None for an empty reply, the value of an only field, or the whole reply.

    The result of a reply with another status than ok is a pair of the status and the rest.
    """
    fields = _public(response)
    if isinstance(fields, dict) and len(fields) < 2:
        fields = next(iter(fields.values()), None)
    return fields if status == "ok" else (status, fields)


def _public(payload: Any) -> Any:
    if not isinstance(payload, dict):
        return payload
    return {name: value for name, value in payload.items() if not str(name).startswith("_")}


def is_wanted(targets: tuple[Pid | str, ...], target: Any) -> bool:
    """Return True if a server or topic is among the targets, which may be patterns. No targets are all."""
    return not targets or any(
        target == each
        or (isinstance(each, str) and isinstance(target, str) and fnmatchcase(target, each))
        for each in targets
    )


class OpenOperation:
    """An operation under way.

    Attributes:
        result: the answer of the system. Set it before the end of the block.
    """

    __slots__ = ("arguments", "client", "key", "lane", "name", "result", "start")

    def __init__(  # noqa: PLR0917 - made in one place
        self,
        client: Hashable,
        lane: int,
        name: str,
        arguments: tuple[Any, ...],
        key: Hashable,
        start: int,
    ) -> None:
        self.client = client
        self.lane = lane
        self.name = name
        self.arguments = arguments
        self.key = key
        self.start = start
        self.result: Any = None


class OperationHistory:
    """The operations of a run, in the order in which they began.

    Iterate over it to get the operations so far. An operation that is under way is `OPEN`. If a client begins an
    operation while another one is under way, or has no answer, the new one belongs to a client `(client, number)`.
    """

    def __init__(self) -> None:
        self._positions = count(1)
        self._ended: list[Operation] = []
        self._under_way: dict[int, OpenOperation] = {}
        # The lanes of each client that have an operation under way, or one without an answer, which may still run.
        self._busy: dict[Hashable, set[int]] = {}

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
        busy = self._busy.setdefault(client, set())
        lane = next(each for each in count() if each not in busy)
        busy.add(lane)
        self._under_way[start] = OpenOperation(client, lane, name, arguments, key, start)
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
        self._busy[operation.client].remove(operation.lane)
        self._ended.append(self._operation(operation, fate, next(self._positions)))

    def give_up(self, number: int) -> None:
        """Note that the client of an operation no longer waits for its answer.

        Args:
            number: the result of `begin`.
        """
        operation = self._under_way.pop(number)
        operation.result = None
        self._ended.append(self._operation(operation, Fate.OPEN, math.inf))

    @staticmethod
    def _operation(operation: OpenOperation, fate: Fate, end: float) -> Operation:
        return Operation(
            client=(operation.client, operation.lane) if operation.lane else operation.client,
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
        self,
        *targets: Pid | str,
        describe: Describe = describe_request,
        runtime: Runtime | None = None,
    ) -> Generator[None]:
        """Record each `call` of a runtime, and each operation of its `channels.client`, within the block.

        Operations that have no answer at the end of the block stay open. The block records no calls of Ashtree's own
        code. A process is the client of its calls. The client of a socket is the `source` of its network, or
        `"client 1"` and so on.

        Args:
            *targets: the servers and topics to record: pids, names of servers, or patterns for topics, such as
                `"room:*"`; by default all.
            describe: a function that returns the operation of a request, such as `describe_request`.
            runtime: the runtime; by default the current one.

        Returns:
            A context manager without a value.
        """
        runtime = current_runtime() if runtime is None else runtime

        def begin(client: Hashable, target: Any, request: Any) -> int | None:
            if not is_wanted(targets, target):
                return None
            described = describe(target, request)
            return None if described is None else self.begin(client, *described)

        clients = _Clients(self, begin)
        with ExitStack() as attached:
            attached.callback(runtime.add_instrument(_Calls(self, begin, runtime)))
            attached.callback(runtime.telemetry.attach(OPERATION_BEGAN, clients.began))
            attached.callback(runtime.telemetry.attach(OPERATION_ENDED, clients.ended))
            yield
        if clients.error is not None:
            raise clients.error


_Begin: TypeAlias = Callable[[Hashable, Any, Any], int | None]


class _Clients:
    """The handlers of telemetry that record the operations of clients of channels.

    Attributes:
        error: the first exception of `describe`. The block raises it at its end, because telemetry only logs it.
    """

    error: Exception | None = None

    def __init__(self, history: OperationHistory, begin: _Begin) -> None:
        self._history = history
        self._begin = begin
        self._numbers: dict[object, int] = {}
        self._names: dict[object, str] = {}

    def began(self, _event: Event, _measured: object, about: Mapping[str, Any]) -> None:
        known = about["name"] or f"client {len(self._names) + 1}"
        name = self._names.setdefault(about["client"], known)
        if about["kind"] == "message":
            # Messages arrive while a push is under way.
            name = f"{name} (messages)"
        request = ClientRequest(about["kind"], about["event"], about["payload"])
        try:
            number = self._begin(name, about["topic"], request)
        except Exception as error:
            # Broad, because `describe` is the user's. The block of the recording raises it.
            error.add_note(f"describe got {brief(about['topic'])} and {brief(request)}")
            self.error = self.error or error
            return
        if number is not None:
            self._numbers[about["operation"]] = number

    def ended(self, _event: Event, _measured: object, about: Mapping[str, Any]) -> None:
        number = self._numbers.pop(about["operation"], None)
        if number is None:
            return
        if about["how"] == "open":
            self._history.give_up(number)
        elif about["how"] == "refused":
            self._history.end(number, Fate.FAILED)
        else:
            self._history.end(number, Fate.DONE, plain_answer(about["status"], about["response"]))


class _Calls(Instrument):
    """The instrument that records calls."""

    def __init__(self, history: OperationHistory, begin: _Begin, runtime: Runtime) -> None:
        self._history = history
        self._begin = begin
        self._runtime = runtime
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
        request = payload_of(message)
        if type(request).__module__.partition(".")[0] in _MACHINERY:
            return
        # A replacement has the name of the server before it, but not its pid.
        info = self._runtime.process_info(receiver)
        name = None if info is None else info["name"]
        # A task that is no process is a client for each of its calls.
        client = caller if caller is not None else call
        number = self._begin(client, receiver if name is None else name, request)
        if number is not None:
            self._numbers[call] = number

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

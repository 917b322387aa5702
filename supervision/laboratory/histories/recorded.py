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

from collections.abc import Callable, Generator, Hashable, Iterator, Mapping, Sequence
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
    "Requests",
    "describe_request",
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


class OpenOperation:
    """An operation under way.

    Attributes:
        result: the answer of the system. Set it before the end of the block.
    """

    __slots__ = ("result",)

    def __init__(self) -> None:
        self.result: Any = None


class OperationHistory:
    """The operations of a run, in the order in which they began.

    Iterate over it to get the operations so far. An operation that is under way is `OPEN`. If a client begins an
    operation while another one is under way, or has no answer, the new one belongs to a client `(client, number)`.
    """

    def __init__(self) -> None:
        self._positions = count(1)
        self._ended: list[Operation] = []
        self._under_way: dict[int, Operation] = {}
        # The lanes of each client that have an operation under way, or one without an answer, which may still run.
        self._busy: dict[Hashable, set[int]] = {}
        self._lanes: dict[int, tuple[set[int], int]] = {}

    def __iter__(self) -> Iterator[Operation]:
        operations = (*self._ended, *self._under_way.values())
        return iter(sorted(operations, key=lambda each: each.start))

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
        operation = OpenOperation()
        try:
            yield operation
        except BaseException as error:
            # Broad, because each exception says something about the operation. It is raised again.
            self.end(number, Fate.OPEN if getattr(error, "may_have_run", True) else Fate.FAILED)
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
        self._lanes[start] = busy, lane
        self._under_way[start] = Operation(
            client=(client, lane) if lane else client,
            name=name,
            arguments=arguments,
            key=key,
            start=start,
            fate=Fate.OPEN,
        )
        return start

    def end(self, number: int, fate: Fate, result: Any = None) -> None:
        """Note the end of an operation.

        Args:
            number: the result of `begin`.
            fate: what the client knows about the operation. An open one has no end.
            result: the answer, if the operation is done.
        """
        operation = self._under_way.pop(number)
        busy, lane = self._lanes.pop(number)
        if fate is not Fate.OPEN:
            busy.remove(lane)
            operation = msgspec.structs.replace(
                operation, result=result, end=next(self._positions), fate=fate
            )
        self._ended.append(operation)

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
        requests = Requests(self, targets, describe)
        clients = _Clients(requests)
        with ExitStack() as attached:
            attached.callback(runtime.add_instrument(_Calls(requests, runtime)))
            attached.callback(runtime.telemetry.attach(OPERATION_BEGAN, clients.began))
            attached.callback(runtime.telemetry.attach(OPERATION_ENDED, clients.ended))
            yield
        requests.finish()


class Requests:
    """The requests under way in a run or in a recording, by identities that their source chooses.

    Args:
        history: the history of the requests that `targets` and `describe` choose.
        targets: servers, and patterns for names of servers and for topics; if empty, all.
        describe: a function that returns the operation of a request.
    """

    def __init__(
        self, history: OperationHistory, targets: Sequence[Pid | str], describe: Describe
    ) -> None:
        self.history = history
        self._targets = targets
        self._describe = describe
        self._numbers: dict[Hashable, int] = {}
        self._error: Exception | None = None

    def begin(self, identity: Hashable, client: Hashable, target: Any, request: Any) -> None:
        """Note the start of a request."""
        if not self._targets or any(_fits(target, each) for each in self._targets):
            try:
                described = self._describe(target, request)
                if described is not None:
                    self._numbers[identity] = self.history.begin(client, *described)
            except Exception as error:
                # Broad, because `describe` is the user's. The program under test must not get its exception.
                error.add_note(f"describe got {brief(target)} and {brief(request)}")
                self._error = self._error or error

    def end(self, identity: Hashable, fate: Fate, result: Any = None) -> None:
        """Note the end of a request."""
        number = self._numbers.pop(identity, None)
        if number is not None:
            self.history.end(number, fate, result)

    def finish(self) -> None:
        """Raise the first exception of `describe`, if there was one."""
        if self._error is not None:
            raise self._error


def _fits(target: Any, wanted: Pid | str) -> bool:
    is_text = isinstance(target, str) and isinstance(wanted, str)
    return target == wanted or (is_text and fnmatchcase(target, wanted))


_FATES = {"answered": Fate.DONE, "refused": Fate.FAILED}


class _Clients:
    """The handlers of telemetry that record the operations of clients of channels."""

    def __init__(self, requests: Requests) -> None:
        self._requests = requests
        self._names: dict[object, str] = {}

    def began(self, _event: Event, _measured: object, about: Mapping[str, Any]) -> None:
        known = about["name"] or f"client {len(self._names) + 1}"
        name = self._names.setdefault(about["client"], known)
        if about["kind"] == "message":
            # Messages arrive while a push is under way.
            name = f"{name} (messages)"
        request = ClientRequest(about["kind"], about["event"], about["payload"])
        self._requests.begin(about["operation"], name, about["topic"], request)

    def ended(self, _event: Event, _measured: object, about: Mapping[str, Any]) -> None:
        fate = _FATES.get(about["how"], Fate.OPEN)
        result = plain_answer(about["status"], about["response"]) if fate is Fate.DONE else None
        self._requests.end(about["operation"], fate, result)


class _Calls(Instrument):
    """The instrument that records calls."""

    def __init__(self, requests: Requests, runtime: Runtime) -> None:
        self._requests = requests
        self._runtime = runtime
        self._starting: tuple[object, Pid | None] | None = None
        self._tasks = count(1)
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
        target = receiver if info is None or info["name"] is None else info["name"]
        # A task that is no process is a client for each of its calls.
        client = f"task {next(self._tasks)}" if caller is None else caller
        self._requests.begin(call, client, target, request)

    def call_answered(self, call: object, value: Any) -> None:
        self._answers[call] = value

    def call_ended(self, call: object, how: str) -> None:
        answer = self._answers.pop(call, None)
        self._requests.end(call, Fate.DONE if how == "answered" else Fate.OPEN, answer)

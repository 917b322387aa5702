"""The operations in a recording or in the trace of a simulated run.

*pure*, except that `read_operations` reads a file.

    check_linearizable(read_operations(Path("run.jsonl"), "cell:*"), Register()).require()

A trace has the contents of messages as text, so this module reads the values from the text. A value without a literal,
such as a struct, stays text. The text of a value that is too long, too deep or secret lacks a part of it, so that two
values may have one text. An operation with such a value cannot be checked.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from actors.declared import declared
from actors.masking import FILTERED
from supervision.errors import SupervisionError
from supervision.laboratory.histories.operations import Fate
from supervision.laboratory.histories.recorded import (
    ClientRequest,
    Describe,
    OperationHistory,
    Requests,
    describe_request,
    plain_answer,
)
from supervision.recording.fields import TEXT_LENGTH
from supervision.recording.reader.names import Names
from supervision.recording.reader.records import Event, key_of
from supervision.recording.trace import read_recording

__all__ = ["IncompleteRecording", "operations_in", "read_operations"]

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_HEARTBEATS = "phoenix"  # the topic of heartbeats
_CONTENT = frozenset(("topic", "event", "payload"))
_ENDS = frozenset(("phx_error", "phx_close"))
# As `describe` leaves out items, and shows objects without fields.
_LACKS = re.compile(r"\.\.\. \(\d+\)|<[A-Z]\w*>")


@declared("the recording cannot be checked: {problem}")
class IncompleteRecording(SupervisionError, ValueError):
    """A recording lacks operations, or what they did. A check of the rest would prove nothing.

    Attributes:
        problem: the missing part, and what to write instead.
    """

    problem: str


def read_operations(
    path: Path, *targets: str, describe: Describe = describe_request
) -> OperationHistory:
    """Return the operations in a file: a recording with contents, or the trace of a simulated run.

    Args:
        path: the file.
        *targets: patterns for topics, and for the paths of servers; by default all.
        describe: a function that returns the operation of a request, such as `describe_request`.

    Raises:
        IncompleteRecording: events are missing, or their contents.
        InvalidTraceFile: the file is no recording.
        OSError: the file cannot be read.
    """
    return operations_in(read_recording(path)[0], *targets, describe=describe)


def operations_in(
    lines: Iterable[bytes], *targets: str, describe: Describe = describe_request
) -> OperationHistory:
    """Return the operations in the lines of a trace: the calls, and the joins, pushes and messages of clients.

    An operation of a client lies between the moments at which its server got and answered it. The key of a call is the
    path of its server, which a replacement of the server has too.

    Args:
        lines: the lines, such as `outcome.trace`.
        *targets: patterns for topics, and for the paths of servers; by default all.
        describe: a function that returns the operation of a request, such as `describe_request`.

    Raises:
        IncompleteRecording: events are missing, or their contents.
    """
    events = [_decode(line) for line in lines]
    history = OperationHistory()
    requests = Requests(history, targets, describe)
    reading = _Reading(Names(events), requests)
    for event in events:
        take = getattr(reading, f"take_{event['kind']}", None)
        if take is not None:
            take(event)
    requests.finish()
    if not history:
        raise IncompleteRecording(
            f"it has no operation of {', '.join(targets) or 'a server or a client'} that `describe` keeps; the trace "
            "of a live experiment has no pushes, so record them there with `OperationHistory.recording`"
        )
    for operation in history:
        answer = operation.result if isinstance(operation.result, tuple) else (operation.result,)
        for value in (operation.name, *operation.arguments, *answer):
            if isinstance(value, _Partial) or FILTERED in str(value):
                raise IncompleteRecording(
                    f"it has only a part of the value {value} in `{operation}`; name the other topics and servers, or "
                    "record the operations with `OperationHistory.recording`"
                )
    return history


class _Partial(str):
    """The text of a value that lacks a part of it."""

    __slots__ = ()


class _Reading:
    """One reading of a trace. Each method takes the events of one kind."""

    def __init__(self, names: Names, requests: Requests) -> None:
        self._names = names
        self._requests = requests
        # The `call` event of which the next message is the request. Simulated runs have none.
        self._call: Event | None = None

    def take_recording(self, event: Event) -> None:
        if not event["contents"]:
            raise IncompleteRecording(
                "it has no contents of messages; record with `recorder_spec(file=..., contents=True)`"
            )

    def take_omitted(self, event: Event) -> None:
        raise IncompleteRecording(
            f"the recorder has dropped {event['omitted']} events; record less at once, or raise max_messages"
        )

    def take_call(self, event: Event) -> None:
        self._call = event

    def take_sent(self, event: Event) -> None:
        call, self._call = self._call, None
        if event["via"] != "call" or event.get("internal") or "message" not in event:
            return
        identity = "call", event.get("node", 0), event["n"] if call is None else call["n"]
        client = self._names.who(event) if event["pid"] is not None else f"{identity}"
        server = key_of(event, "to")
        target = self._names.role(server) or self._names.process(server)
        self._requests.begin(identity, client, target, _request_in(event["message"]))

    def take_call_ended(self, event: Event) -> None:
        number = event["sent"] if "sent" in event else event["call"]
        fate = Fate.DONE if event["how"] == "answered" else Fate.OPEN
        answer = _value_in(event["answer"]) if "answer" in event else None
        self._requests.end(("call", event.get("node", 0), number), fate, answer)

    def take_frame(self, event: Event) -> None:
        if not event.keys() >= _CONTENT or event["topic"] == _HEARTBEATS or event["event"] in _ENDS:
            return
        connection, topic = key_of(event), event["topic"]
        client, payload = self._names.client(connection), _value_in(event["payload"])
        identity = connection, topic, event.get("ref")
        if event["event"] == "phx_reply":
            answer = plain_answer(event.get("status", "ok"), payload)
            self._requests.end(identity, Fate.DONE, answer)
        elif event["direction"] == "in":
            kind = {"phx_join": "join", "phx_leave": "leave"}.get(event["event"], "push")
            request = ClientRequest(kind, event["event"], payload)
            self._requests.begin(identity, client, topic, request)
        else:
            request = ClientRequest("message", event["event"], payload)
            identity = connection, topic, event["n"]
            self._requests.begin(identity, f"{client} (messages)", topic, request)
            self._requests.end(identity, Fate.DONE)


def _value_in(text: str) -> Any:
    """Return the value that a text in a trace describes, or the text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        is_whole = len(text) < TEXT_LENGTH and _LACKS.search(text) is None
        return text if is_whole else _Partial(text)


def _request_in(text: str) -> Any:
    """Return the request that a text describes. A struct becomes a tuple of its name, in lower case, and its values."""
    try:
        match ast.parse(text, mode="eval").body:
            case ast.Call(func=ast.Name(id=name), args=[], keywords=fields):
                values = [ast.literal_eval(field.value) for field in fields]
                return name.lower(), *values
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        pass  # it has no literal
    value = _value_in(text)
    # A recorder that masks secrets writes a tuple as a list.
    return tuple(value) if isinstance(value, list) else value

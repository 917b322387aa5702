"""With `contents`, a recording of a server has its clients' pushes and replies, so that a history can be checked."""

from __future__ import annotations

import gc
import json
import weakref
from sys import getsizeof
from typing import Any

import pytest
import trio

from actors import current_runtime
from actors.errors import InvalidArgument
from actors.masking import FILTERED, SECRETS
from actors.runtime import open_runtime
from channels import Endpoint, Socket
from channels.filters import FilterRule, Keep
from channels.recording import contents, record_channels
from channels.testing import open_channel_test
from examples.scenarios.cells import CellChannel, Cells
from supervision.histories import (
    IncompleteRecording,
    Register,
    check_linearizable,
    operations_in,
)
from supervision.recording.fields import TEXT_LENGTH
from supervision.recording.flight import FlightRecorder
from supervision.recording.ring import ContentRing
from tests.supervision.recording.test_schema import check


class Forgetful(Cells):
    """Forgets a value once it was read."""

    async def handle_call(self, request: Any, sender: Any) -> Any:
        answer = await super().handle_call(request, sender)
        if request[0] == "read":
            self.state.pop(request[1], None)
        return answer


async def recorded(
    cells: type[Cells], value: Any = 7, *, rule: FilterRule = SECRETS, **options: Any
) -> list[bytes]:
    """Return the recording of a client that writes a cell once, and reads it twice."""

    class CellSocket(Socket):
        channels = {"cell:*": CellChannel}

    endpoint = Endpoint(sockets={"/socket": CellSocket}, filter_parameters=rule)
    async with open_runtime(log=False), open_channel_test(endpoint) as case:
        await cells.start_link(name="cells")
        recorder = FlightRecorder(current_runtime(), **options)
        record_channels(recorder)
        client = await case.connect("/socket", {})
        _, cell = await client.subscribe_and_join("cell:a")
        for event, payload in (("write", {"value": value}), ("read", {}), ("read", {})):
            await cell.assert_reply(cell.push(event, payload), "ok")
        lines = recorder.lines()
        recorder.close()
        return lines


@pytest.mark.parametrize(("cells", "is_correct"), [(Cells, True), (Forgetful, False)])
async def test_the_pushes_and_the_calls_of_a_recording_are_checked(
    cells: type[Cells], *, is_correct: bool, autojump_clock: trio.testing.MockClock
) -> None:
    lines = await recorded(cells, contents=True)
    for line in lines:
        check(json.loads(line))
    pushes = operations_in(lines, "cell:*")
    assert [str(each).partition(": ")[2] for each in pushes][:2] == [
        "write['cell:a'](7) -> None",
        "read['cell:a']() -> 7",
    ]
    assert check_linearizable(pushes, Register()).ok is is_correct

    with pytest.raises(InvalidArgument, match="no operation 'write' with 2 arguments"):
        check_linearizable(operations_in(lines, "*cells*"), Register())

    def of_cells(server: str, request: Any) -> tuple[str, tuple[Any, ...], str]:
        name, topic, *values = request
        return name, tuple(values), topic

    calls = operations_in(lines, "*cells*", describe=of_cells)
    assert len(calls) == 3
    assert check_linearizable(calls, Register()).ok is is_correct


async def test_a_recording_without_contents_or_with_gaps_is_refused_and_never_correct(
    autojump_clock: trio.testing.MockClock,
) -> None:
    with pytest.raises(IncompleteRecording, match="no contents of messages; record with"):
        operations_in(await recorded(Cells))
    with pytest.raises(IncompleteRecording, match="the recorder has dropped"):
        operations_in(await recorded(Cells, contents=True, max_messages=5))
    with pytest.raises(IncompleteRecording, match="no operation of chat:"):
        operations_in(await recorded(Cells, contents=True), "chat:*")


@pytest.mark.parametrize(
    ("value", "options"),
    [
        (list(range(9)), {}),
        ([[[[1]]]], {}),
        ([str(number) * 79 for number in range(8)] * 4, {}),
        (7, {"hide": ["value"]}),
    ],
)
async def test_values_of_which_a_recording_has_only_a_part_are_never_compared(
    value: Any, options: dict[str, Any], autojump_clock: trio.testing.MockClock
) -> None:
    # Another value could have the same text.
    lines = await recorded(Cells, value, contents=True, **options)
    with pytest.raises(IncompleteRecording, match="only a part of the value"):
        operations_in(lines, "cell:*")


async def test_hidden_terms_are_hidden_in_the_contents_of_frames(
    autojump_clock: trio.testing.MockClock,
) -> None:
    whole = b"".join(await recorded(Cells, contents=True, hide=["value"])).decode()
    assert FILTERED in whole
    assert "'value': 7" not in whole


async def test_frames_with_contents_are_cut_and_count_against_the_memory_of_a_recorder(
    autojump_clock: trio.testing.MockClock,
) -> None:
    value = [["x" * 80] * 8] * 8
    lines = await recorded(Cells, value, contents=True)
    frames = [each for each in map(json.loads, lines) if each["kind"] == "frame"]
    assert max(len(each["payload"]) for each in frames) == TEXT_LENGTH
    ring = ContentRing(max_records=10, max_bytes=10_000)
    about = {"direction": "in", "size": 9, "topic": "t" * 80, "event": "e", "payload": "p" * 2000}
    ring.append((1, 0.0, "frame", 7, about))
    assert ring.bytes > 0.9 * (getsizeof(about) + sum(map(getsizeof, about.values())))


@pytest.mark.parametrize("rule", [["ssn"], Keep(["id"])])
async def test_the_rule_of_the_endpoint_hides_a_secret_that_a_channel_passes_on(
    rule: FilterRule, autojump_clock: trio.testing.MockClock
) -> None:
    lines = await recorded(Cells, {"ssn": "12-34"}, rule=rule, contents=True)
    kinds = {json.loads(line)["kind"] for line in lines}
    assert {"sent", "call_ended", "frame"} <= kinds
    assert b"12-34" not in b"".join(lines)
    assert b"12-34" in b"".join(await recorded(Cells, {"ssn": "12-34"}, contents=True))


async def test_a_closed_recorder_costs_an_open_connection_no_memory_and_no_decoding(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[bytes] = []

    class CellSocket(Socket):
        channels = {"cell:*": CellChannel}

    endpoint = Endpoint(sockets={"/socket": CellSocket})
    async with open_runtime(log=False), open_channel_test(endpoint) as case:
        await Cells.start_link(name="cells")
        recorder = FlightRecorder(current_runtime(), contents=True)
        record_channels(recorder)
        client = await case.connect("/socket", {})
        _, cell = await client.subscribe_and_join("cell:a")
        assert len(recorder.lines()) > 10
        recorder.close()
        monkeypatch.setattr(contents, "message_of", decoded.append)
        await cell.assert_reply(cell.push("read", {}), "ok")
        assert decoded == []
        closed = weakref.ref(recorder)
        del recorder
        gc.collect()
        assert closed() is None

"""Trace files name the version of their format, and the trace of a live run is bounded."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import msgspec
import pytest
import trio

from actors import open_runtime, receive, send, spawn
from supervision.recording.recorder import Recorder
from supervision.recording.schema import SCHEMA_VERSION
from supervision.recording.trace import (
    BoundedTrace,
    InvalidTraceFile,
    Trace,
    open_private,
    read_lines,
    write_lines,
)
from tests.supervision.workers import settle


def test_a_trace_that_was_written_is_read_again(tmp_path: Path) -> None:
    trace = Trace(lambda: (0.5, 1, 2))
    trace.add("note", {"text": "hello"})
    trace.add_text("sent", '"pid":1')
    write_lines(tmp_path / "trace", trace.lines)
    assert read_lines(tmp_path / "trace") == trace.lines
    header = (tmp_path / "trace").read_bytes().splitlines()[0]
    assert header == b'{"trace_schema":%d}' % SCHEMA_VERSION


@pytest.mark.parametrize(
    ("content", "schema"),
    [
        (b"", None),
        (b'{"n":0,"kind":"note"}\n', None),
        (b"[]\n", None),
        (b"not JSON\n", None),
        (b'{"trace_schema":99}\n{"n":0}\n', 99),
    ],
)
def test_a_file_of_another_format_is_refused(
    tmp_path: Path, content: bytes, schema: int | None
) -> None:
    path = tmp_path / "trace"
    path.write_bytes(content)
    with pytest.raises(InvalidTraceFile, match=f"reads schema {SCHEMA_VERSION}") as error:
        read_lines(path)
    assert (error.value.path, error.value.schema) == (path, schema)


# The bounded trace of a live run


def decoded(trace: BoundedTrace) -> list[dict[str, object]]:
    return [msgspec.json.decode(line) for line in trace.lines]


@pytest.mark.parametrize("as_text", [False, True])
def test_messages_beyond_the_limit_are_only_counted(as_text: bool) -> None:
    trace = BoundedTrace(lambda: 1.5, max_messages=2)

    def send(to: int) -> int:
        if as_text:
            return trace.add_text("sent", f'"pid":null,"to":{to}')
        return trace.add("sent", {"pid": None, "to": to})

    numbers = [send(each) for each in range(4)]
    numbers.append(trace.add("exited", {"pid": 1}))
    trace.finish()
    assert numbers == [0, 1, 2, 3, 4]
    assert [(event["n"], event["kind"], event["t"]) for event in decoded(trace)] == [
        (0, "sent", 1.5),
        (1, "sent", 1.5),
        (4, "exited", 1.5),
        (5, "omitted", 1.5),
    ]
    assert decoded(trace)[-1]["omitted"] == 2


def test_events_of_every_kind_have_a_bound() -> None:
    trace = BoundedTrace(lambda: 0.0, max_events=3)
    for _ in range(10):
        trace.add("exited", {"pid": 1})
    assert len(trace.lines) == 3
    assert trace.omitted == 7


async def test_the_trace_of_a_recorder_is_bounded() -> None:
    trace = BoundedTrace(trio.current_time, max_messages=10)
    async with open_runtime(log=False) as runtime:
        Recorder(runtime, trace, 0, messages=True)
        pid = spawn(_take_all)
        for number in range(100):
            send(pid, number)
        await settle()
    kinds = Counter(event["kind"] for event in decoded(trace))
    assert kinds["sent"] + kinds["received"] == 10
    assert trace.omitted == 190


async def _take_all() -> None:
    while True:
        await receive()


def test_a_complete_trace_has_no_omitted_event() -> None:
    trace = BoundedTrace(lambda: 0.0)
    trace.add("exited", {"pid": 1})
    trace.finish()
    assert [event["kind"] for event in decoded(trace)] == ["exited"]


@pytest.mark.parametrize("keep", [True, False])
def test_add_later_records_the_same_line_and_digest_as_add_text(keep: bool) -> None:
    now, later = (Trace(lambda: (0.5, 1, 2), keep=keep) for _ in range(2))
    assert now.add_text("sent", '"pid":1') == later.add_later("sent", '"pid":{}'.format, 1)
    assert (later.lines, later.digest()) == (now.lines, now.digest())


def test_a_file_whose_rights_cannot_change_keeps_its_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(number: int, mode: int) -> None:
        raise PermissionError(number, mode)

    path = tmp_path / "trace"
    path.write_text("earlier")
    monkeypatch.setattr(os, "fchmod", refuse)
    with pytest.raises(PermissionError):
        open_private(path)
    assert path.read_text() == "earlier"
    monkeypatch.undo()
    open_private(path).close()
    assert path.read_text() == ""

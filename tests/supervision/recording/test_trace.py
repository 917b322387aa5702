"""A trace file names the version of its format, and a file of another version is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervision.recording.schema import SCHEMA_VERSION
from supervision.recording.trace import BadTraceFile, Trace, read_lines, write_lines


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
    with pytest.raises(BadTraceFile, match=f"reads schema {SCHEMA_VERSION}") as error:
        read_lines(path)
    assert (error.value.path, error.value.schema) == (path, schema)

"""Text for logs and terminals has no characters that control a terminal."""

from __future__ import annotations

import logging
from io import StringIO
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors import GenServer, Runtime, cast, spawn, wait_exit
from actors.text import TextFormatter, printable
from channels.operations.json_log import JsonFormatter
from tests.actors.helpers import settle

# Clear the screen, set the title of the window, the one-character form of an escape sequence, and turn the text round.
HOSTILE = "\x1b[2J\x1b]0;owned\x07\x9b31m\u202e"


def written(record: logging.LogRecord) -> str:
    return logging.Formatter("%(message)s").format(record)


@given(st.text(st.characters()))
def test_a_printable_text_has_only_characters_that_print(text: str) -> None:
    assert printable(text).isprintable()
    assert printable(text, lines=True).replace("\n", "").replace("\t", "").isprintable()


@given(st.text(st.characters()))
def test_a_text_that_prints_stays_as_it_is(text: str) -> None:
    if text.isprintable():
        assert printable(text) == text


def test_the_escapes_are_those_of_repr() -> None:
    assert printable(HOSTILE) == r"\x1b[2J\x1b]0;owned\x07\x9b31m\u202e"
    assert printable("a\tb\r\nc \ud800 ü") == r"a\tb\r\nc \ud800 ü"


def test_a_text_of_several_lines_keeps_its_lines_and_tabs() -> None:
    assert printable("a\n\tb\r\n\x1b", lines=True) == "a\n\tb\\r\n\\x1b"


async def test_the_report_of_a_crash_has_no_control_characters(
    runtime: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    class Raw:
        def __repr__(self) -> str:
            return HOSTILE

    class Server(GenServer[Any]):
        async def init(self) -> None:
            self.state = Raw()

        async def handle_cast(self, message: Any) -> None:
            try:
                raise KeyError(message)
            except KeyError as error:
                error.add_note(HOSTILE)
                raise ValueError(f"no room {message}") from error

    pid = await Server.start(label=f"room {HOSTILE}")
    cast(pid, HOSTILE)
    await wait_exit(pid)
    await settle()
    (record,) = caplog.records
    text = written(record)
    assert printable(text, lines=True) == text
    assert r"ValueError: no room \x1b[2J" in text
    assert "in handle_cast" in text


async def test_the_json_log_of_a_crash_keeps_the_text(
    runtime: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    async def crashes() -> None:
        raise ValueError(HOSTILE)

    await wait_exit(spawn(crashes))
    await settle()
    (record,) = caplog.records
    line = JsonFormatter().format(record)
    assert line.isascii()
    assert msgspec.json.decode(line)["exception"]["message"] == HOSTILE


async def test_a_handler_that_raises_a_raw_text_is_reported_clean(
    runtime: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*about: object) -> None:
        raise ValueError(HOSTILE)

    runtime.telemetry.attach(("a",), fails)
    runtime.telemetry.execute(("a",), {}, {})
    text = written(caplog.records[0])
    assert r"ValueError: \x1b[2J" in text
    assert printable(text, lines=True) == text


def test_the_text_formatter_cleans_the_lines_of_the_application() -> None:
    out = StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(TextFormatter("%(levelname)s %(message)s"))
    log = logging.getLogger("tests.application")
    log.addHandler(handler)
    try:
        try:
            raise ValueError(HOSTILE)
        except ValueError:
            log.exception("user %s", HOSTILE)
    finally:
        log.removeHandler(handler)
    text = out.getvalue()
    assert text.startswith(r"ERROR user \x1b[2J")
    assert printable(text, lines=True) == text

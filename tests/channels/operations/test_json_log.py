"""Log lines as JSON: one line for each record, with the facts of a crash as fields."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from actors import GenServer, cast, open_runtime, wait_exit
from channels.cli.program import LogFormat, LogLevel, open_log
from channels.operations.json_log import JsonFormatter


class Lines:
    """A logger that writes JSON, and the lines that it has written."""

    def __init__(self) -> None:
        self._out = io.StringIO()
        self.handler = logging.StreamHandler(self._out)
        self.handler.setFormatter(JsonFormatter(service="chat"))
        self.log = logging.getLogger("tests.json")

    def read(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._out.getvalue().splitlines()]

    def one(self) -> dict[str, Any]:
        (line,) = self.read()
        return line


@pytest.fixture
def lines() -> Iterator[Lines]:
    lines = Lines()
    loggers = [lines.log, logging.getLogger("actors")]
    for each in loggers:
        each.addHandler(lines.handler)
    yield lines
    for each in loggers:
        each.removeHandler(lines.handler)


class Till(GenServer[int]):
    async def init(self) -> None:
        self.state = 7

    async def handle_cast(self, message: Any) -> None:
        raise LookupError(f"no price for {message}")


def test_a_record_is_one_line_with_the_given_fields(lines: Lines) -> None:
    lines.log.warning("two\nlines, %d and %s", 7, "x")
    line = lines.one()
    assert line["message"] == "two\nlines, 7 and x"
    assert (line["level"], line["logger"], line["service"]) == ("warning", "tests.json", "chat")
    assert line["time"].endswith("Z")
    assert len(line["time"]) == len("2026-01-01T00:00:00.000Z")


async def test_a_crash_has_its_facts_as_fields(lines: Lines) -> None:
    async with open_runtime():
        pid = await Till.start()
        cast(pid, "tea")
        await wait_exit(pid)
    line = lines.one()
    assert line["crash"]["process"] == "Till"
    assert line["crash"]["pid"] == repr(pid)
    assert "no price for tea" in line["crash"]["reason"]
    assert "tea" in line["crash"]["last_message"]
    assert line["crash"]["queue_length"] == 0
    assert line["exception"]["type"] == "LookupError"
    assert line["exception"]["message"] == "no price for tea"
    assert 'raise LookupError(f"no price for {message}")' in line["exception"]["traceback"]


def test_named_values_are_fields_and_texts_of_any_size_are_cut(lines: Lines) -> None:
    about = {"supervisor": object(), "id": "till", "reason": "x" * 100_000, "count": 3}
    lines.log.error("%(supervisor)r restarted %(id)r", about, extra={"deploy": 12})
    fields = lines.one()["fields"]
    assert (fields["id"], fields["count"], fields["deploy"]) == ("till", 3, 12)
    assert fields["supervisor"].startswith("<object")
    assert len(fields["reason"]) < 3000


@pytest.mark.parametrize("text", ["half a pair \ud800", "nul \x00 and \u2028", "\x1b[31mred"])
def test_no_text_of_a_client_breaks_a_line(lines: Lines, text: str) -> None:
    lines.log.info("got %s", text, extra={"text": text})
    lines.log.warning("got %s", text, extra={"text": text})
    assert len(lines.read()) == 1
    assert "\x1b" not in lines.handler.format(logging.makeLogRecord({"msg": text}))


def test_an_exception_that_cannot_be_shown_still_has_a_line(lines: Lines) -> None:
    class BadlyShownError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    try:
        raise BadlyShownError
    except BadlyShownError:
        lines.log.exception("it failed")
    assert lines.one()["exception"]["message"] == "<its text raised RuntimeError>"


def test_numbers_that_json_cannot_hold_are_texts(lines: Lines) -> None:
    lines.log.warning("x", extra={"big": 2**80, "nan": float("nan"), "flag": True})
    assert lines.one()["fields"] == {"big": str(2**80), "nan": "nan", "flag": True}


def test_the_option_of_the_command_chooses_the_form_of_the_lines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened: list[dict[str, Any]] = []
    monkeypatch.setattr(logging, "basicConfig", lambda **options: opened.append(options))
    record = logging.makeLogRecord({"levelname": "INFO", "name": "x", "msg": "ready"})
    open_log(LogLevel.INFO, LogFormat.JSON, worker=3)
    open_log(LogLevel.INFO, worker=3)
    as_json, as_text = (options["handlers"][0].format(record) for options in opened)
    assert json.loads(as_json)["worker"] == 3
    assert as_text.endswith("worker 3 INFO x: ready")

"""The handler that writes the log lines of a table: fields, levels, rates and exceptions."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import attrs
import pytest
import trio

from actors.errors import InvalidReturn
from actors.instrumentation.logger import Line, attach_lines
from actors.instrumentation.telemetry import Telemetry

EVENT = ("tests", "event")
LOG = logging.getLogger("tests.log_lines")


@attrs.frozen
class NamedNode:
    """An object in the metadata of an event."""

    name: str


class Table:
    """A table of one line, with the messages that it writes."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level("DEBUG", LOG.name)
        self.telemetry = Telemetry()
        self._caplog = caplog

    def attach(
        self, text: str, level: Any = logging.INFO, *, owner: object = None, **options: Any
    ) -> Callable[[], None]:
        only = None if owner is None else ("owner", owner)
        line = Line(EVENT, level, text, **options)
        return attach_lines(self.telemetry, LOG, (line,), only=only)

    def emit(self, measurements: dict[str, Any] | None = None, **metadata: Any) -> None:
        self.telemetry.execute(EVENT, measurements or {}, metadata)

    @property
    def records(self) -> list[logging.LogRecord]:
        return self._caplog.records

    @property
    def lines(self) -> list[str]:
        return [record.getMessage() for record in self.records]


@pytest.fixture
def table(caplog: pytest.LogCaptureFixture) -> Table:
    return Table(caplog)


def test_a_line_shows_measurements_metadata_and_added_fields(table: Table) -> None:
    table.attach(
        "%(who)s waited %(time).1f s for %(what)r", fields=lambda facts: {"who": facts["id"]}
    )
    table.emit({"time": 1.25}, id="ann", what="tea")
    assert table.lines == ["ann waited 1.2 s for 'tea'"]


def test_the_record_has_the_values_as_named_arguments(table: Table) -> None:
    table.attach("%(count)d of %(name)s")
    table.emit({"count": 3}, name="room", other="left out")
    assert table.records[0].args == {"count": 3, "name": "room"}


def test_texts_of_an_event_are_escaped_and_cut(table: Table) -> None:
    table.attach("%(name)s")
    table.emit(name="\x1b[2J")
    table.emit(name="x" * 5000)
    escaped, cut = table.lines
    assert escaped == "\\x1b[2J"
    assert cut.endswith("... (5000 characters)")
    assert len(cut) < 2100


def test_a_placeholder_may_name_an_attribute(table: Table) -> None:
    table.attach("%(node.name)r of %(kind)s")
    table.emit(node=NamedNode("n" * 500), kind=Table)
    [line] = table.lines
    assert line.startswith("'nnn")
    assert line.endswith("nnn' of Table")
    assert len(line) < 150


def test_an_added_field_may_have_several_lines(table: Table) -> None:
    table.attach("%(stack)s", fields=lambda facts: {"stack": "a\nb"})
    table.emit()
    assert table.lines == ["a\nb"]


def test_a_line_ignores_the_events_of_other_objects(table: Table) -> None:
    table.attach("%(n)d", owner=table)
    table.emit({"n": 1}, owner=table)
    table.emit({"n": 2}, owner=LOG)
    assert table.lines == ["1"]


def test_no_line_without_a_level_a_condition_or_fields(table: Table) -> None:
    detaches = [
        table.attach("level", lambda facts: None),
        table.attach("when", when=lambda facts: False),
        table.attach("fields", fields=lambda facts: None),
    ]
    table.emit()
    assert table.lines == []
    for detach in detaches:
        detach()
    assert table.telemetry.handlers(EVENT) == ()


def test_a_disabled_level_computes_no_fields(table: Table) -> None:
    LOG.setLevel(logging.ERROR)
    computed: list[object] = []
    table.attach("%(n)d", fields=computed.append)
    table.emit({"n": 1})
    assert computed == []


async def test_a_rare_line_counts_the_events_without_a_line(
    table: Table, autojump_clock: trio.testing.MockClock
) -> None:
    table.attach(
        "%(events)d events, %(bytes)d bytes%(earlier)s",
        every=60.0,
        summed=("bytes",),
        earlier=" (%d unseen)",
    )
    for _ in range(4):
        table.emit({"bytes": 10})
    await trio.sleep(61.0)
    table.emit({"bytes": 1})
    await trio.sleep(61.0)
    table.emit({"bytes": 2})
    assert table.lines == [
        "1 events, 10 bytes",
        "4 events, 31 bytes (3 unseen)",
        "1 events, 2 bytes",
    ]


async def test_values_kept_apart_have_rates_of_their_own(
    table: Table, autojump_clock: trio.testing.MockClock
) -> None:
    table.attach("%(callback)s", every=60.0, apart="callback")
    for callback in ("fetch", "fetch", "join"):
        table.emit(callback=callback)
    assert table.lines == ["fetch", "join"]


def test_the_exception_of_an_event_has_its_traceback(table: Table) -> None:
    table.attach("%(who)s failed", with_exception=True)
    error = ValueError("no tea")
    table.emit(who="ann", exception=error)
    assert table.records[0].exc_info is not None
    assert table.records[0].exc_info[1] is error


def test_an_invalid_return_is_explained_without_a_traceback(table: Table) -> None:
    table.attach(
        "failed%(end)s", with_exception=True, invalid_return="%(exception)s%(end)s",
        fields=lambda facts: {"end": "!"},
    )  # fmt: skip
    table.emit(exception=InvalidReturn("Store.init", 7, ["None"]))
    assert table.lines == ["Store.init returned 7; it may return None!"]
    assert table.records[0].exc_info is None

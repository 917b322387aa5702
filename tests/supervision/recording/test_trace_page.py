"""The reference page of the trace lists every event with every field and its type."""

from __future__ import annotations

import re
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, get_args, get_origin

from supervision.recording.schema import EVENTS, SCHEMA_VERSION

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "trace.md"

_NAMES = {
    int: "integer",
    float: "number",
    str: "text",
    bool: "boolean",
    list: "list",
    dict: "object",
    object: "anything",
    NoneType: "null",
    None: "null",
}


def type_name(kind: Any) -> str:
    """Return the name of a type on the page."""
    if isinstance(kind, UnionType):
        return " or ".join(type_name(each) for each in get_args(kind))
    if get_origin(kind) is Annotated:
        return type_name(get_args(kind)[0])
    return _NAMES[get_origin(kind) or kind]


def test_the_page_has_every_event_and_field_of_the_schema() -> None:
    text = PAGE.read_text()
    found: dict[str, dict[str, str]] = {}
    for section in re.split(r"^### ", text, flags=re.MULTILINE)[1:]:
        name = re.match(r"`(\w+)`", section)
        assert name is not None
        rows = re.findall(r"^\| `([^`]+)` \| ([^|]+) \| ([^|]+) \|$", section, re.MULTILINE)
        assert all(meaning.strip() for _, _, meaning in rows)
        found[name[1]] = {field: kind for field, kind, _ in rows}
    expected = {
        event: {field: type_name(kind) for field, kind in fields.items()}
        for event, fields in EVENTS.items()
    }
    assert found == expected


def test_the_page_names_the_version_of_the_format() -> None:
    assert f'{{"trace_schema":{SCHEMA_VERSION}}}' in PAGE.read_text()

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


_COMMON = "Each of these events also has: "
_ITEM = re.compile(r"`(?P<name>[^`]+)`(?: (?P<type>[a-z ]+?))?(?:: (?P<meaning>.+))?")


def _rows(text: str) -> list[list[str]]:
    """Return the cells of each row of the tables in a text, without their heads."""
    rows = re.findall(r"^\| (`.+) \|$", text, re.MULTILINE)
    return [[cell.strip() for cell in row.split(" |")] for row in rows]


def _fields(text: str, common: dict[str, str]) -> dict[str, str]:
    """Return the types of fields in a list of fields, which `; ` separates.

    A field has a type and a meaning of its own, or those of the table of common fields.
    """
    found = {}
    for item in filter(None, text.split("; ")):
        field = _ITEM.fullmatch(item)
        assert field is not None, item
        name = field["name"]
        known = common.get(name.removesuffix("?"))
        assert known or (field["type"] and field["meaning"]), f"{item} has no type or no meaning"
        found[name] = field["type"] or known or ""
    return found


def test_the_page_has_every_event_and_field_of_the_schema() -> None:
    _, _, text = PAGE.read_text().partition("## Common fields\n")
    head, *sections = re.split(r"^## ", text, flags=re.MULTILINE)
    common: dict[str, str] = {}
    for names, kind, meaning in _rows(head):
        assert meaning
        common |= dict.fromkeys(re.findall(r"`(\w+)`", names), kind)
    found: dict[str, dict[str, str]] = {}
    for section in sections:
        also = [line for line in section.splitlines() if line.startswith(_COMMON)]
        shared = _fields(also[0].removeprefix(_COMMON).removesuffix("."), common) if also else {}
        for kinds, meaning, fields in _rows(section):
            assert meaning
            for kind in re.findall(r"`(\w+)`", kinds):
                assert kind not in found
                found[kind] = shared | _fields(fields, common)
    expected = {
        event: {field: type_name(kind) for field, kind in fields.items()}
        for event, fields in EVENTS.items()
    }
    assert found == expected
    used = {field.removesuffix("?") for fields in expected.values() for field in fields}
    assert common.keys() <= used


def test_the_page_names_the_version_of_the_format() -> None:
    assert f'{{"trace_schema":{SCHEMA_VERSION}}}' in PAGE.read_text()

"""The contract of an endpoint as TypeScript. An integration test compiles it."""

from __future__ import annotations

from typing import Any

import pytest

from channels.generators.contract import contract_of
from channels.generators.typescript import RESERVED, notation, typescript
from tests.architecture.sources import ROOT
from tests.channels.generators import typed_chat


def test_the_types_of_an_endpoint_are_equal_to_the_checked_ones() -> None:
    """After a change, write them again: ashtree gen types tests.channels.generators.typed_chat:endpoint."""
    told = contract_of(typed_chat.endpoint.sockets, taken=RESERVED)
    text = typescript(told, source="tests.channels.generators.typed_chat:endpoint")
    assert text == (ROOT / "tests/channels/generators/typed_chat.ts").read_text()


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({}, "unknown"),
        ({"type": "string", "format": "binary"}, "ArrayBuffer"),
        ({"type": "array", "prefixItems": [{"type": "null"}, {"const": 1}]}, "[null, 1]"),
        ({"type": "array", "items": {"enum": ["a", "b"]}}, '("a" | "b")[]'),
        ({"type": "object", "additionalProperties": {}}, "{ [name: string]: unknown }"),
        ({"type": "object", "maxProperties": 0}, "object"),
        ({"anyOf": [{"type": "integer"}, {"type": "number"}]}, "number"),
    ],
)
def test_a_schema_has_a_notation(schema: dict[str, Any], text: str) -> None:
    assert notation(schema) == text

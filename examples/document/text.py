"""The text of the document, and the changes of an edit. `static/text.js` does the same in the page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, TypeAlias

from attrs import frozen
from msgspec import Meta

MAX_PARAGRAPHS = 200

Id: TypeAlias = Annotated[str, Meta(min_length=1, max_length=40)]

Text: TypeAlias = list[dict[str, str]]
"""Paragraphs, each with `id` and `text`."""


@frozen
class Change:
    """One paragraph after an edit.

    Attributes:
        id: the paragraph, which may be a new one.
        after: the paragraph that a new paragraph follows. None puts it first.
        text: the new text. None removes the paragraph.
    """

    id: Id
    after: Id | None
    text: Annotated[str, Meta(max_length=1000)] | None


@frozen
class Edit:
    """The changes that a client makes at once. The client chooses an `id` that no other edit has."""

    id: Id
    changes: Annotated[list[Change], Meta(max_length=20)]


def new_text() -> Text:
    """Return the text before the first edit: one empty paragraph."""
    return [{"id": "first", "text": ""}]


def apply(text: Text, changes: Iterable[Mapping[str, Any]]) -> None:
    """Make changes to a text, in their order.

    A new paragraph goes to the end if the paragraph before it is gone. Beyond `MAX_PARAGRAPHS`, this adds no
    paragraphs.
    """
    for change in changes:
        ids = [paragraph["id"] for paragraph in text]
        made = [] if change["text"] is None else [{"id": change["id"], "text": change["text"]}]
        if change["id"] in ids:
            at = ids.index(change["id"])
            text[at : at + 1] = made
        elif len(ids) < MAX_PARAGRAPHS:
            after = change["after"]
            at = 0 if after is None else ids.index(after) + 1 if after in ids else len(ids)
            text[at:at] = made

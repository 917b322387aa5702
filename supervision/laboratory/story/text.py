"""A story as text, for people.

*pure*.

    1. /shop/store crashed with KeyError('apple'), while it handled sell
         2.5 s     /shop/store crashed with KeyError('apple'), while it handled sell
                   shop.py:12 in Store.handle_call: del self.state[request]
         2.5 s     the supervisor /shop started store again, as /shop/store#2 (restart 1 of 3 allowed within 5 s)
       recovery: restarted after 0 s, 1 message lost
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import PurePath
from typing import Any

from actors.text import printable
from supervision.recording.reader.model import Incident, StoryModel
from supervision.recording.reader.sentences import recovery_in_words
from supervision.recording.reader.words import counted, in_seconds, shortened

__all__ = ["write_text"]

LINES = 40
FRAMES = 3


def write_text(story: StoryModel, *, lines: int = LINES, frames: int = FRAMES) -> str:
    """Write a story as text.

    Args:
        story: the story.
        lines: the most lines of one incident. The text omits the middle of a longer incident.
        frames: the number of frames to show of a traceback, from the innermost.

    Returns:
        Several lines, without a line end.
    """
    told = [_head(story)]
    for incident in story.incidents:
        told += ["", f"{incident.number}. {printable(incident.fault.text)}"]
        told += _incident(incident, lines, frames)
    return "\n".join(told)


def _head(story: StoryModel) -> str:
    parts = [counted(len(story.incidents), "incident"), f"in {in_seconds(story.seconds)}"]
    recording = story.recording
    if recording is not None:
        began = datetime.fromtimestamp(recording["began"], UTC)
        parts.append(f"recorded from {began:%Y-%m-%d %H:%M:%S} UTC")
    head = " ".join(parts)
    if recording is not None and "merged" in recording:
        head += _merged(recording["merged"], recording.get("left_out", ()))
    if story.omitted:
        head += (
            f"\nThe recorder dropped {counted(story.omitted, 'event')}, so losses may be missing."
        )
    if story.damaged:
        head += "\nThe file is cut off, so the end may be missing."
    return head


def _merged(merged: Mapping[str, Mapping[str, Any]], left_out: Sequence[str]) -> str:
    within = [each["within"] for each in list(merged.values())[1:]]
    if None in within:
        bound = "the times of some files are only in the order of the messages"
    else:
        bound = f"compared between two of them, a time is right within {max(within):.2g} s"
    head = f"\nMerged from {counted(len(merged), 'file')} by the messages between them: {', '.join(merged)}; {bound}."
    if left_out:
        head += (
            f"\nLeft out: {', '.join(left_out)}, because the node was killed before it had a name. Losses may be "
            "missing."
        )
    return head


def _incident(incident: Incident, lines: int, frames: int) -> Iterator[str]:
    rows: list[tuple[str, str]] = []
    for number, step in enumerate(incident.steps):
        rows.append((in_seconds(step.t), step.text))
        if number == 0 and frames:
            # The first step is the fault.
            rows += [("", text) for text in _traceback(incident, frames)]
    for when, text in shortened(rows, lines):
        yield f"     {when:<9} {printable(text)}"
    yield f"   recovery: {recovery_in_words(incident)}"


def _traceback(incident: Incident, frames: int) -> Iterator[str]:
    for frame in incident.fault.traceback[-frames:]:
        source = f": {frame['source']}" if frame.get("source") else ""
        yield f"{PurePath(frame['file']).name}:{frame['line']} in {frame['function']}{source}"

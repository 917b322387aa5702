"""The story of a recording: each incident that the reader of traces finds, with names and sentences.

*pure*: the only input is the lines of a trace, from a recording or from a simulated run.

    story = tell_story(read_lines(Path("run.jsonl")))
    story.incidents[0].fault.text           # "/shop/store crashed with KeyError('apple')"

The story needs no messages in the trace, but tells more losses with them. `supervision.recording.reader.history`
defines which events belong to an incident.
"""

from __future__ import annotations

from collections.abc import Iterable

from supervision.recording.reader.history import read_history
from supervision.recording.reader.model import StoryModel
from supervision.recording.reader.names import Names
from supervision.recording.reader.sentences import write_sentences

__all__ = ["tell_story"]


def tell_story(lines: Iterable[bytes], *, damaged: bool = False) -> StoryModel:
    """Tell the story of a recording.

    Args:
        lines: the lines of a trace, such as the result of `read_recording`.
        damaged: True if the file was cut off.

    Returns:
        The story, with its incidents in the order of their faults.
    """
    history = read_history(lines)
    names = Names(history.events)
    for process in history.processes:
        process.name.label = names.label(process.key)
    for incident in history.incidents:
        write_sentences(incident)
    return StoryModel(
        seconds=history.seconds,
        recording=None if history.recording is None else dict(history.recording),
        omitted=history.omitted,
        damaged=damaged,
        incidents=history.incidents,
    )

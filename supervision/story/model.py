"""The story of a recording as data: each fault with its consequences.

*pure*. `supervision.story.incidents.tell_story` makes a `StoryModel` from the lines of a trace. `to_json` gives one
JSON object. Each class of `supervision.recording.reader.incidents` becomes a JSON object with the same field names. All
times are seconds on the clock of the trace (`t`), except where a name says otherwise. A field named `event` has the
number `n` of an event of the trace, so a viewer can jump to that event.

    {
      "format": 1,
      "seconds": 12.5,                       the time of the last event
      "recording": {...} or null,            the fields of the `recording` event; null for a simulated run
      "omitted": 0,                          events that the recorder had to drop
      "damaged": false,                      true if the file was cut off
      "incidents": [
        {
          "number": 1,
          "fault": Fault,                    what went wrong first
          "deaths": [Death, ...],            processes that ended because of it, the first one included
          "linked": [Linked, ...],           processes that were linked to one that ended
          "decisions": [Decision, ...],      what supervisors did, and why
          "losses": [Loss, ...],             messages and answers that were lost
          "clients": [ClientStory, ...],     what each client of a channel saw
          "recovery": Recovery,              how long it took
          "steps": [{"t": 2.5, "event": 17, "text": "..."}]      all of it as sentences, in order
        }
      ]
    }

Later versions may add fields. The number `format` rises when a field changes its meaning.
"""

from __future__ import annotations

from typing import Any

import msgspec

from supervision.recording.reader.incidents import Incident

__all__ = ["STORY_FORMAT", "StoryModel"]

STORY_FORMAT = 1


class StoryModel(msgspec.Struct, frozen=True, kw_only=True):
    """The story of a recording.

    Attributes:
        format: the version of this format.
        seconds: the time of the last event.
        recording: the fields of the `recording` event; None for a simulated run.
        omitted: the number of events that the recorder had to drop.
        damaged: True if the file was cut off.
        incidents: the incidents, in the order of their faults.
    """

    format: int = STORY_FORMAT
    seconds: float = 0.0
    recording: dict[str, Any] | None = None
    omitted: int = 0
    damaged: bool = False
    incidents: list[Incident] = []

    def to_json(self) -> bytes:
        """Return the story as a JSON object."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2)

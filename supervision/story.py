"""The story of a crash: each fault of a recording with its consequences, as text, pictures and figures.

    lines, damaged = read_recording(Path("run.jsonl"))
    story = tell_story(lines, damaged=damaged)
    print(write_text(story))

`ashtree story FILE` does the same. `supervision.recording.reader.model` describes the JSON of a story.
"""

from supervision.laboratory.story.mermaid import write_mermaid
from supervision.laboratory.story.text import write_text
from supervision.recording.reader.figures import RecoveryFigures, figures_of
from supervision.recording.reader.model import StoryModel
from supervision.recording.reader.story import tell_story
from supervision.recording.trace import read_recording

__all__ = [
    "RecoveryFigures",
    "StoryModel",
    "figures_of",
    "read_recording",
    "tell_story",
    "write_mermaid",
    "write_text",
]

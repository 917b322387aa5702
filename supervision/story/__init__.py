"""The story of a crash: each fault of a recording with its consequences, as text, pictures and figures.

    lines, damaged = read_recording(Path("run.jsonl"))
    story = tell_story(lines, damaged=damaged)
    print(write_text(story))

`ashtree story FILE` does the same. `supervision.story.model` describes the JSON of a story.
"""

from supervision.recording.trace import read_recording
from supervision.story.figures import RecoveryFigures, figures_of
from supervision.story.incidents import tell_story
from supervision.story.mermaid import write_mermaid
from supervision.story.model import StoryModel
from supervision.story.text import write_text

__all__ = [
    "RecoveryFigures",
    "StoryModel",
    "figures_of",
    "read_recording",
    "tell_story",
    "write_mermaid",
    "write_text",
]

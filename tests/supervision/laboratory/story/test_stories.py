"""The stories of sixteen staged faults equal the files in `stories`.

After a change of the wording, write the files again with `python -m tests.supervision.laboratory.story.test_stories`,
and read the difference.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from supervision.laboratory.story.mermaid import write_mermaid
from supervision.laboratory.story.text import write_text
from supervision.recording.reader.story import tell_story
from tests.supervision.laboratory.story.staged import STAGED, play

STORIES = Path(__file__).parent / "stories"


def told(name: str) -> str:
    """Return the story of a staged fault, without the numbers of lines in this folder."""
    text = write_text(tell_story(play(name)))
    return re.sub(r"(staged\.py):\d+", r"\1:LINE", text) + "\n"


@pytest.mark.parametrize("name", STAGED)
def test_a_story_names_cause_decision_and_consequences(name: str) -> None:
    assert told(name) == (STORIES / f"{name}.txt").read_text()


def test_every_story_has_its_staged_fault() -> None:
    assert {path.stem for path in STORIES.iterdir()} == set(STAGED)


def test_a_story_is_the_same_with_and_without_received_events() -> None:
    def incidents(*, receives: bool) -> list[object]:
        return [
            (each.fault.kind, [death.why for death in each.deaths], each.recovery)
            for name in ("handler_raises", "brutal_kill", "mailbox_full", "rest_for_one")
            for each in tell_story(play(name, receives=receives)).incidents
        ]

    assert incidents(receives=True) == incidents(receives=False)


def test_a_diagram_has_every_process_and_no_character_of_its_own_language() -> None:
    diagram = write_mermaid(tell_story(play("link_kills")))
    assert "participant p1 as /parser" in diagram
    assert "no rule for '#59;'" in diagram


def test_the_json_of_a_story_has_its_format() -> None:
    assert b'"format": 1' in tell_story(play("one_for_all")).to_json()


if __name__ == "__main__":
    for each in STAGED:
        (STORIES / f"{each}.txt").write_text(told(each))

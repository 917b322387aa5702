"""The files of the diagrams match their data, and each diagram is on a page."""

from __future__ import annotations

import pytest

from docs.diagrams.drawing import Box, Diagram, render
from docs.diagrams.pictures import DIAGRAMS, FOLDER
from tests.architecture.sources import ROOT


@pytest.mark.parametrize("diagram", DIAGRAMS, ids=lambda diagram: diagram.name)
def test_the_picture_is_the_one_that_the_data_describe(diagram: Diagram) -> None:
    drawn = (FOLDER / f"{diagram.name}.svg").read_text()
    assert drawn == render(diagram), "draw it again: python -m docs.diagrams"


@pytest.mark.parametrize("diagram", DIAGRAMS, ids=lambda diagram: diagram.name)
def test_a_page_shows_the_picture_and_describes_it_in_words(diagram: Diagram) -> None:
    shown = f"![{diagram.title}](../images/diagrams/{diagram.name}.svg)"
    assert [page for page in (ROOT / "docs").rglob("*.md") if shown in page.read_text()]


def test_the_folder_has_no_other_picture() -> None:
    assert {file.stem for file in FOLDER.iterdir()} == {diagram.name for diagram in DIAGRAMS}


@pytest.mark.parametrize(
    ("box", "problem"),
    [
        (Box(name="a", x=0, y=0, width=60, text=("far too long a text",)), "needs"),
        (Box(name="a", x=0, y=0, width=90, height=30, text=("a", "b")), "do not fit"),
        (Box(name="a", x=80, y=0, width=90, text=("a",)), "outside"),
    ],
)
def test_a_text_or_a_box_without_room_is_found(box: Box, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        render(Diagram(name="d", title="t", width=120, height=60, items=(box,)))

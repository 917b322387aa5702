"""Write all diagrams to docs/images/diagrams."""

from tests.diagrams.drawing import render
from tests.diagrams.pictures import DIAGRAMS
from tests.diagrams.test_diagrams import FOLDER

for diagram in DIAGRAMS:
    (FOLDER / f"{diagram.name}.svg").write_text(render(diagram))

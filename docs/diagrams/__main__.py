"""Draw all diagrams of the documentation, from plain data into docs/images/diagrams.

Run it with `python -m docs.diagrams`. `make pictures` runs this program too.
"""

from docs.diagrams.drawing import render
from docs.diagrams.pictures import DIAGRAMS, FOLDER

if __name__ == "__main__":
    for diagram in DIAGRAMS:
        (FOLDER / f"{diagram.name}.svg").write_text(render(diagram))

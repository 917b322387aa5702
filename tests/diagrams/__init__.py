"""The diagrams of the documentation, drawn from plain data.

`python -m tests.diagrams` writes them to docs/images/diagrams. `make pictures` runs this command too.
"""

"""Reports of a run: its history, its figures, the table and the page."""

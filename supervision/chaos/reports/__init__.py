"""Reports of a run: history, measures, the table and the page."""

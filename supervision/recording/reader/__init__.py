"""The one reader of traces: the history of a run, its incidents, its figures, and one HTML page."""

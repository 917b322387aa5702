"""Reports of a run in the terminal. `supervision.recording.reader` computes the figures and writes the page."""

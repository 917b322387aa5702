"""Reports of a run in the terminal. `supervision.viewer` computes the figures and writes the page."""

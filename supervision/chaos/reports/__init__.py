"""Reports of a run in the terminal. `supervision.viewer` has its history, its figures and its page."""

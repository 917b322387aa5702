"""Checks of what authors write: results of callbacks, answers of functions, sources of methods."""

"""Supervision trees: who restarts whom, how often, and in which order they stop."""

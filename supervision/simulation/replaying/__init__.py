"""Run files, replay, and the self-check of determinism."""

"""Failed runs: run files, replay, the self-check of determinism, and stories."""

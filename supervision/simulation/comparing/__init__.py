"""Paired comparison of policies under the same seeds and faults."""

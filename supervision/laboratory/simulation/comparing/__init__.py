"""Comparison of policies under the same seeds and faults, in pairs."""

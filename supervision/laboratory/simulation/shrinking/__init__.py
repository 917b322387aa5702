"""Shrinking: find a small run that still fails in the same way."""

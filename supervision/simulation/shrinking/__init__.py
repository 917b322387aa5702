"""Shrinking: find the smallest run that still fails in the same way."""

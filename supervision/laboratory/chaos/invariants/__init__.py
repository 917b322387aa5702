"""Invariants: properties that a program must always have, checked from outside."""

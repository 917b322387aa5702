"""Invariants of processes, supervision trees, names, monitors and calls."""

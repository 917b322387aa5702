"""Scenarios to simulate, and to break live."""

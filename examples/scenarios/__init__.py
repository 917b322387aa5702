"""Scenarios to simulate, and to run live under chaos."""

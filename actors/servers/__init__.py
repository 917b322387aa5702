"""Servers: processes that keep state and answer requests."""

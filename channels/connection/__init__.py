"""Connections of clients: the pure session, and the processes that run it."""

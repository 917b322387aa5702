"""Tests with real processes, real sockets, real clients: the only ones that take real time."""

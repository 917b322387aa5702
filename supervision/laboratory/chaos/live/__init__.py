"""Chaos on a live system, with real time and real sockets."""

"""Chaos on a live system: real time and real sockets."""

"""Transports: move bytes between connections and their sockets or streams."""

"""Connections of clients: the process of a connection, and the process of each channel."""

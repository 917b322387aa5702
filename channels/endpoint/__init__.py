"""Endpoints: the sockets and pages of one server, as a supervision tree."""

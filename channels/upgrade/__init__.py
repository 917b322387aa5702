"""The first request of a connection, and the decision to accept a client."""

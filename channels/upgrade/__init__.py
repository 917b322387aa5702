"""The first request of a connection: its head, its origin, and the upgrade to a WebSocket."""

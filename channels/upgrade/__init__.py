"""The first request of a connection: its head, its origin, and whether it becomes a WebSocket."""

"""The transports of a client: WebSockets and long polling, over any stream."""

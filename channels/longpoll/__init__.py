"""Long polling: the transport of clients that cannot use WebSockets."""

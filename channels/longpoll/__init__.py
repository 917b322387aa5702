"""Long polling: Phoenix's transport for clients that cannot have WebSockets."""

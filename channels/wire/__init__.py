"""WebSocket frames and compression, without I/O."""

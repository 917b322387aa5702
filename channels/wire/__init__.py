"""WebSocket frames and their compression, without I/O."""

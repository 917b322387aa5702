"""Bytes without I/O: WebSocket frames, request heads, URLs, and the checks against other sites."""

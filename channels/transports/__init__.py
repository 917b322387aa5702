"""How bytes reach a connection and leave it: sockets, streams, WebSocket frames and HTTP."""

"""Pages of Starlette, and the sockets of an endpoint that is mounted among them, served by Hypercorn on one port."""

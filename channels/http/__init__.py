"""The handover of HTTP requests to Hypercorn, and ASGI in both directions."""

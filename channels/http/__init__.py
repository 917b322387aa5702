"""The handover of HTTP requests to Hypercorn, static files, and the lifespan of applications."""

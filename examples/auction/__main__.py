"""Serve the auctions in one process: `SECRET_KEY_BASE=... python -m examples.auction --port 4000`."""

from channels.cli.serve import run_endpoint

from .server import endpoint

run_endpoint(endpoint, default_port=4000)

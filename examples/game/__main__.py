"""Serve the game: `python -m examples.game --port 4000`."""

from channels.cli.serve import run_endpoint

from .server import endpoint

run_endpoint(endpoint, default_port=4000)

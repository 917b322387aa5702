"""Serve the news: `SECRET_KEY_BASE=... python -m examples.news --port 4000`."""

from channels.cli.serve import run_endpoint

from .server import endpoint

run_endpoint(endpoint, default_port=4000)

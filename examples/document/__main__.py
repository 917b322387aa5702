"""Serve the document: `python -m examples.document --port 4000`."""

from channels.cli.serve import run_endpoint

from .pages import require_phoenix_js
from .server import endpoint

require_phoenix_js()
run_endpoint(endpoint, default_port=4000)

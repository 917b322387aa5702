"""Serve the page: `python -m examples.supabase --port 4000`."""

from __future__ import annotations

from examples.needs import check_libraries

check_libraries()

from channels.cli.serve import run_endpoint  # noqa: E402 - the check goes first

from .server import endpoint  # noqa: E402

run_endpoint(endpoint, default_port=4000)

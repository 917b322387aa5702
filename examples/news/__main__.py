"""Serve the news: `SECRET_KEY_BASE=... python -m examples.news --port 4000`."""

from examples.programs import run_program

from .server import desk, endpoint

run_program(endpoint, [desk])

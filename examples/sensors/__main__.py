"""Serve the lights: `python -m examples.sensors --port 4000`."""

from examples.programs import run_program

from .server import endpoint, lamps

run_program(endpoint, lamps)

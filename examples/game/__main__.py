"""Serve the game: `python -m examples.game --port 4000`."""

from examples.programs import run_program

from .server import endpoint, room_supervisor

run_program(endpoint, [room_supervisor])

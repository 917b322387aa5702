"""Serve the game: `python -m examples.game --port 4000`."""

from examples.programs import run_program

from .room import room_supervisor
from .server import endpoint

run_program(endpoint, [room_supervisor])

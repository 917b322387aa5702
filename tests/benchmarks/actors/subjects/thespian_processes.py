"""Thespian with a process for each actor."""

from tests.benchmarks.actors.subjects.thespian_systems import subject

SUBJECT = subject("multiprocUDPBase", "thespian UDP", "own process", apart=True, most=10)

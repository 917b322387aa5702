"""xoscar: messages to an actor in a pool in another process."""

from tests.benchmarks.actors.subjects.xoscar_pools import subject

SUBJECT = subject("xoscar process", "own process", apart=True, direct=False, processes=1)

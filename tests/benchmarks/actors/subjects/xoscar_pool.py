"""xoscar: messages to an actor in the same pool."""

from tests.benchmarks.actors.subjects.xoscar_pools import subject

SUBJECT = subject("xoscar pool", "own task", apart=True, direct=False, processes=0)

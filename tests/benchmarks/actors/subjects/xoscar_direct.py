"""xoscar: a method of an actor in the same pool, called in the caller's task."""

from tests.benchmarks.actors.subjects.xoscar_pools import subject

SUBJECT = subject("xoscar", "caller's task", apart=False, direct=True, processes=0)

"""One client's connection: the pure session, and the processes that run it."""

"""Parts of the command `ashtree` that need no endpoint: arguments, and tracebacks for authors."""

"""Parts of the `ashtree` command that need no endpoint: arguments and tracebacks."""

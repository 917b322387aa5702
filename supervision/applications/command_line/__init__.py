"""Parts of the `ashtree` command that do not use an endpoint: arguments and tracebacks."""

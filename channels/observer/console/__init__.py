"""The terminal observer, for `ashtree observe`."""

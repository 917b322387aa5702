"""Tasks: processes that compute one value and hand it to their owner."""

"""Tasks: processes that compute one value and send it to their owner."""

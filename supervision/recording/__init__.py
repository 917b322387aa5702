"""Recording of runs: the trace, the places of processes in their trees, and values as stable text."""

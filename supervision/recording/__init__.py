"""Writing down what happens in a runtime: the trace, where every process is in its tree, values as stable text."""

"""The network of live experiments, the simulated Redis server, joined nodes, and invariants of channels."""

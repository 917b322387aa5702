"""The world that a scenario runs in: clock, network, nodes, randomness."""

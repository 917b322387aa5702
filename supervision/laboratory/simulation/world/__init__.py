"""The world of a scenario: clock, network, nodes, random numbers."""

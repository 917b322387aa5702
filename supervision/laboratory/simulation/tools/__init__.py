"""The command line and the pytest runner of simulation."""

"""Everything that tries a program out: faults, simulated worlds, and the stories of runs. No server in production loads it."""

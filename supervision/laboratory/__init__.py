"""Faults, simulated worlds and the stories of runs, which try a program out. No server in production loads them."""

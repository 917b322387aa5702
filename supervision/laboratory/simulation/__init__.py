"""Simulated worlds, sweeps, replays and shrinking. Import from `supervision.simulation`."""

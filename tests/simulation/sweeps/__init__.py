"""Sweeps: scenarios that drive the public API at random, each beside a model of what must be observed."""

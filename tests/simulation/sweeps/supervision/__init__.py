"""Sweeps of supervision: supervisors, tasks and applications, each beside a model."""

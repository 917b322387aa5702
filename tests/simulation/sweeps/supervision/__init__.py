"""Sweeps of supervision: supervisors, tasks and applications, each compared with a model."""

"""Registries: unique or shared keys for processes, with a value for each entry."""

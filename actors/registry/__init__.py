"""Registries: unique or duplicate keys for processes, with a value for each entry."""

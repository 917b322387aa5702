"""Entities: one process for each key in the whole cluster."""

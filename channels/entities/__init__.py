"""Entities: processes that run once for each key in the whole cluster."""

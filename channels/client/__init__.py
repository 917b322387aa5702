"""A Phoenix client."""

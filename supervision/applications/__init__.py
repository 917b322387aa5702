"""Applications: supervision trees with an ordered start and stop, which make up a program."""

__all__ = ["application"]

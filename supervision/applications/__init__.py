"""Applications: a program as one supervision tree, with ordered start and stop."""

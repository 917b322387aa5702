"""Worlds in which a program runs from a seed: virtual time, a seeded scheduler, a virtual network."""

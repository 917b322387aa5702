"""Sweeps: many seeds in forked processes, and what they found."""

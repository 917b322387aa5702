"""Sweeps: many seeds in forked processes, their failures, and the corpus."""

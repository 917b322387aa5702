"""Partition supervisors: several copies of one child, each for its share of the keys."""

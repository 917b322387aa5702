"""Chaos engineering: faults and their injection, experiments, and expectations. Import from `supervision.chaos`."""

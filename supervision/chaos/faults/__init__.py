"""Faults as data: kinds, targets, moments, plans, and reports."""

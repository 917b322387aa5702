"""Faults as data: their kinds, moments, plans and reports."""

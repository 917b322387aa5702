"""Histories of operations, and checks of them against a model. The facade is `supervision.histories`."""

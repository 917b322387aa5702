"""The laws of Ashtree: invariants that only a defect of Ashtree itself can break, and their models.

`tests.laws.scenarios` has `scenario` and `simulate`, which check them in addition to the invariants of the users.
"""

"""The check of the examples whose state lives in one process."""

from __future__ import annotations

import os

from channels import EndpointError


def check_one_worker(what: str) -> None:
    """Refuse to run with several workers, because each would have its own copy of the state.

    Args:
        what: the state, such as "the rooms of the game".
    """
    count = int(os.environ.get("ASHTREE_WORKERS_COUNT", "1"))
    if count > 1:
        raise EndpointError(
            f"{what} must exist only once, but each of the {count} workers would have its own; leave out --workers"
        )

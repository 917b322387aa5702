"""Access for observers to a limited number of a supervisor's children, without a request to the supervisor."""

from __future__ import annotations

from itertools import islice

from actors.refs import Pid
from supervision._requests import each_child_of, kind_of
from supervision.child_spec import ChildInfo

__all__ = ["kind_of", "some_children"]


def some_children(supervisor: Pid, limit: int) -> list[ChildInfo]:
    """Return at most `limit` children of a living supervisor, newest first."""
    return list(islice(each_child_of(supervisor), limit))

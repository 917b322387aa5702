"""Supervision trees as values: the tree of a supervisor, and snapshots of all processes.

from supervision.tree import snapshot

print((await snapshot()).to_text())
"""

from supervision.tree.records import ProcessHealth, ProcessView, TreeSnapshot
from supervision.tree.snapshots import snapshot
from supervision.tree.tree import TreeNode, render, tree_of

__all__ = [
    "ProcessHealth",
    "ProcessView",
    "TreeNode",
    "TreeSnapshot",
    "render",
    "snapshot",
    "tree_of",
]

"""Functions that return a supervision tree as a value or as text.

    print(render("top"))

    top (one_for_one) <pid 1>
    ├── store <pid 2>
    ├── rooms (dynamic) <pid 3>
    │   └── Room 'lobby' <pid 5>
    └── clock restarting

These functions read the current state of the supervisors and send no request, so they never wait for a busy supervisor.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, TypeAlias

import msgspec

from actors.addresses import whereis
from actors.errors import NoProcess
from actors.refs import Pid
from actors.runtime import current_runtime
from actors.text import printable
from supervision._requests import children_of, kind_of
from supervision.child_spec import RESTARTING, ChildType

__all__ = ["TreeNode", "render", "tree_of"]

Status: TypeAlias = Literal["running", "restarting", "stopped"]


class TreeNode(msgspec.Struct, frozen=True, kw_only=True):
    """One process of a supervision tree, or a child that is not running. `tree_of` makes it."""

    id: Any
    """The id of the child; None for the top and for children of a dynamic supervisor."""
    pid: Pid | None
    """The process; None if it is not running."""
    type: ChildType
    status: Status
    """"running"; "restarting" if its supervisor will try again; otherwise "stopped"."""
    name: object
    """The registered name of the process, or None."""
    label: str | None
    """The name of the process in messages; None if it is not running."""
    kind: str | None
    """The strategy of a running supervisor, or "dynamic"; None for other processes."""
    children: tuple[TreeNode, ...]
    """The children, in the order of their start."""

    @property
    def title(self) -> str:
        """The id of the child. Without an id: the name of the process, or its label if it has no name."""
        if self.id is not None:
            return str(self.id)
        return str(self.name) if self.name is not None else str(self.label)

    def walk(self) -> Iterator[TreeNode]:
        """Yield this node and all nodes below it, parents before children."""
        yield self
        for child in self.children:
            yield from child.walk()


def tree_of(supervisor: object) -> TreeNode:
    """Return the tree below a supervisor at this moment.

        [node.id for node in tree_of(top).walk() if node.status == "restarting"]

    Args:
        supervisor: A pid or a name. For a process that is not a supervisor, the tree has one node.

    Raises:
        NoProcess: There is no such process.

    The tree contains children only of supervisors of this package.
    """
    pid = supervisor if type(supervisor) is Pid else whereis(supervisor)
    info = None if pid is None else current_runtime().process_info(pid)
    if pid is None or info is None:
        raise NoProcess(supervisor, "tree_of", 0)
    return _running(None, pid, "worker" if kind_of(pid) is None else "supervisor", info)


def render(supervisor: object, *, pids: bool = True) -> str:
    """Draw the tree below a supervisor at this moment.

        print(render(top))

    Args:
        supervisor: A pid or a name.
        pids: Show pids. Turn this off in tests, so that two runs of a program draw the same text.

    Returns:
        One line for each process, without a line break at the end. A line has the id of the child; below a dynamic
        supervisor, its name or label instead. For a supervisor, the strategy follows. The pid, "restarting" or
        "stopped" ends the line.

    Raises:
        NoProcess: There is no such process.
    """
    return "\n".join(_draw(tree_of(supervisor), pids))


def _draw(node: TreeNode, pids: bool) -> Iterator[str]:
    yield _line(node, pids)
    for number, child in enumerate(node.children, 1):
        first, further = ("├── ", "│   ") if number < len(node.children) else ("└── ", "    ")
        lines = _draw(child, pids)
        yield first + next(lines)
        for line in lines:
            yield further + line


def _line(node: TreeNode, pids: bool) -> str:
    parts = [printable(node.title)]
    if node.type == "supervisor":
        parts.append(f"({node.kind or 'supervisor'})")
    if node.pid is None:
        parts.append(node.status)
    elif pids:
        parts.append(repr(node.pid))
    return " ".join(parts)


def _running(id: Any, pid: Pid, type: ChildType, info: dict[str, Any]) -> TreeNode:
    runtime = current_runtime()
    children = []
    for child in reversed(children_of(pid)):
        # A child may have ended before its supervisor has read the message about that.
        alive = runtime.process_info(child.pid) if isinstance(child.pid, Pid) else None
        if alive is not None and isinstance(child.pid, Pid):
            children.append(_running(child.id, child.pid, child.type, alive))
        else:
            children.append(_absent(child.id, child.type, restarting=child.pid == RESTARTING))
    return TreeNode(
        id=id,
        pid=pid,
        type=type,
        status="running",
        name=info["name"],
        label=info["label"],
        kind=kind_of(pid),
        children=tuple(children),
    )


def _absent(id: Any, type: ChildType, *, restarting: bool) -> TreeNode:
    return TreeNode(
        id=id,
        pid=None,
        type=type,
        status="restarting" if restarting else "stopped",
        name=None,
        label=None,
        kind=None,
        children=(),
    )

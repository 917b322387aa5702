"""Supervision trees as values, and as text.

    print(render("top"))

    top (one_for_one) <pid 1>
    ├── store <pid 2>
    ├── rooms (dynamic) <pid 3>
    │   └── Room 'lobby' <pid 5>
    └── clock restarting

No supervisor is asked for this, so nothing waits: a supervisor that is busy starting a child is shown as it stands at
this moment, and so is all that is below it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, TypeAlias

from attrs import frozen

from actors.addresses import whereis
from actors.errors import NoProcess
from actors.refs import Pid
from actors.runtime import current_runtime
from supervision._core.deadlock import children_of, kind_of
from supervision.child_spec import RESTARTING, ChildType

__all__ = ["TreeNode", "render", "snapshot"]

Status: TypeAlias = Literal["running", "restarting", "stopped"]


@frozen(kw_only=True)
class TreeNode:
    """One process of a supervision tree, or one child that has none at the moment; made by `snapshot`."""

    id: Any
    """The id of the child; None for the top, and for children of a dynamic supervisor."""
    pid: Pid | None
    """Its process; None unless it is running."""
    type: ChildType
    status: Status
    """"running"; "restarting" while its supervisor is going to try again; "stopped" otherwise."""
    name: object
    """The registered name of the process, or None."""
    label: str | None
    """How messages about the process call it; None if it is not running."""
    kind: str | None
    """For a supervisor that is running its strategy, or "dynamic"; None for everything else."""
    children: tuple[TreeNode, ...]
    """In the order of their start."""

    @property
    def title(self) -> str:
        """How a drawing calls it: the id, or else the name or the label."""
        if self.id is not None:
            return str(self.id)
        return str(self.name) if self.name is not None else str(self.label)

    def walk(self) -> Iterator[TreeNode]:
        """This node, and all below it, each before its children."""
        yield self
        for child in self.children:
            yield from child.walk()


def snapshot(supervisor: object) -> TreeNode:
    """The tree below a supervisor, as it is now.

        [node.id for node in snapshot(top).walk() if node.status == "restarting"]

    Args:
        supervisor: a pid or a name. Any other process is a tree of one.

    Raises:
        NoProcess: there is no such process.

    Looks only into the supervisors of this package; a process of another kind that a spec calls a supervisor is shown
    without children.
    """
    pid = supervisor if type(supervisor) is Pid else whereis(supervisor)
    info = None if pid is None else current_runtime().process_info(pid)
    if pid is None or info is None:
        raise NoProcess(supervisor, "snapshot", 0)
    return _running(None, pid, "worker" if kind_of(pid) is None else "supervisor", info)


def render(supervisor: object, *, pids: bool = True) -> str:
    """Draw the tree below a supervisor, as it is now.

        print(render(top))

    Args:
        supervisor: a pid or a name.
        pids: show them. Without them two runs of one program draw the same, which is what a test can compare.

    Returns:
        Lines, one for each child, without a line break at the end: its id, or below a dynamic supervisor its name or
        label; the strategy, if it is a supervisor; its pid; and "restarting" or "stopped", if it has none.

    Raises:
        NoProcess: there is no such process.
    """
    return "\n".join(_draw(snapshot(supervisor), pids))


def _draw(node: TreeNode, pids: bool) -> Iterator[str]:
    yield _line(node, pids)
    for number, child in enumerate(node.children, 1):
        first, further = ("├── ", "│   ") if number < len(node.children) else ("└── ", "    ")
        lines = _draw(child, pids)
        yield first + next(lines)
        for line in lines:
            yield further + line


def _line(node: TreeNode, pids: bool) -> str:
    parts = [node.title]
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
        # What has just ended, and its supervisor has not heard of it yet, is not running any more.
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

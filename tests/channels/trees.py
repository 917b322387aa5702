"""The supervision tree of a running server, as text and as facts, for tests to compare."""

from __future__ import annotations

from typing import Any

from actors import Pid, Runtime, current_runtime
from supervision import DynamicSupervisor, Supervisor

STATIC, DYNAMIC = "one_for_one", "dynamic"


async def tree(supervisor: Pid, title: str = "endpoint") -> str:
    """Draw a supervisor and everything under it. Children of dynamic supervisors go by their labels."""
    lines = [f"{title} ({STATIC})"]
    children = list(reversed(await Supervisor.which_children(supervisor)))
    for index, child in enumerate(children):
        last = index == len(children) - 1
        assert isinstance(child.pid, Pid), child
        for number, line in enumerate(await _draw(supervisor, child.id, child.pid, child.type)):
            branch = ("└── " if last else "├── ") if number == 0 else ("    " if last else "│   ")
            lines.append(branch + line)
    return "\n".join(lines)


async def _draw(supervisor: Pid, id: Any, pid: Pid, kind: str) -> list[str]:
    if kind == "worker":
        return [str(id)]
    spec = await Supervisor.get_childspec(supervisor, id)
    if getattr(spec.start, "__self__", None) is not DynamicSupervisor:
        return (await tree(pid, str(id))).splitlines()
    children = list(reversed(await DynamicSupervisor.which_children(pid)))
    marks = ["├── "] * (len(children) - 1) + ["└── "]
    return [
        f"{id} ({DYNAMIC})",
        *(f"{mark}{label(child.pid)}" for mark, child in zip(marks, children, strict=False)),
    ]


async def child(supervisor: Pid, id: str) -> Pid:
    """The process that is this child of a static supervisor now."""
    (found,) = [each.pid for each in await Supervisor.which_children(supervisor) if each.id == id]
    assert isinstance(found, Pid)
    return found


def label(pid: Any) -> str:
    """How a process is called."""
    info = current_runtime().process_info(pid)
    assert info is not None, pid
    return str(info["label"])


def facts(runtime: Runtime) -> dict[Pid, dict[str, Any]]:
    """Everything that is known of every process: links, monitors, queue length, status, and so on."""
    found = {}
    for pid in runtime.processes():
        info = runtime.process_info(pid)
        assert info is not None
        found[pid] = info
    return found

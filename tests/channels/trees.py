"""The supervision tree of a running server as facts, for tests to compare; `supervision.render` draws it."""

from __future__ import annotations

from typing import Any

from actors import Pid, Runtime, current_runtime
from supervision import Supervisor


async def child(supervisor: Pid, id: str) -> Pid:
    """The process that is this child of a static supervisor now."""
    (found,) = [each.pid for each in await Supervisor.which_children(supervisor) if each.id == id]
    assert isinstance(found, Pid)
    return found


def label(pid: Any) -> str:
    """Return the name of a process."""
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

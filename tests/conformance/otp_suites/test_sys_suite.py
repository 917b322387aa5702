"""Cases of OTP's sys_SUITE that no other test covers."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from actors import Agent, GenServer, KeepState, Pid, Reply, Sender, call, is_alive, sys
from supervision import DynamicSupervisor, Supervisor
from tests.actors.helpers import in_process
from tests.actors.machines import Script


class Echo(GenServer[None]):
    async def handle_call(self, request: Any, sender: Sender) -> Reply:
        return Reply(request)


@in_process()
async def test_a_trace_can_go_into_a_file(tmp_path: Path) -> None:
    server = await Echo.start(name="echo")
    with (tmp_path / "trace").open("w") as file:
        await sys.trace(server, lambda line: file.write(f"{line}\n"))
        await call(server, "hello")
        await sys.trace(server, None)
        await call(server, "unseen")
    lines = (tmp_path / "trace").read_text().splitlines()
    assert [line[:10] for line in lines] == ["'echo' <- ", "'echo' -> "]
    assert all("hello" in line for line in lines)


@pytest.mark.parametrize(
    "start",
    [
        lambda: Agent.start(lambda: 0),
        lambda: Script.start(lambda *_: KeepState()),
        lambda: Supervisor.start([]),
        DynamicSupervisor.start,
    ],
    ids=["agent", "state machine", "supervisor", "dynamic supervisor"],
)
@in_process()
async def test_supervisors_agents_and_machines_answer_sys(
    start: Callable[[], Awaitable[Pid]],
) -> None:
    pid = await start()
    await sys.statistics(pid, True)
    await sys.suspend(pid)
    status = await sys.get_status(pid)
    assert (status.pid, status.suspended) == (pid, True)
    await sys.resume(pid)
    assert (await sys.get_status(pid)).suspended is False
    assert await sys.get_statistics(pid) is not None
    await sys.terminate(pid)
    assert not is_alive(pid)

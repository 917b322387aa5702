"""The process behind one running application: it starts the tree, and makes sure that nothing survives it."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any

from actors.errors import StartError
from actors.exits import KILL, Crash, ExitReason
from actors.links import monitor, send_exit, trap_exits
from actors.messages import Down, Exit
from actors.process import current_pid, receive
from actors.refs import Ref
from actors.runtime import current_runtime
from actors.servers.gen_server import GenServer
from actors.servers.results import Fail
from supervision._core.children import stop
from supervision._core.requests import Waiting
from supervision.applications.spec import ApplicationSpec
from supervision.events import APPLICATION_CALLBACK_FAILED
from supervision.supervisor import Supervisor

__all__ = ["ApplicationMaster"]


class ApplicationMaster(GenServer[ApplicationSpec]):
    """The process from which everything of one application comes, and which makes sure that all of it is gone."""

    async def init(self, spec: ApplicationSpec) -> Fail | None:
        trap_exits()
        self.state = spec
        self.running = Waiting(())
        self.running.for_start(spec.name)
        try:
            self.top = await (spec.top() if callable(spec.top) else Supervisor.start_link(spec.top))
        except StartError as error:
            reason = error.reason
        except (
            Exception
        ) as error:  # whatever a start function raises is why the application did not start
            reason = Crash(error)
        else:
            self.running.over()
            return None
        await _kill_descendants()
        return Fail(reason)

    async def handle_info(self, message: Any) -> None:
        if type(message) is not Exit or message.pid is not self.top:
            # Somebody of the application was linked here, or thinks so.
            return
        await self._over()
        # Ends as the application did; by a signal, because nothing has gone wrong here that would be worth a report.
        trap_exits(False)
        send_exit(current_pid(), message.reason)

    async def terminate(self, reason: ExitReason) -> None:
        await self._run("prep_stop", self.state.prep_stop)
        self.running.for_stop(self.state.name, None)
        await stop(self.top, math.inf)
        await self._over()

    async def _over(self) -> None:
        await _kill_descendants()
        await self._run("stop", self.state.stop)

    async def _run(self, callback: str, function: Callable[[], Awaitable[None]] | None) -> None:
        if function is None:
            return
        try:
            await function()
        except (
            Exception
        ) as error:  # an application that is over stays over, and the others must stop too
            current_runtime().telemetry.execute(
                APPLICATION_CALLBACK_FAILED,
                {},
                {"name": self.state.name, "callback": callback, "exception": error},
            )


async def _kill_descendants() -> None:
    """Kill every process that was spawned by the current one, by those that it spawned, and so on."""
    runtime, me = current_runtime(), current_pid()
    refs: set[Ref] = set()
    while True:
        for pid in runtime.processes():
            info = runtime.process_info(pid)
            if info is not None and me in info["ancestors"]:
                refs.add(monitor(pid))
                send_exit(pid, KILL)
        if not refs:
            return
        # Their ends may have been what others of them were waiting for to go on and spawn more.
        while refs:
            down = await receive(lambda m: type(m) is Down and m.ref in refs)
            refs.discard(down.ref)

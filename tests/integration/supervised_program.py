"""A program of one application. Its first argument selects the behaviour."""

import signal
import sys
import time
from typing import Any

import trio

from actors import Fail, GenServer, run_in_thread, trap_exits
from supervision import ChildSpec, Supervisor, child_spec, process_spec
from supervision.applications import application


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


class Says(GenServer[str]):
    """Says when it starts and when it stops; may wait for a line of input to start, and take its time to stop."""

    async def init(self, name: str, *, waits: bool = False, stops: float = 0.0) -> Any:
        trap_exits()
        say(f"starting {name}")
        if waits:
            await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True)
        self.state = name
        self.stops = stops
        return Fail("port 80 is taken") if name == "broken" else None

    async def terminate(self, reason: object) -> None:
        say(f"stopping {self.state}")
        await trio.sleep(self.stops)
        say(f"stopped {self.state}")


def says(name: str, *, shutdown: float = 5.0, **kwargs: float) -> ChildSpec:
    return child_spec(Says, name, id=name, kwargs=kwargs, shutdown=shutdown)


async def computes() -> None:
    """Never waits for anything but its turn: the hardest place for an interrupt to arrive in."""
    while True:
        await trio.lowlevel.checkpoint()


async def crashes() -> None:
    raise RuntimeError("boom")


class Holds(Says):
    """Says when it stops, and then holds the program up."""

    async def terminate(self, reason: object) -> None:
        say(f"stopping {self.state}")
        if self.state == "thread":
            await run_in_thread(time.sleep, 3600.0, abandon_on_cancel=False)
        else:
            time.sleep(3600.0)  # noqa: ASYNC251  # it is what this test is about


MODES: dict[str, list[ChildSpec]] = {
    "quick": [says("a"), says("b")],
    "busy": [says("a"), process_spec(computes)],
    "slow": [says("a"), says("b", stops=3600.0, shutdown=3600.0)],
    "thread": [says("a"), child_spec(Holds, "thread", id="thread", shutdown=3600.0)],
    "loop": [says("a"), child_spec(Holds, "loop", id="loop", shutdown=3600.0)],
    "booting": [says("a"), says("b", waits=True)],
    "broken": [says("a"), Supervisor.child_spec([says("broken")], id="web")],
    "crashing": [says("a"), process_spec(crashes)],
}

if __name__ == "__main__":
    mode = sys.argv[1]
    if mode == "deadline":
        application.run(MODES["slow"], on_started=lambda top: say("ready"), shutdown_deadline=0.3)
    elif mode == "terminate-only":
        application.run(
            MODES["quick"],
            on_started=lambda top: say("ready"),
            signals=[signal.SIGTERM],
        )
    else:
        application.run(MODES[mode], on_started=lambda top: say("ready"))
    say("end of program")

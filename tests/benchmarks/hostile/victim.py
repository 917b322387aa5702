"""The server under attack: `python -m tests.benchmarks.hostile.victim`. All limits are the defaults.

`GET /blocked` returns three numbers in milliseconds, each the maximum since the last request. The first number is the
duration of a scheduler turn, in which the server does not wait for its sockets. The second number is the CPU time of a
turn, which does not depend on other programs on the machine. The third number is the duration of a run of the garbage
collector, which is part of a turn.

`GET /overflows` returns the number of clients that the server has closed because they read too slowly.
"""

from __future__ import annotations

import gc
import time
from typing import Any

import trio

from channels import Endpoint, Mount
from channels.cli.serve import run_endpoint
from channels.http.handover import not_found
from channels.telemetry import SOCKET_OVERFLOW
from examples.conformance import UserSocket


class Blocked(trio.abc.Instrument):
    """The longest turn of the scheduler, and the longest run of the garbage collector."""

    def __init__(self) -> None:
        self._longest = self._busiest = self._collector = 0.0
        self._since = self._used = self._collecting_since = 0.0

    def after_io_wait(self, timeout: float) -> None:
        self._since, self._used = time.perf_counter(), time.thread_time()

    def before_io_wait(self, timeout: float) -> None:
        if self._since:
            self._longest = max(self._longest, time.perf_counter() - self._since)
            self._busiest = max(self._busiest, time.thread_time() - self._used)

    def collected(self, phase: str, info: dict[str, int]) -> None:
        """Note the start or the end of a run of the garbage collector."""
        if phase == "start":
            self._collecting_since = time.perf_counter()
        else:
            took = time.perf_counter() - self._collecting_since
            self._collector = max(self._collector, took)

    def take(self) -> tuple[float, float, float]:
        """Return the three maxima of `/blocked` in seconds, and reset them."""
        taken = self._longest, self._busiest, self._collector
        self._longest = self._busiest = self._collector = 0.0
        return taken


blocked = Blocked()


async def pages(scope: Any, receive: Any, send: Any) -> None:
    """Serve `/blocked` and `/overflows`. Answer 404 to all other requests."""
    if scope["type"] == "lifespan":
        trio.lowlevel.add_instrument(blocked)
        gc.callbacks.append(blocked.collected)
    if scope["type"] != "http" or scope["path"] not in {"/blocked", "/overflows"}:
        await not_found(scope, receive, send)
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if scope["path"] == "/overflows":
        figures = str(endpoint.statistics()["counts"].get(SOCKET_OVERFLOW, 0))
    else:
        figures = " ".join(f"{seconds * 1000:.1f}" for seconds in blocked.take())
    await send({"type": "http.response.body", "body": figures.encode()})


endpoint = Endpoint(
    sockets={"/socket": Mount(UserSocket, compress=True, longpoll=True)}, http=pages
)

if __name__ == "__main__":
    run_endpoint(endpoint, default_port=0, default_log_level="critical")

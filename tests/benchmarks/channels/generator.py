"""The load generator: `python -m tests.benchmarks.channels.generator WORKLOAD --url ws://…`.

It runs one workload against one server, and prints one line of JSON: rates, latencies in milliseconds, CPU of the
server in microseconds per operation, and the shares of a core that the server, the generator and everything else used.
If the generator's own share is close to 1, the generator limited the figures, not the server.
"""

from __future__ import annotations

import argparse
import json
import os
import sys

from tests.benchmarks.channels.clients import Crowd, TooLate
from tests.benchmarks.channels.dialects import DIALECTS, Refused
from tests.benchmarks.channels.machine import allow_files
from tests.benchmarks.channels.open_loop import OPEN_LOOPS
from tests.benchmarks.channels.slow_client import never
from tests.benchmarks.channels.wire import WireError
from tests.benchmarks.channels.workloads import CLOSED_LOOPS, Load, Workload

__all__ = ["WORKLOADS", "arguments_of", "generate", "main"]

WORKLOADS: dict[str, Workload] = {**CLOSED_LOOPS, **OPEN_LOOPS, "never": never}
"""The workloads by name."""


def generate(workload: str, url: str, dialect: str, load: Load) -> dict[str, object]:
    """Run one workload, and return its figures.

    Raises:
        OSError: no server accepts connections at the URL.
        Refused: the server refused a join.
        TooLate: the server did not answer in time.
        WireError: the server does not speak WebSocket.
    """
    crowd = Crowd(url, DIALECTS[dialect])
    try:
        return WORKLOADS[workload](crowd, load)
    finally:
        crowd.close()


def arguments_of(load: Load) -> list[str]:
    """Return the size of a workload as options of this program."""
    return [
        *("--connections", str(load.connections)),
        *("--in-flight", str(load.in_flight)),
        *("--concurrency", str(load.concurrency)),
        *("--operations", str(load.operations)),
        *("--seconds", str(load.seconds)),
        *("--warm-up", str(load.warm_up)),
        *("--timeout", str(load.timeout)),
        *("--drain", str(load.drain)),
        *("--extra", str(load.extra)),
    ]


def main() -> None:
    """Read the options, run the workload and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("workload", choices=list(WORKLOADS))
    parser.add_argument(
        "--url", required=True, help="such as ws://127.0.0.1:4000/socket/websocket?vsn=2.0.0"
    )
    parser.add_argument("--dialect", choices=list(DIALECTS), default="phoenix")
    parser.add_argument("--core", type=int, help="the core on which the generator runs")
    parser.add_argument("--pids", type=int, nargs="*", default=[], help="the server's processes")
    parser.add_argument("--connections", type=int, default=Load().connections)
    parser.add_argument("--in-flight", type=int, default=Load().in_flight)
    parser.add_argument("--concurrency", type=int, default=Load().concurrency)
    parser.add_argument("--operations", type=int, default=Load().operations)
    parser.add_argument("--seconds", type=float, default=Load().seconds)
    parser.add_argument("--warm-up", type=float, default=Load().warm_up)
    parser.add_argument("--timeout", type=float, default=Load().timeout)
    parser.add_argument("--drain", type=float, default=Load().drain)
    parser.add_argument("--extra", type=float, default=Load().extra)
    parser.add_argument("--reconnects", action="store_true", help="a crash ends the connection")
    options = vars(parser.parse_args())
    workload, url, dialect, core = (
        options.pop(name) for name in ("workload", "url", "dialect", "core")
    )
    if core is not None:
        os.sched_setaffinity(0, {core})
    allow_files()
    try:
        print(json.dumps(generate(workload, url, dialect, Load(**options))))
    except (OSError, Refused, TooLate, WireError) as error:
        sys.exit(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()

"""The part that all drivers in Python share.

A driver gets the URL of the server and the version of the protocol. It prints the name of each step that held. The
first exception ends it. It sees the standard library and the packages of its client, and nothing else.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any

URL, WIRE = sys.argv[1:3]
ROOM = "room:lobby"


def held(step: str) -> None:
    print(f"> {step}", flush=True)


def restart() -> None:
    """Ask for a restart of the server. A driver first prepares to see what the client does then."""
    print("! restart", flush=True)


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(main())

"""The vehicles: `python -m examples.vehicles.sensors --url ws://127.0.0.1:4000/socket`.

Each vehicle is a client with its own connection. The client tries without a limit to reconnect and rejoin.
"""

from __future__ import annotations

import argparse
import signal
from collections.abc import Callable
from functools import partial
from itertools import count, islice
from random import Random

import trio

from channels.client import ClientSocket, RetryTable, open_socket

from .city import trip

__all__ = ["drive", "names"]

REPORT_SECONDS = 0.25

# With these waits, a fleet that loses its server returns soon, but not all vehicles at the same instant.
_RECONNECT = RetryTable(steps=(0.1, 0.3), then=1.0, jitter=0.5)

_ANIMALS = ("ant", "bat", "cat", "dog", "elk", "fox", "gnu", "hen", "ibis", "jay", "koi", "lynx")


def names(number: int) -> list[str]:
    """Return names for vehicles: ant, bat, ... lynx, ant-2, and so on."""
    endless = (animal if n == 1 else f"{animal}-{n}" for n in count(1) for animal in _ANIMALS)
    return list(islice(endless, number))


async def drive(url: str, name: str, *, tell: Callable[[str], object] | None = None) -> None:
    """Drive through the city and report each position, until cancelled.

    Args:
        url: the socket of the server, such as `ws://127.0.0.1:4000/socket`.
        name: the name of the vehicle.
        tell: called with a line for each event in the life of the client.
    """
    async with (
        open_socket(url, wait=False, reconnect=_RECONNECT) as socket,
        trio.open_nursery() as nursery,
    ):
        if tell is not None:
            nursery.start_soon(_tell, socket, name, tell)
        async with socket.channel(f"vehicle:{name}", wait=False) as channel:
            for x, y in trip(Random(name)):
                # Skip positions while the channel is not joined: an old position is of no use later.
                if channel.state == "joined":
                    channel.push_nowait("position", {"x": round(x, 2), "y": round(y, 2)})
                await trio.sleep(REPORT_SECONDS)


async def _tell(socket: ClientSocket, name: str, tell: Callable[[str], object]) -> None:
    async for event in socket.events():
        tell(f"{name}: {event}")


async def main(urls: list[str], number: int) -> None:
    """Drive vehicles, spread over servers, until Ctrl-C or SIGTERM."""
    tell = partial(print, flush=True)
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            for turn, name in enumerate(names(number)):
                nursery.start_soon(partial(drive, urls[turn % len(urls)], name, tell=tell))
            async for _ in signals:
                nursery.cancel_scope.cancel()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Drive vehicles through the city of the map.")
    parser.add_argument(
        "--url", action="append", help="socket of a server; several share the vehicles"
    )
    parser.add_argument("--vehicles", type=int, default=12, help="number of vehicles")
    arguments = parser.parse_args()
    trio.run(main, arguments.url or ["ws://127.0.0.1:4000/socket"], arguments.vehicles)

"""Serve the application with Hypercorn, on Trio: `python -m examples.starlette_app --port 4000`.

`hypercorn --worker-class trio examples.starlette_app.app:app` also works. Unlike that command, this program lets
clients reconnect to another server before it stops.
"""

from __future__ import annotations

import argparse
import signal
from functools import partial
from typing import Any

import trio
from hypercorn.config import Config
from hypercorn.trio import serve

from examples.starlette_app.app import app, endpoint


async def told_to_stop() -> None:
    """Wait for Ctrl-C or SIGTERM, and close the clients so that they reconnect elsewhere."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            break
    await endpoint.drain()


async def main(port: int) -> None:
    """Serve until a signal stops the server."""
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    # Any, because the ASGI types of Hypercorn and Starlette differ.
    application: Any = app
    async with trio.open_nursery() as nursery:
        binds = await nursery.start(
            partial(serve, application, config, shutdown_trigger=told_to_stop)
        )
        print(f"Serving on {binds[0]} (Ctrl-C stops it)", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=4000, help="0 takes any free one")
    trio.run(main, parser.parse_args().port)

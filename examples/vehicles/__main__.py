"""Serve the map, and drive vehicles in the same program: `python -m examples.vehicles --port 4000`."""

from __future__ import annotations

import argparse
import logging

from channels.cli.serve import explain
from supervision import application, process_spec

from .sensors import drive, names
from .server import endpoint


async def vehicle(name: str) -> None:
    """Drive one vehicle, a client of the endpoint over loopback."""
    host, port = endpoint.address
    await drive(f"ws://{host}:{port}/socket", name)


def main() -> None:
    """Run until Ctrl-C: the endpoint first, then the vehicles. They stop in reverse."""
    parser = argparse.ArgumentParser(description="Serve the map, with vehicles on it.")
    parser.add_argument("--port", type=int, default=4000, help="0 takes any free one")
    parser.add_argument("--vehicles", type=int, default=12, help="vehicles to start; 0 starts none")
    arguments = parser.parse_args()
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    application.run(
        [
            endpoint.child_spec(port=arguments.port),
            *(process_spec(vehicle, name, id=name) for name in names(arguments.vehicles)),
        ],
        on_started=lambda _: print(
            f"Serving on http://127.0.0.1:{endpoint.address[1]} (Ctrl-C stops it)", flush=True
        ),
        shutdown_deadline=endpoint.draining.shutdown_deadline,
        explain=explain,
    )


if __name__ == "__main__":
    main()

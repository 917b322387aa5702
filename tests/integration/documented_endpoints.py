"""Serve the endpoints that pages of the documentation show, and one endpoint that accepts everything.

    python -m tests.integration.documented_endpoints --port N FOLDER MODULES...

Each of the modules in FOLDER has an `endpoint`, which gets a free port. For each module, the program prints a line
`MODULE PORT`. The endpoint at port N accepts every client, topic and event. It serves blocks whose page shows no
endpoint.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from pathlib import Path
from typing import Any

from attrs import evolve

from channels import Channel, Endpoint, Mount, PushReply, Socket
from supervision import application
from tests.architecture.programs import SECRETS


class EchoChannel(Channel):
    """A channel that replies ok to each event, and sends it to all members of the topic."""

    async def join(self, topic: str, payload: Any) -> None:
        pass

    async def handle_in(self, event: str, payload: Any) -> PushReply:
        self.broadcast(event, payload)
        return PushReply({})


class EchoSocket(Socket):
    """A socket that accepts every client and every topic."""

    channels = {"*": EchoChannel}
    log = None


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int)
    parser.add_argument("folder", type=Path)
    parser.add_argument("modules", nargs="*")
    arguments = parser.parse_args()
    # A module may create files in the working directory.
    os.chdir(arguments.folder)
    sys.path.insert(0, str(arguments.folder))
    os.environ.update(SECRETS)
    echo = Endpoint(sockets={"/socket": Mount(EchoSocket, auth_token=True)})
    documented = {name: importlib.import_module(name).endpoint for name in arguments.modules}

    def tell(_: object) -> None:
        for name, endpoint in documented.items():
            print(name, endpoint.address[1])
        print(f"Serving on http://127.0.0.1:{echo.address[1]}", flush=True)

    application.run(
        [
            echo.child_spec(port=arguments.port),
            *(
                evolve(endpoint.child_spec(port=0), id=name)
                for name, endpoint in documented.items()
            ),
        ],
        on_started=tell,
        shutdown_deadline=echo.draining.shutdown_deadline,
    )


if __name__ == "__main__":
    main()

"""A chat with a chaos control: `python -m tests.integration.controlled_chat --port 4000`.

top (one_for_one)
├── till
└── endpoint
"""

from __future__ import annotations

import argparse
from typing import Any

from actors import GenServer, Reply, call
from channels import Channel, Endpoint, Socket
from channels.operations.chaos_control import ChaosControl
from channels.operations.health import Health
from supervision import child_spec
from supervision.applications.application import run

TOKEN = "a-token-for-the-chat"


class RoomChannel(Channel):
    async def join(self, topic: str, payload: Any) -> None:
        pass


class UserSocket(Socket):
    channels = {"room:*": RoomChannel}


class Till(GenServer[int]):
    async def init(self) -> None:
        self.state = 0

    async def handle_call(self, request: Any, sender: Any) -> Reply:
        return Reply(self.state)


async def till_answers() -> str | None:
    await call("till", "total", timeout=1.0)
    return None


control = ChaosControl(token=TOKEN, checks={"the till answers": till_answers})
endpoint = Endpoint(sockets={"/socket": UserSocket}, plugs=[control, Health()])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=4000)
    port = parser.parse_args().port
    till = child_spec(Till, id="till", kwargs={"name": "till"})
    run(
        [till, endpoint.child_spec(port=port)],
        on_started=lambda _: print(f"http://127.0.0.1:{port}", flush=True),
    )


if __name__ == "__main__":
    main()

"""A chat under an observer, with a tree that can break: `python -m tests.integration.observed_chat --port 4000`.

top (one_for_one)
├── shop (one_for_one, one restart a minute)
│   └── till
└── live (rest_for_one)
├── pubsub
└── endpoint
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from actors import GenServer, current_pid
from channels import Channel, Endpoint, PushReply, Socket, handle_in
from channels.observer import Observer
from channels.pubsub.pubsub import PubSub
from examples.phoenix_js import page_folders
from supervision import Supervisor, child_spec
from supervision.applications.application import run

CHAT = Path(__file__).parents[2] / "examples/chat"
PHOENIX_JS = CHAT / "node_modules/phoenix/priv/static/phoenix.mjs"


class RoomChannel(Channel):
    async def join(self, topic: str, payload: Any) -> dict[str, Any]:
        self.name = payload.get("name", "nobody")
        self.assigns["password"] = "hunter2"
        return {"process": current_pid().number}

    @handle_in("new_msg")
    async def new_msg(self, payload: Any) -> PushReply:
        speaker = {"name": self.name, "process": current_pid().number}
        self.broadcast("new_msg", {"body": payload["body"], **speaker})
        return PushReply({"count": 1})

    @handle_in("crash")
    async def crash(self, payload: Any) -> None:
        raise RuntimeError(f"{self.name} pressed the crash button")


class UserSocket(Socket):
    channels = {"room:*": RoomChannel}


class Till(GenServer[None]):
    pass


observer = Observer(
    token=os.environ.get("OBSERVER_TOKEN", "observer-token"),
    control=os.environ.get("OBSERVER_CONTROL", "1") == "1",
    payloads=os.environ.get("OBSERVER_PAYLOADS", "0") == "1",
    phoenix_js=PHOENIX_JS,
)
pubsub = PubSub()
endpoint = Endpoint(
    sockets={"/socket": UserSocket}, static=page_folders(CHAT), observer=observer, pubsub=pubsub
)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=4000)
    port = parser.parse_args().port
    shop = Supervisor.child_spec(
        [child_spec(Till, id="till")], id="shop", label="shop", max_restarts=1, max_seconds=60
    )
    live = Supervisor.child_spec(
        [pubsub.child_spec(), endpoint.child_spec(port=port)],
        id="live",
        label="live",
        strategy="rest_for_one",
        max_restarts=5,
    )
    run([shop, live], on_started=lambda _: print(f"http://127.0.0.1:{port}", flush=True))


if __name__ == "__main__":
    main()

"""phxsocket: a client with threads. It does not join again by itself, and connects again when it is told to."""

from __future__ import annotations

import time
from queue import SimpleQueue
from typing import Any

from phxsocket import Client
from phxsocket.channel import ChannelConnectError
from websockets.exceptions import InvalidStatus

from tests.clients.drivers.steps import ROOM, URL, held, restart


def main() -> None:
    client = Client(f"{URL}/socket/websocket")
    closed: SimpleQueue[Any] = SimpleQueue()
    client.on_close = closed.put
    assert client.connect()
    held("connect")

    ann = client.channel(ROOM)
    messages: SimpleQueue[Any] = SimpleQueue()
    crashes: SimpleQueue[Any] = SimpleQueue()
    ann.on("new_msg", messages.put)
    ann.on("pushed", messages.put)
    ann.on("phx_error", crashes.put)
    assert ann.join() == {}
    welcome = client.channel("room:withreply", {"name": "ann"}).join()
    assert welcome == {"hello": "world", "params": {"name": "ann"}}
    held("join")

    refusal = None
    try:
        client.channel("room:deny").join()
    except ChannelConnectError as error:
        refusal = error.args
    assert refusal == ({"reason": "unauthorized"},)
    held("refused join")

    def ask(event: str, payload: dict[str, Any]) -> Any:
        return ann.push(event, payload, reply=True).wait_for_response()

    assert ask("echo", {"text": "grüße"}) == {"status": "ok", "response": {"text": "grüße"}}
    assert ask("fail", {"n": 1}) == {"status": "error", "response": {"n": 1}}
    held("reply")

    ann.push("push", {"to": "ann"})
    assert messages.get() == {"to": "ann"}
    ann.push("new_msg", {"n": 2})
    assert messages.get() == {"n": 2}
    held("broadcast")

    ann.push("boom", {})
    crashes.get()
    ann.join()
    assert ask("echo", {"n": 3})["response"] == {"n": 3}
    held("crash")

    restart()
    closed.get()
    while True:
        try:
            client.connect()
            break
        except (OSError, InvalidStatus):  # The old server refuses clients while it stops.
            time.sleep(0.1)
    ann.join()
    ann.push("new_msg", {"n": 4})
    assert messages.get() == {"n": 4}
    held("restart")

    other = client.channel("room:other")
    other.join()
    left: SimpleQueue[None] = SimpleQueue()
    other.on_close = lambda: left.put(None)
    other.leave()
    left.get()
    held("leave")

    beating = Client(f"{URL}/beating/websocket")
    beating.heartbeat_interval = 1
    lost: SimpleQueue[Any] = SimpleQueue()
    beating.on_close = lost.put
    beating.connect()
    time.sleep(5)
    beating.channel(ROOM).join()
    assert lost.empty()
    held("heartbeat")

    beating.close()
    client.close()
    held("disconnect")


main()

"""A chat on `websockets.trio`: `python websockets_trio_chat.py PORT`.

A crash of the handler ends the connection. The broadcast sends to the members in turn, because `websockets.trio` has no
function for broadcasts.
"""

from __future__ import annotations

import logging
import sys
from collections import defaultdict
from typing import Any

import msgspec
import trio
from websockets.exceptions import ConnectionClosed
from websockets.trio.server import ServerConnection, serve

rooms: defaultdict[str, set[ServerConnection]] = defaultdict(set)


def text(*message: Any) -> str:
    return msgspec.json.encode(message).decode()


async def chat(connection: ServerConnection) -> None:
    joined: set[str] = set()
    try:
        async for data in connection:
            join_ref, ref, topic, event, payload = msgspec.json.decode(data)
            if event == "phx_join":
                rooms[topic].add(connection)
                joined.add(topic)
                payload = {}
            elif event == "new_msg":
                message = text(None, None, topic, event, payload)
                for member in tuple(rooms[topic]):
                    try:
                        await member.send(message)
                    except ConnectionClosed:
                        continue  # the handler of this connection removes it
                continue
            elif event == "boom":
                raise RuntimeError("boom")
            reply = {"status": "ok", "response": payload}
            await connection.send(text(join_ref, ref, topic, "phx_reply", reply))
    finally:
        for topic in joined:
            rooms[topic].discard(connection)


async def main(port: int) -> None:
    await serve(chat, port, host="127.0.0.1", compression=None, backlog=4096)


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    trio.run(main, int(sys.argv[1]))

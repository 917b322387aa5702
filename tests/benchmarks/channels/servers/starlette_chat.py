"""A chat on Starlette's WebSockets, served by uvicorn: `python starlette_chat.py PORT`.

A crash of the endpoint ends the connection.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from typing import Any

import orjson  # type: ignore[import-not-found,unused-ignore] # in the environment of the benchmark
import uvicorn  # type: ignore[import-not-found,unused-ignore] # in the environment of the benchmark
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

rooms: defaultdict[str, set[WebSocket]] = defaultdict(set)


def text(*message: Any) -> str:
    return str(orjson.dumps(message), "utf-8")


async def chat(websocket: WebSocket) -> None:
    await websocket.accept()
    joined: set[str] = set()
    try:
        while True:
            join_ref, ref, topic, event, payload = orjson.loads(await websocket.receive_text())
            if event == "phx_join":
                rooms[topic].add(websocket)
                joined.add(topic)
                payload = {}
            elif event == "new_msg":
                message = text(None, None, topic, event, payload)
                for member in tuple(rooms[topic]):
                    await member.send_text(message)
                continue
            elif event == "boom":
                raise RuntimeError("boom")
            reply = {"status": "ok", "response": payload}
            await websocket.send_text(text(join_ref, ref, topic, "phx_reply", reply))
    except WebSocketDisconnect:
        pass
    finally:
        for topic in joined:
            rooms[topic].discard(websocket)


app = Starlette(routes=[WebSocketRoute("/socket/websocket", chat)])

if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), log_level="critical", access_log=False, backlog=4096)

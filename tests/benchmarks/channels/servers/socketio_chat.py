"""A chat on python-socketio, served by uvicorn: `python socketio_chat.py PORT`.

python-socketio has no channels that could crash. It logs an exception of a handler and continues.
"""

from __future__ import annotations

import sys
from typing import Any

import socketio  # type: ignore[import-not-found] # in the environment of the benchmark
import uvicorn  # type: ignore[import-not-found,unused-ignore] # likewise

server = socketio.AsyncServer(async_mode="asgi")


@server.event  # type: ignore[untyped-decorator]
async def join(sid: str, data: dict[str, Any]) -> dict[str, Any]:
    await server.save_session(sid, {"room": data["room"]})
    await server.enter_room(sid, data["room"])
    return {}


@server.event  # type: ignore[untyped-decorator]
async def echo(sid: str, data: dict[str, Any]) -> dict[str, Any]:
    return data


@server.event  # type: ignore[untyped-decorator]
async def new_msg(sid: str, data: dict[str, Any]) -> None:
    session = await server.get_session(sid)
    await server.emit("new_msg", data, room=session["room"])


app = socketio.ASGIApp(server)

if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), log_level="critical", access_log=False, backlog=4096)

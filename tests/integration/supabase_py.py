"""`realtime` from PyPI, unmodified, at its default settings: a program with the commands and events of `supabase.mjs`.

It runs without the packages of this environment, of which some are newer.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import re
import sys
from typing import Any

from realtime import AsyncRealtimeClient

URL, APIKEY = sys.argv[1:3]
_CODE = re.compile(r"closed (?:by server )?with code: (\d+)")


def tell(kind: str, **fields: Any) -> None:
    print(json.dumps({"kind": kind, **fields}), flush=True)


class Watch(logging.Handler):
    """Report the frames and the close codes, which the client logs."""

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        code = _CODE.search(text)
        if code is not None:
            tell("close", code=int(code[1]))
        for mark, source in (("receive: ", "server"), ("send: ", "client")):
            if text.startswith(mark):
                tell("frame", **{"from": source, "text": text.removeprefix(mark)})


def body_of(command: dict[str, Any]) -> Any:
    return base64.b64decode(command["base64"]) if "base64" in command else command["payload"]


class Program:
    """The client, and a method for each command."""

    def __init__(self) -> None:
        self.client = AsyncRealtimeClient(URL, APIKEY)

    def channel(self, topic: str, config: Any = None) -> Any:
        options = {
            "config": {"broadcast": None, "presence": None, "private": False, **(config or {})}
        }
        return self.client.channel(topic, options)

    async def subscribe(
        self, topic: str, config: Any, presence: bool = False, changes: Any = None
    ) -> None:
        channel = self.channel(topic, config)

        def on_broadcast(message: Any) -> None:
            replayed = message.get("meta", {}).get("replayed", False)
            fields = {"event": message["event"], "payload": message["payload"]}
            tell("broadcast", topic=topic, replayed=replayed, **fields)

        def on_status(status: Any, error: Any) -> None:
            tell("status", topic=topic, status=status.value, error=error and str(error))

        channel.on_broadcast("*", on_broadcast)
        channel.on_system(lambda payload: tell("system", topic=topic, **payload.model_dump()))
        if presence:
            channel.on_presence_sync(
                lambda: tell("sync", topic=topic, keys=list(channel.presence.state))
            )
        if changes:

            def on_change(payload: Any) -> None:
                data = payload["data"]
                tell("change", topic=topic, type=data["type"].value, row=data["record"])

            channel.on_postgres_changes(
                changes["event"],
                schema=changes["schema"],
                table=changes["table"],
                callback=on_change,
            )
        await channel.subscribe(on_status)

    async def send(self, topic: str, event: str, **body: Any) -> None:
        await self.channel(topic).send_broadcast(event, body_of(body))
        tell("sent", event=event, result="ok")

    async def track(self, topic: str, payload: Any) -> None:
        await self.channel(topic).track(payload)
        tell("tracked", result="ok")

    async def untrack(self, topic: str) -> None:
        await self.channel(topic).untrack()
        tell("tracked", result="ok")

    async def set_auth(self, token: str) -> None:
        await self.client.set_auth(token)
        tell("set auth")

    async def http(self, topic: str, event: str, private: bool = False, **body: Any) -> None:
        channel = self.channel(topic, {"private": private})
        try:
            await channel.http_send(event, body_of(body))
            tell("http", result="ok")
        except Exception as error:  # any, because the test compares its text
            tell("http", result=str(error))

    async def crash(self, topic: str) -> None:
        await self.channel(topic).push("crash", {})


async def main() -> None:
    logger = logging.getLogger("realtime")
    logger.setLevel(logging.DEBUG)
    logger.addHandler(Watch())
    program = Program()
    running = set()
    while line := await asyncio.to_thread(sys.stdin.readline):
        command = json.loads(line)
        method = getattr(program, command.pop("command").replace(" ", "_"))
        task = asyncio.create_task(method(**command))
        running.add(task)
        task.add_done_callback(running.discard)


asyncio.run(main())

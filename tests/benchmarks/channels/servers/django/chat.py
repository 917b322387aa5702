"""A chat on Django Channels: `python chat.py daphne|uvicorn PORT [REDIS_URL]`.

It runs in an environment without Ashtree, because both projects have a package named `channels`. A crash of a consumer
ends the connection.
"""

from __future__ import annotations

import logging
import re
import sys
from typing import Any

import django  # type: ignore[import-untyped] # in the environment of the benchmark
from django.conf import settings  # type: ignore[import-untyped] # likewise


def layer(url: str | None) -> dict[str, Any]:
    if url is None:
        return {"BACKEND": "channels.layers.InMemoryChannelLayer"}
    # All consumers of a process share one queue. With the default of 100, a room of 1,000 gets no message at all.
    config = {"hosts": [url], "capacity": 100_000}
    return {"BACKEND": "channels_redis.core.RedisChannelLayer", "CONFIG": config}


SERVER, PORT, *REDIS = sys.argv[1:]
settings.configure(CHANNEL_LAYERS={"default": layer(REDIS[0] if REDIS else None)})
django.setup()

from django.urls import path  # type: ignore[import-untyped]  # noqa: E402

from channels.generic.websocket import (  # type: ignore[import-not-found]  # noqa: E402
    AsyncJsonWebsocketConsumer,
)
from channels.routing import ProtocolTypeRouter, URLRouter  # type: ignore[import-not-found]  # noqa: E402


def group_of(topic: str) -> str:
    """Return the group name of a topic. Group names must not contain colons."""
    return re.sub(r"[^A-Za-z0-9_.-]", ".", topic)


class Chat(AsyncJsonWebsocketConsumer):  # type: ignore[misc]
    async def receive_json(self, content: list[Any], **kwargs: Any) -> None:
        join_ref, ref, topic, event, payload = content
        if event == "phx_join":
            await self.channel_layer.group_add(group_of(topic), self.channel_name)
            self.groups.append(group_of(topic))
            payload = {}
        elif event == "new_msg":
            message = {"type": "new.msg", "topic": topic, "payload": payload}
            await self.channel_layer.group_send(group_of(topic), message)
            return
        elif event == "boom":
            raise RuntimeError("boom")
        reply = {"status": "ok", "response": payload}
        await self.send_json([join_ref, ref, topic, "phx_reply", reply])

    async def new_msg(self, message: dict[str, Any]) -> None:
        await self.send_json([None, None, message["topic"], "new_msg", message["payload"]])


application = ProtocolTypeRouter(
    {"websocket": URLRouter([path("socket/websocket", Chat.as_asgi())])}
)


def main() -> None:
    logging.disable(logging.CRITICAL)
    if SERVER == "daphne":
        from daphne.endpoints import build_endpoint_description_strings  # type: ignore[import-not-found]
        from daphne.server import Server  # type: ignore[import-not-found]

        endpoints = build_endpoint_description_strings(host="127.0.0.1", port=int(PORT))
        Server(application, endpoints=endpoints, signal_handlers=True, verbosity=0).run()
    else:
        import uvicorn  # type: ignore[import-not-found,unused-ignore]

        uvicorn.run(
            application, port=int(PORT), log_level="critical", access_log=False, backlog=4096
        )


if __name__ == "__main__":
    main()

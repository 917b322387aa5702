"""The application for conformance recordings and load generators.

`python -m examples.conformance --port 4100` serves it. The event of a push decides if the channel answers, stops or
fails.
"""

from __future__ import annotations

from typing import Any

import actors
from channels import (
    Channel,
    ConnectRefused,
    Endpoint,
    JoinRefused,
    Mount,
    PushReply,
    Socket,
    handle_in,
)
from channels.cli.serve import run_endpoint
from channels.presence import Presence


class RoomChannel(Channel):
    """A room whose clients control the processes of their channels."""

    async def join(self, topic: str, payload: Any) -> dict[str, Any] | None:
        if topic == "room:deny":
            raise JoinRefused({"reason": "unauthorized"})
        if topic == "room:joinboom":
            raise RuntimeError("joining room:joinboom raises")
        if topic == "room:withreply":
            return {"hello": "world", "params": payload}
        return None

    @handle_in("new_msg")
    async def new_msg(self, payload: Any) -> None:
        self.broadcast("new_msg", payload)

    @handle_in("from")
    async def broadcast_to_the_others(self, payload: Any) -> None:
        self.broadcast_from("from", payload)

    @handle_in("echo")
    async def echo(self, payload: Any) -> PushReply:
        return PushReply(payload)

    @handle_in("bytes")
    async def list_bytes(self, payload: Any) -> PushReply:
        return PushReply({"bytes": list(payload.data)})

    @handle_in("ping")
    async def ping(self, payload: Any) -> PushReply:
        return PushReply()

    @handle_in("fail")
    async def fail(self, payload: Any) -> PushReply:
        return PushReply(payload, status="error")

    @handle_in("push")
    async def push_back(self, payload: Any) -> None:
        self.push("pushed", payload)

    @handle_in("expire")
    async def expire(self, payload: Any) -> None:
        self.expire_connection_after(payload["seconds"])

    @handle_in("boom")
    async def boom(self, payload: Any) -> None:
        raise RuntimeError("boom")

    @handle_in("throw")
    async def throw(self, payload: Any) -> None:
        raise LookupError("thrown")

    @handle_in("exit")
    async def exit_with_a_reason(self, payload: Any) -> None:
        actors.exit("kaboom")

    @handle_in("exit_normal")
    async def exit_normal(self, payload: Any) -> None:
        actors.exit(actors.NORMAL)

    @handle_in("exit_shutdown")
    async def exit_shutdown(self, payload: Any) -> None:
        actors.exit(actors.SHUTDOWN)

    @handle_in("bad_return")
    async def bad_return(self, payload: Any) -> Any:
        return "not something that a handler may return"

    @handle_in("stop")
    async def stop_normal(self, payload: Any) -> actors.Stop:
        return actors.Stop(actors.NORMAL)

    @handle_in("stop_shutdown")
    async def stop_shutdown(self, payload: Any) -> actors.Stop:
        return actors.Stop(actors.SHUTDOWN)

    @handle_in("stop_left")
    async def stop_left(self, payload: Any) -> actors.Stop:
        return actors.Stop(actors.Shutdown("left"))

    @handle_in("stop_reason")
    async def stop_with_a_reason(self, payload: Any) -> actors.Stop:
        return actors.Stop("some_reason")

    @handle_in("stop_reply")
    async def stop_with_a_reply(self, payload: Any) -> actors.Stop:
        return actors.Stop(actors.NORMAL, reply=PushReply({"bye": True}))


online = Presence()


class PresenceChannel(Channel):
    """A room that shows who is in it."""

    async def join(self, topic: str, payload: Any) -> None:
        self.user = payload.get("user", "anon")
        actors.send(actors.current_pid(), "after join")

    async def handle_info(self, message: Any) -> None:
        online.track(self, self.user, {"online_at": int(actors.current_runtime().now())})
        await online.push_state(self)


class UserSocket(Socket):
    """A socket that accepts every client except those that ask for a refusal."""

    channels = {"room:*": RoomChannel, "presence:*": PresenceChannel}

    async def connect(self, params: dict[str, Any], connect_info: Any) -> None:
        if params.get("token") == "deny":
            raise ConnectRefused


endpoint = Endpoint(sockets={"/socket": Mount(UserSocket, longpoll=True)}, presences=[online])


if __name__ == "__main__":
    run_endpoint(endpoint, default_port=4100, default_log_level="error")

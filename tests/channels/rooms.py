"""A channel for tests that obeys the payloads of its client, and its socket."""

from __future__ import annotations

from typing import Any

import trio

import actors
from channels import (
    Channel,
    ConnectInfo,
    ConnectRefused,
    JoinRefused,
    PushReply,
    Socket,
    handle_in,
    handle_out,
)

REASONS = {
    "normal": actors.NORMAL,
    "shutdown": actors.SHUTDOWN,
    "left": actors.Shutdown("left"),
    "oops": "oops",
}


class Room(Channel):
    """A channel that obeys the keys of its join payload.

    - `sleep`: seconds before the join decides;
    - `after`: send a message to itself when the join decides, and push `ready` when the message comes;
    - `refuse`: refuse with this; `crash`: raise; `answer`: answer with this;
    - `farewell`: push `bye` with the reason from terminate; `linger`: take this many seconds for terminate;
    - `trap`: trap exits, and ignore them;
    - `cling`: ignore a kill for this many seconds.
    """

    farewell = False
    linger = 0
    count = 0

    async def join(self, topic: str, payload: Any) -> Any:
        self.farewell = "farewell" in payload
        self.linger = payload.get("linger", 0)
        if "trap" in payload:
            actors.trap_exits()
        if "cling" in payload:
            await cling(payload["cling"])
        if "sleep" in payload:
            await trio.sleep(payload["sleep"])
        if "after" in payload:
            actors.send(actors.current_pid(), lambda room: room.push("ready", {}))
        if "refuse" in payload:
            raise JoinRefused(payload["refuse"])
        if "crash" in payload:
            raise RuntimeError("join")
        return payload.get("answer")

    async def terminate(self, reason: Any) -> None:
        await trio.sleep(self.linger)
        if self.farewell:
            self.push("bye", {"reason": repr(reason)})

    @handle_in("echo")
    async def echo(self, payload: Any) -> PushReply:
        return PushReply(payload)

    @handle_in("count")
    async def count_up(self, payload: Any) -> PushReply:
        self.count += 1
        return PushReply({"count": self.count})

    @handle_in("push")
    async def push_back(self, payload: Any) -> None:
        self.push("pushed", payload)

    @handle_in("shout")
    async def shout(self, payload: Any) -> None:
        self.broadcast("shouted", payload)

    @handle_in("shout_from")
    async def shout_from(self, payload: Any) -> None:
        self.broadcast_from("shouted", payload)

    @handle_in("push_latest")
    async def push_latest_back(self, payload: Any) -> None:
        self.push_latest("pushed", payload, key=payload["key"])

    @handle_in("shout_latest")
    async def shout_latest(self, payload: Any) -> None:
        self.broadcast_latest("shouted", payload, key=payload["key"])

    @handle_in("shout_latest_from")
    async def shout_latest_from(self, payload: Any) -> None:
        self.broadcast_latest_from("shouted", payload, key=payload["key"])

    @handle_in("sleep")
    async def sleep(self, payload: Any) -> PushReply:
        await trio.sleep(payload["seconds"])
        return PushReply()

    @handle_in("cling")
    async def cling(self, payload: Any) -> None:
        await cling(payload["seconds"])

    @handle_in("expire")
    async def expire(self, payload: Any) -> PushReply:
        self.expire_connection_after(payload["seconds"])
        return PushReply()

    @handle_in("in_order")
    async def in_order(self, payload: Any) -> PushReply:
        self.push("pushed", {"n": 1})
        self.broadcast("shouted", {"n": 2})
        self.push("pushed", {"n": 3})
        return PushReply({"n": 4})

    @handle_in("boom")
    async def boom(self, payload: Any) -> None:
        raise RuntimeError("boom")

    @handle_in("exit")
    async def exit(self, payload: Any) -> None:
        actors.exit(REASONS[payload["reason"]])

    @handle_in("stop")
    async def stop(self, payload: Any) -> actors.Stop:
        reason = REASONS[payload["reason"]]
        if "reply" in payload:
            return actors.Stop(reason, reply=PushReply(payload["reply"]))
        return actors.Stop(reason)

    @handle_in("give")
    async def give(self, payload: Any) -> Any:
        """Return a value that no handler may return, or that has no JSON form."""
        return {
            "text": "text",
            "object": PushReply({"no": object()}),
            "reply": actors.Stop(reply={}),
        }[payload["what"]]

    @handle_out("secret")
    async def secret(self, payload: Any) -> actors.Stop | None:
        if "stop" in payload:
            return actors.Stop(REASONS[payload["stop"]])
        if "key" in payload:
            self.push_latest("heard", payload, key=payload["key"])
        else:
            self.push("heard", payload)
        return None

    async def handle_info(self, message: Any) -> Any:
        if callable(message):
            return message(self)
        return None

    async def handle_cast(self, message: Any) -> Any:
        return message(self)

    async def handle_call(self, request: Any, sender: actors.Sender) -> Any:
        return request(self)


async def cling(seconds: float) -> None:
    """Survive a kill, as a careless `except` around a long wait does."""
    with trio.move_on_after(seconds), trio.CancelScope(shield=True):  # shielded to be a nuisance
        await trio.sleep(seconds)


class UserSocket(Socket):
    """A socket for everyone. The parameter `user` becomes the id. The connection expires after `expire` seconds."""

    channels = {"room:*": Room}

    async def connect(self, params: dict[str, Any], connect_info: ConnectInfo) -> None:
        if params.get("token") == "deny":
            raise ConnectRefused("token")
        if params.get("token") == "crash":
            raise RuntimeError("connect")
        self.assigns["user"] = params.get("user")
        if "expire" in params:
            self.expire_connection_after(float(params["expire"]))

    def id(self) -> str | None:
        user = self.assigns["user"]
        return None if user is None else f"user:{user}"

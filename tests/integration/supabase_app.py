"""A server for both clients of supabase, with a channel that can crash."""

from __future__ import annotations

from typing import Any

from channels import Endpoint, handle_in
from channels.cli.serve import run_endpoint
from channels.durable import History
from channels.presence import Presence
from channels.supabase import (
    Action,
    Change,
    Changes,
    Claims,
    SupabaseChannel,
    SupabaseHttp,
    SupabaseSocket,
)

SECRET = "the secret of the server for supabase's clients"


class Room(SupabaseChannel):
    """A room whose private topics are for users."""

    presence = Presence()
    messages = History()
    changes = Changes(lambda change, claims: True)
    refusal_delay = 0.0

    @classmethod
    async def authorize(cls, action: Action, topic: str, claims: Claims) -> bool:
        return bool(claims["role"] == "authenticated")

    @handle_in("crash")
    async def crash(self, payload: Any) -> None:
        row = {"id": 7, "text": "a channel crashes"}
        columns = {"id": "int8", "text": "text"}
        change = Change(type="INSERT", table="crashes", record=row, columns=columns)
        self.changes.publish(self.endpoint.pubsub, change)
        raise RuntimeError("a client asked for a crash")


class UserSocket(SupabaseSocket):
    """The socket of both clients."""

    secret = SECRET
    channels = {"realtime:*": Room}


endpoint = Endpoint(
    sockets={"/realtime/v1": UserSocket.mount()},
    plugs=[SupabaseHttp(UserSocket)],
    presences=[Room.presence],
    histories=[Room.messages],
)

if __name__ == "__main__":
    run_endpoint(endpoint, default_port=4000)

"""The server of the page with supabase's client."""

from __future__ import annotations

import os
import secrets
import time
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from channels import Endpoint
from channels.durable import History
from channels.presence import Presence
from channels.supabase import (
    Action,
    Changes,
    Claims,
    SupabaseChannel,
    SupabaseHttp,
    SupabaseSocket,
    sign_jwt,
)
from examples.phoenix_js import npm_folders

from .notices import Notices

SECRET = os.environ.get("SECRET_KEY_BASE") or secrets.token_urlsafe(48)
DAY = 24 * 60 * 60


class Room(SupabaseChannel):
    """A room, which only users with a token may enter."""

    presence = Presence()
    messages = History(max_age=DAY)
    changes = Changes(lambda change, claims: change.table == "notices")

    @classmethod
    async def authorize(cls, action: Action, topic: str, claims: Claims) -> bool:
        return topic == "lobby" and claims["role"] == "authenticated"


class UserSocket(SupabaseSocket):
    """The socket of a page, which needs an API key."""

    secret = SECRET
    channels = {"realtime:*": Room}


async def keys(request: Request) -> JSONResponse:
    """Return the API key of the page, and a token for a user. A real application asks for a password first."""
    name, until = request.query_params.get("name", "somebody")[:24], time.time() + DAY
    token = sign_jwt(SECRET, {"role": "authenticated", "sub": name, "exp": until})
    return JSONResponse(
        {"apikey": sign_jwt(SECRET, {"role": "anon", "exp": until}), "token": token}
    )


endpoint = Endpoint(
    sockets={"/realtime/v1": UserSocket.mount()},
    plugs=[SupabaseHttp(UserSocket)],
    presences=[Room.presence],
    histories=[Room.messages],
    children=[Notices(os.environ.get("NOTICES", "notices.db"), Room.changes)],
    http=Starlette(routes=[Route("/keys", keys)]),
    static=npm_folders(Path(__file__).parent, "@supabase/realtime-js", "@supabase/phoenix"),
)

"""Mistakes of applications, which the endpoint names when it starts."""

from __future__ import annotations

import pytest

from actors.errors import InvalidOption
from channels import Endpoint
from channels.durable import History
from channels.errors import ChannelsError
from channels.presence import Presence
from channels.supabase import SupabaseChannel, SupabaseHttp, SupabaseSocket
from tests.channels.conftest import Serve
from tests.channels.supabase.clients import SECRET


class Room(SupabaseChannel):
    """A channel with services."""

    presence = Presence()
    messages = History()


class UserSocket(SupabaseSocket):
    """A socket with a secret."""

    secret = SECRET
    channels = {"realtime:*": Room}


class Open(SupabaseSocket):
    """A socket that cannot check tokens."""


async def test_a_socket_needs_a_secret_or_a_verify(serve: Serve) -> None:
    with pytest.raises(ChannelsError, match="set `secret`, or override `verify`"):
        await serve(Endpoint(sockets={"/realtime/v1": Open.mount()}))


async def test_the_default_socket_refuses_every_token() -> None:
    with pytest.raises(ChannelsError):
        Open.verify("any")


async def test_an_endpoint_runs_the_presence_and_the_history_of_its_channels(serve: Serve) -> None:
    with pytest.raises(InvalidOption, match="presences"):
        await serve(Endpoint(sockets={"/realtime/v1": UserSocket.mount()}))
    with pytest.raises(InvalidOption, match="histories"):
        await serve(
            Endpoint(sockets={"/realtime/v1": UserSocket.mount()}, presences=[Room.presence])
        )


def test_the_clients_leave_out_the_end_of_the_path_of_the_bare_server() -> None:
    assert SupabaseHttp(UserSocket).path == "/realtime/v1/api/broadcast"
    assert SupabaseHttp(UserSocket, "/socket").path == "/api/broadcast"
    assert SupabaseHttp(UserSocket, "/realtime/v1/socket").path == "/realtime/v1/api/broadcast"

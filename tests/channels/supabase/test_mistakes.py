"""Mistakes of applications, which the endpoint names when it starts."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from actors.errors import InvalidOption, StartError
from channels import Endpoint, Mount, Socket
from channels.durable import History
from channels.errors import ChannelsError
from channels.presence import Presence
from channels.supabase import (
    SUPABASE_SERIALIZERS,
    Change,
    Changes,
    SupabaseChannel,
    SupabaseHttp,
    SupabaseSocket,
)
from tests.channels.conftest import Serve
from tests.channels.supabase.clients import APIKEY, SECRET, Realtime, endpoint_of, socket_of
from tests.channels.support import head, settle


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


async def admits(token: str | None) -> bool:
    return False


@pytest.mark.parametrize("verify", [admits, lambda token: None, lambda token: {"role": "anon"}])
async def test_a_verify_that_returns_something_else_admits_nobody(
    serve: Serve, caplog: pytest.LogCaptureFixture, verify: Any
) -> None:
    endpoint = endpoint_of()
    socket_of(endpoint).verify = staticmethod(verify)
    server = await serve(endpoint)
    client = await server.accept()
    client.write(head(f"/realtime/v1/websocket?apikey={APIKEY}&vsn=2.0.0"))
    await settle()
    answer = client.answer()
    assert answer is not None
    assert answer.status == 500
    assert "UserSocket.verify returned" in caplog.text
    assert "; return a VerifiedToken from a plain `def`" in caplog.text


async def test_the_routes_over_http_need_a_mounted_socket(serve: Serve) -> None:
    endpoint = endpoint_of()
    endpoint.plugs = (SupabaseHttp(UserSocket),)
    with pytest.raises(StartError, match="SupabaseHttp got socket=<class"):
        await serve(endpoint)


async def never(change: Change, claims: Any) -> bool:
    return False


def test_a_source_of_changes_needs_a_plain_function() -> None:
    with pytest.raises(InvalidOption, match="without async"):
        Changes(never, name="c")  # type: ignore[arg-type]


async def test_a_channel_needs_the_socket_of_supabase(serve: Serve) -> None:
    class Plain(Socket):
        """A socket that checks no API key."""

        channels: ClassVar[Any] = {"realtime:*": SupabaseChannel}

    server = await serve(
        Endpoint(sockets={"/realtime/v1": Mount(Plain, serializers=SUPABASE_SERIALIZERS)})
    )
    crashes = server.crashes()
    client = await Realtime.open(server)
    await client.join()
    (crash,) = crashes
    assert "SupabaseChannel needs a SupabaseSocket" in str(crash)

"""The socket of supabase's clients, which checks their API key."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from actors.runtime import current_runtime
from channels.channel import Channel
from channels.connect_info import ConnectInfo
from channels.errors import ChannelsError
from channels.serving.mount import Mount
from channels.socket import Refusal, Socket
from channels.supabase.access import Access, problem_of
from channels.supabase.channel import PREFIX, SupabaseChannel
from channels.supabase.serializers import SUPABASE_SERIALIZERS
from channels.tokens.jwt import verify_jwt
from channels.tokens.token import (
    Context,
    TokenError,
    TokenInvalid,
    TokenMissing,
    VerifiedToken,
    check_secret,
)
from channels.topics import Route

__all__ = ["SupabaseSocket"]


class SupabaseSocket(Socket):
    """Base class of sockets for supabase's clients.

        class UserSocket(SupabaseSocket):
            secret = SECRET
            channels = {"realtime:*": RoomChannel}

        endpoint = Endpoint(sockets={"/realtime/v1": UserSocket.mount()})

    Attributes:
        secret: the secret that signs API keys and tokens with HS256. Without it, override `verify`.
    """

    channels: ClassVar[dict[str, type[Channel] | Route]] = {f"{PREFIX}*": SupabaseChannel}
    secret: ClassVar[Context | None] = None

    @classmethod
    def mount(cls, **options: Any) -> Mount:
        """Return a mount with the wire formats of supabase's clients.

        Args:
            **options: other options of `Mount`. By default, `check_origin` is False, because each client has an API
                key, and because the pages of supabase's clients often have another origin.
        """
        defaults = {"check_origin": False, "error_handler": _refusal}
        return Mount(cls, serializers=SUPABASE_SERIALIZERS, **{**defaults, **options})

    @classmethod
    def check(cls) -> None:
        if cls.secret is not None:
            check_secret(cls.secret)
        elif cls.verify.__func__ is SupabaseSocket.verify.__func__:  # type: ignore[attr-defined]
            raise ChannelsError(
                f"{cls.__name__} accepts no client, because it cannot check tokens; set `secret`, or override `verify`"
            )

    @classmethod
    def verify(cls, token: str | None) -> VerifiedToken:
        """Return the claims of an API key or a user's token, and the seconds for which it remains valid.

        Override this for tokens of another kind. Do not wait in it.

        Args:
            token: the token from the client.

        Returns:
            The claims, and the lifetime.

        Raises:
            TokenMissing: the client sent no token.
            TokenInvalid: the token is not valid, or has no role.
            TokenExpired: the token has expired.
        """
        if token is None or cls.secret is None:
            raise TokenMissing
        verified = verify_jwt(cls.secret, token)
        if not isinstance(verified.data.get("role"), str):
            raise TokenInvalid("payload", "it has no role")
        return verified

    async def connect(self, params: dict[str, Any], connect_info: ConnectInfo) -> None:
        """Accept a client with a valid API key. If you override this, call it first.

        Args:
            params: the parameters of the query, with `apikey`.
            connect_info: the other facts about the request. The header `x-api-key` replaces `apikey`.

        Raises:
            TokenMissing: the client sent no key.
            TokenError: the key is not valid.
        """
        key = connect_info.header("x-api-key") or params.get("apikey")
        if not isinstance(key, str):
            raise TokenMissing
        self.verify(key)
        self.assigns["access"] = Access(self.verify, key)


def _refusal(reason: Any, connect_info: ConnectInfo) -> Refusal:
    """Return the answer to a client that `connect` has refused, in supabase's form."""
    status, text = 403, str(reason)
    if isinstance(reason, TokenError):
        status, text = 401, problem_of(reason, current_runtime().now())[1]
    return Refusal(
        status,
        msgspec.json.encode({"error": text}).decode(),
        (("content-type", "application/json"),),
    )

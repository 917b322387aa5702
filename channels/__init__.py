"""Phoenix Channels as actors: sockets, channels, presence and their server.

Start with `Channel`, `Socket` and `Endpoint`.
"""

from typing import TYPE_CHECKING

from actors.lazy import load_on_use

if TYPE_CHECKING:
    from channels.channel import (
        Channel,
        SocketRef,
        UnhandledEvent,
        reply_to,
    )
    from channels.connect_info import ConnectInfo, PeerData, Uri
    from channels.endpoint.drainer import Draining
    from channels.endpoint.endpoint import Endpoint, EndpointError
    from channels.errors import (
        ChannelsError,
        DecodeError,
        EncodeError,
        InvalidResult,
        MissingLibrary,
    )
    from channels.filters import Keep
    from channels.handlers import InvalidHandler, handle_in, handle_out
    from channels.messages import Binary, Broadcast, ConnectRefused, JoinRefused, PushReply
    from channels.payloads import InvalidPayload
    from channels.protocol.longpoll import LongPoll
    from channels.pubsub.pubsub import PubSub
    from channels.serving.mount import Mount
    from channels.serving.services import EndpointChild
    from channels.socket import Refusal, Socket
    from channels.tokens.token import (
        Atom,
        TokenError,
        TokenExpired,
        TokenInvalid,
        TokenMissing,
        VerifiedToken,
        decrypt,
        decrypt_with_lifetime,
        encrypt,
        sign,
        verify,
        verify_with_lifetime,
    )
    from channels.topics import Route
    from channels.transports.listener import ListenError
else:
    __getattr__ = load_on_use(
        __name__,
        "channels.channel",
        "channels.connect_info",
        "channels.endpoint.drainer",
        "channels.endpoint.endpoint",
        "channels.errors",
        "channels.filters",
        "channels.handlers",
        "channels.messages",
        "channels.payloads",
        "channels.protocol.longpoll",
        "channels.pubsub.pubsub",
        "channels.serving.mount",
        "channels.serving.services",
        "channels.socket",
        "channels.tokens.token",
        "channels.topics",
        "channels.transports.listener",
    )

__all__ = [
    "Atom",
    "Binary",
    "Broadcast",
    "Channel",
    "ChannelsError",
    "ConnectInfo",
    "ConnectRefused",
    "DecodeError",
    "Draining",
    "EncodeError",
    "Endpoint",
    "EndpointChild",
    "EndpointError",
    "InvalidHandler",
    "InvalidPayload",
    "InvalidResult",
    "JoinRefused",
    "Keep",
    "ListenError",
    "LongPoll",
    "MissingLibrary",
    "Mount",
    "PeerData",
    "PubSub",
    "PushReply",
    "Refusal",
    "Route",
    "Socket",
    "SocketRef",
    "TokenError",
    "TokenExpired",
    "TokenInvalid",
    "TokenMissing",
    "UnhandledEvent",
    "Uri",
    "VerifiedToken",
    "decrypt",
    "decrypt_with_lifetime",
    "encrypt",
    "handle_in",
    "handle_out",
    "reply_to",
    "sign",
    "verify",
    "verify_with_lifetime",
]

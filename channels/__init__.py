"""Phoenix Channels as actors: sockets, channels, presence and the server that they live in.

Start with `Channel`, `Socket` and `Endpoint`.
"""

from channels.channel import (
    Channel,
    NothingToAnswer,
    NotJoined,
    SocketRef,
    UnhandledEvent,
    reply_to,
)
from channels.connect_info import ConnectInfo, PeerData, Uri
from channels.drainer import Draining
from channels.endpoint import Endpoint, EndpointError
from channels.errors import (
    ChannelsError,
    DecodeError,
    EncodeError,
    InvalidOption,
    InvalidResult,
    InvalidRoute,
)
from channels.filters import Keep
from channels.handlers import InvalidHandler, handle_in, handle_out
from channels.invariants import JoinsAnswered
from channels.live_network import LiveNetwork
from channels.long_poll import LongPoll
from channels.messages import Binary, Broadcast
from channels.mounts import Mount
from channels.payloads import InvalidPayload
from channels.pubsub.pubsub import PubSub
from channels.replies import JoinRefused, Reply
from channels.sockets import ConnectRefused, Refusal, Socket
from channels.tokens import (
    Atom,
    EncryptionUnavailable,
    InvalidSecret,
    TokenError,
    TokenExpired,
    TokenInvalid,
    TokenMissing,
    UnsignableData,
    decrypt,
    encrypt,
    sign,
    verify,
)
from channels.topics import Route
from channels.transports.listener import ListenError

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
    "EncryptionUnavailable",
    "Endpoint",
    "EndpointError",
    "InvalidHandler",
    "InvalidOption",
    "InvalidPayload",
    "InvalidResult",
    "InvalidRoute",
    "InvalidSecret",
    "JoinRefused",
    "JoinsAnswered",
    "Keep",
    "ListenError",
    "LiveNetwork",
    "LongPoll",
    "Mount",
    "NotJoined",
    "NothingToAnswer",
    "PeerData",
    "PubSub",
    "Refusal",
    "Reply",
    "Route",
    "Socket",
    "SocketRef",
    "TokenError",
    "TokenExpired",
    "TokenInvalid",
    "TokenMissing",
    "UnhandledEvent",
    "UnsignableData",
    "Uri",
    "decrypt",
    "encrypt",
    "handle_in",
    "handle_out",
    "reply_to",
    "sign",
    "verify",
]

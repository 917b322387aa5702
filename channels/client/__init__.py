"""A client for Phoenix servers. The client reconnects, rejoins, and keeps its unsent messages.

Start with `open_socket`. `channels.client.blocking` has the same names for code that blocks.
"""

from channels.client.backoff import RECONNECT, REJOIN, RetryTable
from channels.client.channel import ClientChannel, ClientPush
from channels.client.errors import (
    BufferFull,
    ChannelClosed,
    MessagesDropped,
    NotConnected,
    PushTimeout,
    Refused,
)
from channels.client.events import (
    ChannelEnded,
    ChannelLost,
    Connected,
    ConnectFailed,
    Disconnected,
    Dropped,
    FellBack,
    Joined,
    JoinRejected,
    JoinTimedOut,
    Lifecycle,
    Lost,
    Malformed,
    Rejoined,
    Rejoining,
    Retrying,
)
from channels.client.feed import Feed
from channels.client.presence import PresenceView
from channels.client.presence_fold import PresenceJoin, PresenceLeave
from channels.client.socket import ClientSocket, SocketStatistics, open_socket

__all__ = [
    "RECONNECT",
    "REJOIN",
    "BufferFull",
    "ChannelClosed",
    "ChannelEnded",
    "ChannelLost",
    "ClientChannel",
    "ClientPush",
    "ClientSocket",
    "ConnectFailed",
    "Connected",
    "Disconnected",
    "Dropped",
    "Feed",
    "FellBack",
    "JoinRejected",
    "JoinTimedOut",
    "Joined",
    "Lifecycle",
    "Lost",
    "Malformed",
    "MessagesDropped",
    "NotConnected",
    "PresenceJoin",
    "PresenceLeave",
    "PresenceView",
    "PushTimeout",
    "Refused",
    "Rejoined",
    "Rejoining",
    "RetryTable",
    "Retrying",
    "SocketStatistics",
    "open_socket",
]

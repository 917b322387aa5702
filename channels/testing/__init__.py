"""Tools for tests of channels: clients without a network, on a running endpoint. Start with `open_channel_test`."""

from channels.testing.broadcast_invariants import BroadcastsArrive
from channels.testing.case import ChannelTest, open_channel_test
from channels.testing.client import (
    ConnectionRefused,
    JoinFailed,
    PushAnswer,
    TestChannel,
    TestClient,
)
from channels.testing.inbox import ANYTHING, Expected
from channels.testing.invariants import JoinsAnswered, MembershipsEnd, SubscriptionsEnd
from channels.testing.joined_nodes import JoinedNodes
from channels.testing.live_network import LiveNetwork
from channels.testing.presence_invariants import PresenceDiffsFit, PresencesAgree
from channels.testing.simulated_redis import SimulatedRedis

__all__ = [
    "ANYTHING",
    "BroadcastsArrive",
    "ChannelTest",
    "ConnectionRefused",
    "Expected",
    "JoinFailed",
    "JoinedNodes",
    "JoinsAnswered",
    "LiveNetwork",
    "MembershipsEnd",
    "PresenceDiffsFit",
    "PresencesAgree",
    "PushAnswer",
    "SimulatedRedis",
    "SubscriptionsEnd",
    "TestChannel",
    "TestClient",
    "open_channel_test",
]

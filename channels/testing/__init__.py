"""For tests of channels: a client without a network, on a running endpoint. Start with `open_channel_test`."""

from channels.testing.case import ChannelTest, open_channel_test
from channels.testing.client import Answer, ConnectionRefused, JoinFailed, TestChannel, TestClient
from channels.testing.inbox import ANYTHING, Expected
from channels.testing.invariants import JoinsAnswered
from channels.testing.live_network import LiveNetwork

__all__ = [
    "ANYTHING",
    "Answer",
    "ChannelTest",
    "ConnectionRefused",
    "Expected",
    "JoinFailed",
    "JoinsAnswered",
    "LiveNetwork",
    "TestChannel",
    "TestClient",
    "open_channel_test",
]

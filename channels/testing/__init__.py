"""Tools for tests of channels: clients without a network, on a running endpoint. Start with `open_channel_test`."""

from channels.laboratory.broadcast_invariants import BroadcastsArrive
from channels.laboratory.entity_invariants import (
    ENTITY_INVARIANTS,
    EntitiesRunOnce,
    EntityCallsEnd,
    EntityCastsArrive,
    EntityMonitorsFire,
    EntityRequestsRunOnce,
)
from channels.laboratory.fence_invariants import FencesHold
from channels.laboratory.history_models import DurableTopic, KeyedPush, Presences
from channels.laboratory.invariants import JoinsAnswered
from channels.laboratory.joined_nodes import JoinedNodes
from channels.laboratory.live_cluster import ClusterFailed, LiveCluster, open_cluster
from channels.laboratory.live_network import LiveNetwork
from channels.laboratory.presence_invariants import PresenceDiffsFit, PresencesAgree
from channels.laboratory.simulated_redis import SimulatedRedis
from channels.testing.case import ChannelTest, open_channel_test
from channels.testing.client import (
    ConnectionRefused,
    JoinFailed,
    PushAnswer,
    TestChannel,
    TestClient,
)
from channels.testing.inbox import ANYTHING, Expected

__all__ = [
    "ANYTHING",
    "ENTITY_INVARIANTS",
    "BroadcastsArrive",
    "ChannelTest",
    "ClusterFailed",
    "ConnectionRefused",
    "DurableTopic",
    "EntitiesRunOnce",
    "EntityCallsEnd",
    "EntityCastsArrive",
    "EntityMonitorsFire",
    "EntityRequestsRunOnce",
    "Expected",
    "FencesHold",
    "JoinFailed",
    "JoinedNodes",
    "JoinsAnswered",
    "KeyedPush",
    "LiveCluster",
    "LiveNetwork",
    "PresenceDiffsFit",
    "Presences",
    "PresencesAgree",
    "PushAnswer",
    "SimulatedRedis",
    "TestChannel",
    "TestClient",
    "open_channel_test",
    "open_cluster",
]

"""Presence: the users of each topic, on all nodes. Start with `Presence`.

Its lower half is pure: a presence set that nodes exchange as deltas, and snapshots of it for readers.
"""

from channels.presence.announcer import Presences
from channels.presence.delta import Meta
from channels.presence.presence import Presence
from channels.presence.roster import TooManyCalls
from channels.presence.snapshot import Snapshot
from channels.presence.state import AlreadyTracked, NotTracked

__all__ = [
    "AlreadyTracked",
    "Meta",
    "NotTracked",
    "Presence",
    "Presences",
    "Snapshot",
    "TooManyCalls",
]

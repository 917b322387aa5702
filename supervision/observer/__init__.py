"""Snapshots of all processes of a runtime, as records, text, JSON or graphs.

from supervision.observer import snapshot

print((await snapshot()).to_text())
"""

from supervision.observer.records import Health, ProcessView, Snapshot
from supervision.observer.snapshots import snapshot

__all__ = ["Health", "ProcessView", "Snapshot", "snapshot"]

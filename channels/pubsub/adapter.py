"""What joins the nodes of a cluster: the contract, and the adapter of a node that is alone."""

from __future__ import annotations

from typing import Any, Protocol

__all__ = ["Adapter", "LocalAdapter"]


class Adapter(Protocol):
    """Carries messages to the *other* nodes. Delivery on this node is not its business."""

    @property
    def node_name(self) -> str:
        """The name of this node among the others."""
        ...

    def broadcast(self, topic: str, message: Any) -> None:
        """Send to every other node. Never blocks; raises if the message cannot be sent at all.

        Called in the runtime's thread, once an endpoint has started or a process has subscribed.
        """
        ...


class LocalAdapter:
    """There are no other nodes."""

    node_name = "local"

    def broadcast(self, topic: str, message: Any) -> None:
        """Nobody else to tell."""

"""Publish and subscribe: topics, their subscribers on this node, and an adapter to the other nodes."""

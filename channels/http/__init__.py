"""Requests that are not our own WebSockets: the handover to Hypercorn, and ASGI in both directions."""

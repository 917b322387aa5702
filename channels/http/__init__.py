"""HTTP that is not ours: the handover to Hypercorn, and ASGI in both directions."""

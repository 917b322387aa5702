"""Who is at the other end of what carries bytes, as the network sees it."""

from __future__ import annotations

import socket
import ssl
from typing import Any

import trio

from channels.connect_info import PeerData
from channels.http.asgi_stream import AsgiStream
from channels.transports.transports import Carrier

__all__ = ["peer_of"]


def peer_of(carrier: Carrier) -> PeerData | None:
    """Say who the peer is; None where the network has no addresses, or the peer has gone.

    >>> one, other = trio.testing.memory_stream_pair()
    >>> peer_of(one) is None
    True
    """
    if isinstance(carrier, AsgiStream):
        return carrier.peer
    certificate = None
    below: Any = carrier
    if isinstance(carrier, trio.SSLStream):
        try:
            certificate = carrier.getpeercert(binary_form=True)
        except (trio.NeedHandshakeError, ssl.SSLError, ValueError):
            # There was no handshake, so there is no certificate either.
            certificate = None
        below = carrier.transport_stream
    if not isinstance(below, socket.socket):
        below = getattr(below, "socket", None)
    try:
        address = below.getpeername() if below is not None else None
    except OSError:
        return None
    if not isinstance(address, tuple) or len(address) < 2:
        return None
    return PeerData(address=str(address[0]), port=int(address[1]), ssl_cert=certificate)

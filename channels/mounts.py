"""Where a socket is mounted, and with which options."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import field, frozen

from channels._options import positive, whole
from channels.serializers.base import Serializer
from channels.serializers.defaults import DEFAULT_SERIALIZERS
from channels.serializers.versions import Requirement
from channels.sockets import Socket
from channels.transports.origin import OriginRule
from channels.transports.websocket import DEFAULT_MAX_MESSAGE_SIZE

__all__ = ["Mount"]


@frozen
class Mount:
    """A socket with options, for `Endpoint(sockets={"/socket": Mount(UserSocket, timeout=30.0)})`.

    Args:
        socket: the socket class.
        timeout: seconds without a word from the client after which its connection is closed, with 1002. phoenix.js
            sends a heartbeat every 30.
        max_frame_size: bytes of a message; a larger one closes the connection with 1009.
        serializers: the wire formats on offer, with the versions that each serves, in the order of preference.
        check_origin: which pages may connect: `True`, those from the host that they connect to; `False`, all; `"conn"`,
            only with the same scheme and port too; or a list such as `["https://example.org", "//*.example.org"]`, or
            a function of the parsed origin. Others get HTTP 403. Clients that are not browsers may always connect.
        partitions: supervisors among which the channels of this socket are spread. A socket class that is mounted
            several times has one pool; the largest number counts.

    Defaults are Phoenix's.

    Raises:
        InvalidOrigin: when the endpoint starts, for an origin that cannot be understood.
        InvalidOption: a number is none, or is not above 0.
    """

    socket: type[Socket]
    timeout: float = field(default=60.0, validator=positive)
    max_frame_size: int = field(default=DEFAULT_MAX_MESSAGE_SIZE, validator=whole)
    serializers: Sequence[tuple[Serializer, Requirement]] = DEFAULT_SERIALIZERS
    check_origin: OriginRule = True
    partitions: int = field(default=2, validator=whole)

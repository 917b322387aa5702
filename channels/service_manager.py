"""Messages to the service manager about the state of the server, in the protocol of systemd.

    service_manager.ready()         # systemd starts the units that wait for this one
    service_manager.reloading()     # until the next `ready`
    service_manager.stopping()

systemd sets the environment variable NOTIFY_SOCKET for a unit with `Type=notify`. Without this variable, the functions
do nothing. Source: sd_notify(3).
"""

from __future__ import annotations

import logging
import os
import socket
import time

__all__ = ["ready", "reloading", "stopping"]

_log = logging.getLogger("channels")
# Seconds that a full queue of the service manager may hold up the server.
_PATIENCE = 1.0


def ready(status: str = "") -> None:
    """Tell the service manager that the server accepts connections, after its start or after a reload.

    Args:
        status: a sentence for `systemctl status`. The default removes an earlier sentence.
    """
    _notify("READY=1", f"STATUS={' '.join(status.split())}")


def reloading() -> None:
    """Tell the service manager that the server begins to replace its workers."""
    # systemd compares this time with the time of its signal, so it must come from the same clock.
    now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    _notify("RELOADING=1", f"MONOTONIC_USEC={now}")


def stopping() -> None:
    """Tell the service manager that the server begins to stop."""
    _notify("STOPPING=1")


def _notify(*lines: str) -> None:
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address.startswith("@"):
        # The address of a socket without a file begins with a zero byte.
        address = f"\0{address[1:]}"
    elif not address.startswith("/"):
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.settimeout(_PATIENCE)
            sock.sendto("\n".join(lines).encode(), address)
    except OSError as error:
        # The server works without its service manager.
        _log.warning("cannot tell the service manager %s: %s", lines[0], error.strerror or error)

"""The servers of these tests keep their ports while they are down."""

from __future__ import annotations

import socket

from tests.integration.servers import free_port


def test_a_free_port_is_free_and_outside_the_ephemeral_range() -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", 0)) as given:
        assert port < given.getsockname()[1]
    with socket.create_server(("127.0.0.1", port)) as taken:
        assert taken.getsockname()[1] == port

"""What clients of HTTP/2 can send and Hypercorn cannot read ends their connection, and is no crash."""

from __future__ import annotations

from collections.abc import Callable

import h2.config
import h2.connection
import h2.events
import pytest
import trio

from channels.http.handover import HttpHandover
from tests.channels.transports.http_client import served

Connection = h2.connection.H2Connection


def priorities(connection: Connection) -> None:
    for number in range(1001):
        connection.prioritize(2 * number + 1, weight=10)


def request(**changes: bytes) -> Callable[[Connection], None]:
    fields = {"method": b"GET", "path": b"/", "scheme": b"http", "authority": b"x"} | changes

    def send(connection: Connection) -> None:
        pairs = [(f":{name}".encode(), value) for name, value in fields.items() if value]
        connection.send_headers(1, pairs, end_stream=True)

    return send


@pytest.mark.parametrize(
    "send",
    [
        pytest.param(priorities, id="a thousand priorities and one"),
        pytest.param(request(path=b"/\xff"), id="a path that is not ASCII"),
        pytest.param(request(method=b"G\xff"), id="a method that is not ASCII"),
        pytest.param(
            request(method=b"CONNECT", path=b"", scheme=b""), id="a CONNECT without a path"
        ),
    ],
)
async def test_what_hypercorn_cannot_read_closes_the_connection_and_is_counted(
    send: Callable[[Connection], None], caplog: pytest.LogCaptureFixture
) -> None:
    connection = h2.connection.H2Connection(
        h2.config.H2Configuration(header_encoding=None, validate_outbound_headers=False)
    )
    connection.initiate_connection()
    send(connection)
    handover = HttpHandover()
    counts: list[tuple[str, ...]] = []
    handover.count = counts.append
    async with served(handover, connection.data_to_send()) as (client, _):
        with trio.fail_after(5):
            answer = b"".join([bytes(data) async for data in client.stream])
    assert any(
        isinstance(event, h2.events.ConnectionTerminated)
        for event in connection.receive_data(answer)
    )
    assert counts == [("http", "unreadable")]
    assert handover.connections == 0
    assert not caplog.records

"""Any bytes of a client get a documented answer from a real server, and do not affect other clients.

The deep profile tries ten thousand connections. The bytes begin like valid input, because the parser refuses random
bytes at once.
"""

from __future__ import annotations

import base64
import json
import re
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import define
from hypothesis import event, given
from hypothesis import strategies as st

from tests.channels.transports.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    client_frame,
)
from tests.integration.servers import Server, serving
from tests.patience import PATIENCE, wait_until

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ANSWERS = {200, 204, 400, 403, 404, 405, 408, 410, 413, 414, 421, 426, 431, 501, 505}
CLOSES = {1000, 1001, 1002, 1007, 1009, 1011, 1013}


def head(method: str, path: str, *headers: str) -> bytes:
    return "\r\n".join((f"{method} {path} HTTP/1.1", "Host: test", *headers, "", "")).encode()


UPGRADE = head(
    "GET",
    "/socket/websocket?vsn=2.0.0",
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    f"Sec-WebSocket-Key: {KEY}",
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=5,
)
# Events that every client may send. Other tests have the events that crash a channel.
MESSAGES = st.tuples(
    st.sampled_from([None, "1", 1]),
    st.sampled_from([None, "7", ["7"]]),
    st.sampled_from(["room:a", "room:deny", "nosuch:a", "phoenix", 3]),
    st.sampled_from(["phx_join", "phx_leave", "heartbeat", "echo", "ping", "new_msg", {}]),
    JSON,
).map(lambda message: json.dumps(message).encode())
PAYLOADS = MESSAGES | st.binary(max_size=40)
FRAMES = st.builds(
    client_frame,
    st.sampled_from([TEXT, TEXT, TEXT, BINARY, CONTINUATION, PING, PONG, CLOSE, 0x3, 0xB]),
    PAYLOADS,
    fin=st.sampled_from([True, True, True, False]),
    rsv=st.sampled_from([0, 0, 0, 0, 1, 4]),
    masked=st.sampled_from([True, True, True, False]),
)
HEADS = st.builds(
    head,
    st.sampled_from(["GET", "POST", "OPTIONS", "PUT", "G\tT", ""]),
    st.sampled_from(
        [
            "/socket/websocket?vsn=2.0.0",
            "/socket/websocket",
            "/socket/longpoll?vsn=2.0.0",
            "/",
            "*",
            "/%",
        ]
    )
    | st.text(max_size=10),
    st.sampled_from(["Connection: Upgrade", "Connection: close", "Connection"]),
    st.sampled_from(
        ["Upgrade: websocket", "Upgrade: h2c", "Content-Length: 3", "Content-Length: -1"]
    ),
    st.sampled_from(["Sec-WebSocket-Version: 13", "Transfer-Encoding: chunked", "X: \x00"]),
    st.sampled_from(
        [f"Sec-WebSocket-Key: {KEY}", "Sec-WebSocket-Key: x", "Content-Type: application/x-ndjson"]
    ),
)
BODIES = st.lists(MESSAGES, max_size=3).map(b"\n".join) | st.binary(max_size=40).map(
    base64.b64encode
)


def polling(body: bytes) -> bytes:
    lines = (
        "Content-Type: application/x-ndjson",
        f"Content-Length: {len(body)}",
        "Connection: close",
    )
    return head("POST", "/socket/longpoll?vsn=2.0.0", *lines) + body


@st.composite
def damaged(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    """With a few bytes changed, and perhaps cut short."""
    data = bytearray(draw(whole))
    for _ in range(draw(st.integers(0, 3))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(1, len(data)))]) if draw(st.booleans()) else bytes(data)


SESSIONS = st.lists(FRAMES | st.binary(max_size=20), max_size=6).map(
    lambda frames: UPGRADE + b"".join(frames)
)
STREAMS = (
    st.binary(max_size=100)
    | HEADS
    | SESSIONS
    | SESSIONS
    | BODIES.map(polling)
    | damaged(HEADS)
    | damaged(SESSIONS)
    | damaged(BODIES.map(polling))
)


@define
class Friend:
    """A well-behaved client, which must not notice the others."""

    connection: socket.socket
    joined: bool = False
    refs: int = 1

    def exchange(self, name: str, payload: object) -> None:
        """Send a message, and read its answer, which must be ok."""
        self.refs += 1
        message = ["1", str(self.refs), "room:friends", name, payload]
        self.connection.sendall(client_frame(TEXT, json.dumps(message).encode()))
        size = self.connection.recv(2, socket.MSG_WAITALL)[1]
        if size == 126:
            (size,) = struct.unpack("!H", self.connection.recv(2, socket.MSG_WAITALL))
        answer = json.loads(self.connection.recv(size, socket.MSG_WAITALL))
        assert answer[1] == str(self.refs)
        assert answer[4]["status"] == "ok"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving("examples.conformance", tmp_path_factory.mktemp("hostile")) as running:
        yield running


@pytest.fixture(scope="module")
def friend(server: Server) -> Iterator[Friend]:
    with open_connection(server) as connection:
        connection.sendall(UPGRADE)
        while not (seen := connection.recv(4096)).endswith(b"\r\n\r\n"):
            assert seen
        client = Friend(connection)
        client.exchange("phx_join", {})
        yield client


def open_connection(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)


def converse(server: Server, data: bytes) -> bytes:
    """Send everything, say that this was all, and read to the end, which must come."""
    answer = b""
    with open_connection(server) as connection:
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while piece := connection.recv(65536):
                answer += piece
        except (ConnectionResetError, BrokenPipeError):
            # The server has closed while something was on its way that it did not want to read.
            pass
    return answer


def read_answer(answer: bytes) -> str:
    """Return None, the HTTP status of the answer, or the code of the close frame after an upgrade."""
    if not answer:
        return "nothing"
    status = re.match(rb"HTTP/1\.[01] (\d{3}) ", answer)
    assert status is not None, answer
    if int(status[1]) != 101:
        assert int(status[1]) in ANSWERS, answer
        return status[1].decode()
    rest = answer.partition(b"\r\n\r\n")[2]
    while rest:
        size, start = rest[1], 2
        if size == 126:
            size, start = struct.unpack("!H", rest[2:4])[0], 4
        elif size == 127:
            size, start = struct.unpack("!Q", rest[2:10])[0], 10
        payload = rest[start : start + size]
        assert len(payload) == size, "a frame was cut short"
        if rest[0] == 0x88:
            code = struct.unpack("!H", payload[:2])[0]
            assert code in CLOSES, answer
            return f"closed with {code}"
        assert rest[0] in (0x81, 0x82, 0x8A), answer
        rest = rest[start + size :]
    return "went without a word"


@given(STREAMS)
def test_any_bytes_get_a_documented_answer_and_affect_no_other_client(
    server: Server, friend: Friend, data: bytes
) -> None:
    event(read_answer(converse(server, data)))
    friend.exchange("echo", {"still": "there"})


def test_a_thousand_hostile_clients_leak_nothing(server: Server, friend: Friend) -> None:
    files = Path(f"/proc/{server.pid}/fd")
    samples = [b"", b"GET / HT", UPGRADE, UPGRADE + client_frame(TEXT, b"no"), polling(b"[]")]
    for data in samples:
        converse(server, data)
    before = len(list(files.iterdir()))
    for number in range(1000):
        converse(server, samples[number % len(samples)])
        if number % 100 == 99:
            friend.exchange("echo", {})  # keeps the client alive, as a heartbeat does
    wait_until(lambda: len(list(files.iterdir())) <= before)

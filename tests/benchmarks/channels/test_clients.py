"""The clients of the load generator."""

from __future__ import annotations

import select
import socket

import pytest

from tests.benchmarks.channels.clients import Client, Crowd
from tests.benchmarks.channels.dialects import PhoenixV2
from tests.benchmarks.channels.wire import CLOSE, TEXT, client_frame

_TEXT = b"\x81\x02hi"
_ANSWER = client_frame(TEXT, b"answer")


class Counting(socket.socket):
    """A socket that counts the calls of `send` of all its instances."""

    sends = 0

    def send(self, data: bytes, flags: int = 0) -> int:  # type: ignore[override]
        Counting.sends += 1
        return super().send(data, flags)


def test_one_system_call_sends_the_answers_to_one_read_and_the_closing_frame_comes_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heard: list[bytes] = []

    def answer(client: Client, text: bytes, now: float) -> None:
        heard.append(text)
        client.send(_ANSWER)
        if len(heard) == 3:
            client.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        crowd = Crowd(f"ws://127.0.0.1:{listener.getsockname()[1]}/", PhoenixV2())
        with monkeypatch.context() as patch:
            patch.setattr(socket, "socket", Counting)
            client = crowd.join(0, "room:1", lambda client: None)
        server, _ = listener.accept()
        with server:
            crowd.run_until(lambda: _is_readable(server), 5, "the request")
            server.recv(65536)
            server.sendall(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
            crowd.run_until(lambda: _is_readable(server), 5, "the join")
            server.recv(65536)
            client.on_text = answer
            before = Counting.sends
            server.sendall(3 * _TEXT)
            crowd.run_until(lambda: client.is_down, 5, "the answers")
            got = b"".join(iter(lambda: server.recv(65536), b""))
        crowd.close()
    assert heard == [b"hi", b"hi", b"hi"]
    assert got == 3 * _ANSWER + client_frame(CLOSE, (1000).to_bytes(2, "big"))
    assert Counting.sends - before == 2


def _is_readable(connection: socket.socket) -> bool:
    return bool(select.select([connection], [], [], 0)[0])

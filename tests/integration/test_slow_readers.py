"""A real client that does not read stays in a full room, and gets the newest positions when it reads again.

The room has a thousand clients over real sockets, and 20 vehicles whose positions come once a second each. The test
first sends some minutes of them at once, until the buffers of the kernel are full.
"""

from __future__ import annotations

import json
import selectors
import socket
import struct
import threading
from typing import Any

import trio

from actors import open_runtime
from channels import Channel, Endpoint, Socket
from channels.telemetry import SESSION_STARTED
from tests.channels.support import UPGRADE, head
from tests.channels.transports.frames import TEXT, client_frame
from tests.patience import until

REAL_CLOCK = True

CLIENTS = 1000
VEHICLES = 20
# At once, before the positions in real time: as many as fill the buffers of the kernel.
MISSED = 200
SECONDS = 1.0
MAX_HELD = 64_000


class Map(Channel):
    async def join(self, topic: str, payload: Any) -> None:
        pass


class MapSocket(Socket):
    channels = {"map": Map}


def joined(port: int, *, buffer: int | None = None) -> socket.socket:
    """Open a WebSocket, and join the map. `buffer` is the size of the client's receive buffer."""
    sock = socket.socket()
    sock.settimeout(20)
    if buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    sock.connect(("127.0.0.1", port))
    sock.sendall(head("/socket/websocket?vsn=2.0.0", UPGRADE))
    sock.sendall(client_frame(TEXT, b'["1","1","map","phx_join",{}]'))
    received = b""
    while b"phx_reply" not in received:
        data = sock.recv(65536)
        assert data, received
        received += data
    return sock


class Crowd:
    """Clients that read everything at once, in a thread of their own."""

    def __init__(self, port: int, count: int) -> None:
        self.bytes = 0
        self.ends = 0
        self._sockets = [joined(port) for _ in range(count)]
        self._selector = selectors.DefaultSelector()
        for sock in self._sockets:
            sock.setblocking(False)
            self._selector.register(sock, selectors.EVENT_READ)
        self._is_done = False
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while not self._is_done:
            for key, _ in self._selector.select(0.05):
                size = len(key.fileobj.recv(65536))  # type: ignore[union-attr]
                self.bytes += size
                if not size:
                    self.ends += 1
                    self._selector.unregister(key.fileobj)

    def close(self) -> None:
        self._is_done = True
        self._thread.join()
        self._selector.close()
        for sock in self._sockets:
            sock.close()


class SlowReader:
    """A client that reads nothing for some time."""

    def __init__(self, port: int) -> None:
        self.socket = joined(port, buffer=4096)
        self.received: dict[int, int] = {}
        self._data = b""

    def read_until(self, newest: dict[int, int]) -> bool:
        """Read until the client has the newest position of every vehicle. Return False if the connection ends."""
        while self.received != newest:
            data = self.socket.recv(65536)
            if not data:
                return False
            self._data += data
            while len(self._data) >= 4:
                size = self._data[1]
                start = 2
                if size == 126:
                    (size,) = struct.unpack_from("!H", self._data, 2)
                    start = 4
                if len(self._data) < start + size:
                    break
                assert self._data[0] == 0x81, "no close frame"
                *_, event, payload = json.loads(self._data[start : start + size])
                self._data = self._data[start + size :]
                if event == "position":
                    vehicle, number = payload["vehicle"], payload["n"]
                    assert number > self.received.get(vehicle, -1), "never an older position"
                    self.received[vehicle] = number
        return True


async def test_a_slow_reader_in_a_room_of_a_thousand_gets_the_newest_positions_within_a_second(
    record_property: Any,
) -> None:
    endpoint = Endpoint(sockets={"/socket": MapSocket})
    newest: dict[int, int] = {}
    held: list[int] = []

    def drive(number: int) -> None:
        vehicle = number % VEHICLES
        payload = {"vehicle": vehicle, "n": number, "street": "x" * 400}
        endpoint.broadcast_latest("map", "position", payload, key=str(vehicle))
        newest[vehicle] = number

    async with open_runtime(log=False) as runtime:
        servers: list[Any] = []
        runtime.telemetry.attach(SESSION_STARTED, lambda *event: servers.append(event[2]["server"]))
        await endpoint.start_link(port=0)
        port = endpoint.address[1]
        slow = await trio.to_thread.run_sync(SlowReader, port)
        out = servers[0].out
        crowd = await trio.to_thread.run_sync(Crowd, port, CLIENTS - 1)
        assert len(servers) == CLIENTS

        def look() -> None:
            held.append(out.statistics().waiting_bytes)

        for number in range(MISSED):
            drive(number)
            look()
            await trio.lowlevel.checkpoint()
        assert out.statistics().catching_up, "the buffers of the kernel are full"
        for number in range(MISSED, MISSED + int(SECONDS * VEHICLES)):
            drive(number)
            look()
            await trio.sleep(1 / VEHICLES)
        started = trio.current_time()
        assert await trio.to_thread.run_sync(slow.read_until, dict(newest)), "still connected"
        elapsed = trio.current_time() - started
        statistics = endpoint.statistics()
        record_property("held", max(held))
        record_property("seconds", elapsed)
        print(
            f"held {max(held)} bytes, newest after {elapsed * 1000:.1f} ms, {statistics['latest']}"
        )
        assert max(held) < MAX_HELD
        assert elapsed < 1.0
        assert statistics["latest"].replaced > 0
        assert statistics["latest"].dropped == 0
        assert statistics["counts"] == {}
        assert crowd.ends == 0
        await trio.to_thread.run_sync(crowd.close)
        slow.socket.close()
        await until(lambda: endpoint.statistics()["subscriptions"] == 0)

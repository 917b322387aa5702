"""A rolling restart under load: every client reconnects, and no client loses a message.

Clients number their messages, and repeat those without an acknowledgement, as a careful application does.
"""

from __future__ import annotations

import itertools
import json
import re
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import trio
from attrs import Factory, define
from trio_websocket import ConnectionClosed, HandshakeError, WebSocketConnection

from channels.connection.connection import CLOSE_GRACE
from tests.integration.phoenix_js import PhoenixJs, connected
from tests.integration.servers import Server, serving
from tests.patience import PATIENCE, until
from tests.websockets import open_websocket

CLIENTS = 50
PAUSE = 0.1
RETRIES = (0.01, 0.05, 0.1, 0.15, 0.2, 0.25, 0.5)  # the same as phoenix.js, in seconds


@define
class Talker:
    """Says something now and then, and again, until it was acknowledged."""

    name: str
    port: int
    said: int = 0
    unacknowledged: dict[int, str] = Factory(dict)
    heard: set[str] = Factory(set)
    acknowledged: set[str] = Factory(set)
    repeated: int = 0
    codes: list[int] = Factory(list)
    closed_at: float = 0.0
    turned_away: int = 0
    joins: int = 0
    is_in: bool = False
    stopping: bool = False

    async def main(self) -> None:
        attempt = 0
        while True:
            try:
                await self._be_connected()
            except* ConnectionClosed:
                attempt = 0
            except* (HandshakeError, OSError):
                self.turned_away += 1
            self.is_in = False
            await trio.sleep(RETRIES[min(attempt, len(RETRIES) - 1)])
            attempt += 1

    async def _be_connected(self) -> None:
        stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        async with stream, trio.open_nursery() as nursery:
            connection = await open_websocket(
                nursery, stream, f"127.0.0.1:{self.port}", timeout=PATIENCE
            )
            try:
                await self._talk(connection)
            finally:
                if connection.closed is not None:
                    self.closed_at = trio.current_time()
                    self.codes.append(connection.closed.code)

    async def _talk(self, connection: WebSocketConnection) -> None:
        await connection.send_message(
            json.dumps(["0", "0", "room:lobby", "phx_join", {"name": self.name}])
        )
        answer = json.loads(await connection.get_message())
        assert answer[4]["status"] == "ok", answer
        self.joins += 1
        self.is_in = True
        self.repeated += len(self.unacknowledged)
        for number, text in list(self.unacknowledged.items()):
            await self._say(connection, number, text)
        # One task for each direction: the end of the connection ends both.
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._listen, connection)
            while True:
                # One at a time: a slow machine must not have more and more of them in hand.
                if not (self.stopping or self.unacknowledged):
                    self.said += 1
                    text = self.unacknowledged[self.said] = f"{self.name} {self.said}"
                    await self._say(connection, self.said, text)
                await trio.sleep(PAUSE)

    async def _say(self, connection: WebSocketConnection, number: int, text: str) -> None:
        message = ["0", str(number), "room:lobby", "new_msg", {"body": text}]
        await connection.send_message(json.dumps(message))

    async def _listen(self, connection: WebSocketConnection) -> None:
        while True:
            _, ref, _, event, payload = json.loads(await connection.get_message())
            if event == "new_msg":
                self.heard.add(payload["body"])
            elif event == "phx_reply" and payload["status"] == "ok":
                self.acknowledged.add(self.unacknowledged.pop(int(ref)))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving("tests.integration.draining_chat", tmp_path) as running:
        yield running


async def calm(talkers: list[Talker]) -> set[str]:
    """Wait until every client is there, and has got a reply to a message after that.

    Return the messages that were acknowledged and that every client must have.
    """
    await until(lambda: all(talker.is_in for talker in talkers))
    earlier = {
        f"{talker.name} {number}" for talker in talkers for number in range(1, talker.said + 1)
    }
    await until(lambda: all(talker.acknowledged - earlier for talker in talkers))
    return {text for talker in talkers for text in talker.acknowledged - earlier}


async def test_a_rolling_restart_loses_no_message(server: Server) -> None:
    talkers = [Talker(f"client {n}", server.port) for n in range(CLIENTS)]
    async with trio.open_nursery() as nursery:
        for talker in talkers:
            nursery.start_soon(talker.main)
        for_all = await calm(talkers)
        stopped_at = trio.current_time()
        assert await trio.to_thread.run_sync(server.stop) == 0
        # Otherwise the test would pass without a restart of any client.
        await until(lambda: any(talker.turned_away for talker in talkers))
        await trio.to_thread.run_sync(server.start)
        for_all |= await calm(talkers)
        for talker in talkers:
            talker.stopping = True
        await until(lambda: not any(talker.unacknowledged for talker in talkers))
        # The last broadcasts are on their way to the other clients.
        await until(lambda: all(for_all <= talker.heard for talker in talkers))
        nursery.cancel_scope.cancel()

    for talker in talkers:
        # The server cuts a client off that is too slow to read its 1012.
        was_cut_off = talker.closed_at - stopped_at >= CLOSE_GRACE and talker.codes == [1006]
        assert talker.codes == [1012] or was_cut_off
    assert [talker.joins for talker in talkers] == [2] * CLIENTS
    for talker in talkers:
        everything = {f"{talker.name} {number}" for number in range(1, talker.said + 1)}
        assert talker.acknowledged == everything
        assert everything <= talker.heard, "what was acknowledged was broadcast"
    batches = re.findall(r"Draining (\d+) of 50 clients", server.output())
    assert batches == ["10"] * 5


class Speaker(threading.Thread):
    """Has a phoenix.js say numbered messages one after another, and each again until it is acknowledged."""

    def __init__(self, client: PhoenixJs, name: str) -> None:
        super().__init__(name=name)
        self.client = client
        self.begun = threading.Event()
        self.restarted = threading.Event()
        self.problem: BaseException | None = None

    def run(self) -> None:
        try:
            # A join that is not answered in time is sent again by phoenix.js, as a push is below by this thread.
            self.client.tell("join", topic="room:lobby", payload={"name": self.name})
            self.client.expect("join", topic="room:lobby", status="ok")
            for number in itertools.count(1):
                # From now on, only the new server acknowledges messages.
                is_last = self.restarted.is_set()
                self._say(f"{self.name} {number}")
                self.begun.set()
                if is_last:
                    return
                self.restarted.wait(0.02)
        except BaseException as error:  # for the thread that waits for this one
            self.problem = error

    def _say(self, body: str) -> None:
        # phoenix.js keeps pushes while it is disconnected, and gives up on them after its timeout.
        while self.client.request("room:lobby", "new_msg", {"body": body})[0] != "ok":
            pass
        heard = self.client.seen("message", topic="room:lobby", event="new_msg")
        assert any(each["payload"]["body"] == body for each in heard), "acknowledged, not broadcast"


@pytest.mark.parametrize(
    "transport", ["websocket", pytest.param("longpoll", marks=pytest.mark.deep)]
)
def test_a_rolling_restart_loses_no_message_of_phoenix_js(server: Server, transport: str) -> None:
    with ExitStack() as stack:
        speakers = [
            Speaker(
                stack.enter_context(
                    connected(server.socket_url, transport=transport, timeout=1000)
                ),
                f"client {number}",
            )
            for number in range(3)
        ]
        for speaker in speakers:
            speaker.start()
        assert all(speaker.begun.wait(PATIENCE) for speaker in speakers)
        assert server.stop() == 0
        server.start()
        for speaker in speakers:
            speaker.restarted.set()
        for speaker in speakers:
            speaker.join(PATIENCE)
        assert [(each.is_alive(), each.problem) for each in speakers] == [(False, None)] * 3
        if transport == "websocket":
            assert [each.client.seen("close")[0]["code"] for each in speakers] == [1012] * 3

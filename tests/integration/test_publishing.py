"""Publishing from outside, through a real Valkey server, to nodes that are real endpoints."""

from __future__ import annotations

import asyncio
import json
import math
import os
import secrets
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from websockets.sync.client import connect

from actors import InvalidArgument, InvalidOption, open_runtime
from channels import Binary, Broadcast, EncodeError, Endpoint, PubSub, sign
from channels.publishing import AsyncPublisher, Publisher, PublishError, publish, publish_async
from channels.pubsub.envelope import MessageTooLarge
from channels.pubsub.redis.adapter import RedisAdapter
from tests.architecture.test_snippets import SNIPPETS
from tests.channels.support import Mailbox
from tests.integration.phoenix_js import PhoenixJs
from tests.integration.servers import Server, serving
from tests.integration.valkey import Valkey, valkey
from tests.patience import until, wait_until

NODE = Path(__file__).parent / "node"
SECRET = "a secret of the tests alone"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    with valkey(tmp_path_factory.mktemp("valkey")) as running:
        yield running


@pytest.fixture(scope="module")
def nodes(server: Valkey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                serving(
                    "tests.integration.news_node",
                    tmp_path_factory.mktemp(name),
                    {"REDIS_URL": server.url, "NODE_NAME": name},
                )
            )
            for name in "ab"
        ]


class Heard:
    """A client of each node, which has joined the topic `news`."""

    def __init__(self, nodes: list[Server]) -> None:
        self._stack = ExitStack()
        self.sockets = [
            self._stack.enter_context(
                connect(f"{node.socket_url}/websocket?vsn=2.0.0", max_queue=None)
            )
            for node in nodes
        ]
        for socket in self.sockets:
            socket.send(json.dumps(["1", "1", "news", "phx_join", {}]))
            assert json.loads(socket.recv(timeout=20))[3] == "phx_reply"

    def next(self) -> list[Any]:
        """The event and payload that each client gets next."""
        frames = [json.loads(socket.recv(timeout=20)) for socket in self.sockets]
        return [frame[3:] for frame in frames]

    def close(self) -> None:
        self._stack.close()


@pytest.fixture
def heard(nodes: list[Server]) -> Iterator[Heard]:
    clients = Heard(nodes)
    yield clients
    clients.close()


def test_a_blocking_program_reaches_the_clients_of_every_node(server: Valkey, heard: Heard) -> None:
    publish(server.url, "news", "told", {"n": 1})
    assert heard.next() == [["told", {"n": 1}]] * 2


def test_a_publisher_keeps_the_order_of_its_messages(server: Valkey, heard: Heard) -> None:
    with Publisher(server.url) as publisher:
        for n in range(50):
            publisher.publish("news", "told", {"n": n})
    for n in range(50):
        assert heard.next() == [["told", {"n": n}]] * 2


def test_threads_share_a_publisher(server: Valkey, heard: Heard) -> None:
    with Publisher(server.url) as publisher:
        threads = [
            threading.Thread(target=publisher.publish, args=("news", "told", {"n": n}))
            for n in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    got = [heard.next() for _ in range(8)]
    assert {each[0][1]["n"] for each in got} == {each[1][1]["n"] for each in got} == set(range(8))


async def test_a_program_on_trio_publishes(server: Valkey, heard: Heard) -> None:
    await publish_async(server.url, "news", "told", {"n": 1})
    async with AsyncPublisher(server.url) as publisher, trio.open_nursery() as nursery:
        for n in range(5):
            nursery.start_soon(publisher.publish, "news", "told", {"n": n})
    got = [await trio.to_thread.run_sync(heard.next) for _ in range(6)]
    assert got[0] == [["told", {"n": 1}]] * 2
    assert sorted(each[0][1]["n"] for each in got[1:]) == list(range(5))


def test_a_publisher_connects_again_after_a_restart_of_the_server(
    tmp_path: Path,
) -> None:
    with valkey(tmp_path) as own, Publisher(own.url) as publisher:
        publisher.publish("news", "told", {})
        own.kill()
        with pytest.raises(PublishError) as failed:
            publisher.publish("news", "told", {})
        assert not failed.value.is_sent
        own.start()
        publisher.publish("news", "told", {})


async def test_a_publisher_on_trio_connects_again_after_a_restart_of_the_server(
    tmp_path: Path,
) -> None:
    with valkey(tmp_path) as own:
        async with AsyncPublisher(own.url) as publisher:
            await publisher.publish("news", "told", {})
            own.kill()
            with pytest.raises(PublishError) as failed:
                await publisher.publish("news", "told", {})
            assert not failed.value.is_sent
            own.start()
            await publisher.publish("news", "told", {})
            own.kill()
            own.start()
            await publisher.publish("news", "told", {})


def test_a_forked_process_makes_a_connection_of_its_own(server: Valkey, heard: Heard) -> None:
    program = f"""
import os
from channels.publishing import Publisher
publisher = Publisher({server.url!r})
publisher.publish("news", "told", {{"n": 1}})
if os.fork() == 0:
    publisher.publish("news", "told", {{"n": 2}})
    os._exit(0)
os.wait()
publisher.publish("news", "told", {{"n": 3}})
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    for n in (1, 2, 3):
        assert heard.next() == [["told", {"n": n}]] * 2


def test_the_command_broadcasts(server: Valkey, heard: Heard) -> None:
    run = ashtree("broadcast", "news", "told", '{"n": 1}', "--url", server.url)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    assert heard.next() == [["told", {"n": 1}]] * 2


def test_ten_lines_of_another_language_publish(server: Valkey, heard: Heard) -> None:
    subprocess.run(["node", "publish.mjs", server.url], cwd=NODE, check=True, timeout=60)
    assert heard.next() == [["told", {"from": "node"}]] * 2


def test_the_example_announces(server: Valkey, heard: Heard) -> None:
    environment = {**os.environ, "REDIS_URL": server.url}
    command = [sys.executable, "-m", "examples.announce", "at", "noon"]
    subprocess.run(command, check=True, timeout=60, env=environment)
    assert heard.next() == [["announced", {"body": "at noon"}]] * 2


async def test_asyncio_programs_publish_in_a_thread(server: Valkey, heard: Heard) -> None:
    def program() -> None:
        async def main() -> None:
            await asyncio.to_thread(publish, server.url, "news", "told", {"n": 1})

        asyncio.run(main())

    await trio.to_thread.run_sync(program)
    assert heard.next() == [["told", {"n": 1}]] * 2


# Over HTTP


def token(name: str) -> str:
    """Return a token with a limit of its own."""
    return sign(SECRET, "publish", name)


def curl(node: Server, path: str, *options: str, bearer: str) -> tuple[int, dict[str, str], Any]:
    """POST with curl. Return the status, the headers and the content of the answer."""
    found = shutil.which("curl")
    if found is None:
        pytest.skip("there is no curl: install it with `apt-get install curl`")
    command = [found, "-s", "-i", *options, "-H", f"Authorization: Bearer {bearer}"]
    run = subprocess.run(
        [*command, f"{node.url}/publish{path}"], check=True, timeout=60, capture_output=True
    )
    # Before a long body, curl asks for a "100 Continue".
    *_, head, body = run.stdout.decode().split("\r\n\r\n")
    first, *lines = head.split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    return int(first.split()[1]), headers, json.loads(body)


def test_curl_publishes_to_one_node_and_phoenix_js_on_the_other_hears_it(
    nodes: list[Server],
) -> None:
    with PhoenixJs(nodes[1].socket_url).connect() as client:
        assert client.join("news")[0] == "ok"
        wait_until(lambda: nodes_of(nodes[0]) == 2)
        status, _, content = curl(nodes[0], "/news/told", "-d", '{"n": 1}', bearer=token("curl"))
        assert (status, content) == (202, {"nodes": 2})
        assert client.expect("message", topic="news", event="told")["payload"] == {"n": 1}


def nodes_of(node: Server) -> int:
    """Return the number of nodes that a message reaches."""
    found = curl(node, "/nobody/told", "-d", "{}", bearer=token(secrets.token_hex(8)))[2]["nodes"]
    assert isinstance(found, int)
    return found


def test_curl_gets_each_refusal(nodes: list[Server], heard: Heard, tmp_path: Path) -> None:
    large = tmp_path / "large.json"
    large.write_text(json.dumps({"text": "x" * 100_000}))
    page = ("-H", "Origin: https://evil.example")
    own = token("refusals")
    once = ("-d", '{"n": 1}')
    assert curl(nodes[0], "/news/told", *once, bearer=token("another")[:-1])[0] == 401
    assert curl(nodes[0], "/news/told", *once, *page, bearer=own)[0] == 403
    body = ("--data-binary", f"@{large}")
    assert curl(nodes[0], "/news/told", *body, bearer=token("large"))[0] == 413
    found = curl(nodes[0], "/news/told", "-d", "[1]", bearer=token("list"))
    assert (found[0], found[2]["field"]) == (422, "payload")
    assert curl(nodes[0], "/news/told", *once, bearer=own)[0] == 202
    status, headers, _ = curl(nodes[0], "/news/told", *once, bearer=own)
    assert (status, headers["retry-after"]) == (429, "10")
    assert heard.next() == [["told", {"n": 1}]] * 2


def test_a_key_works_on_every_node(nodes: list[Server]) -> None:
    options = ("-d", '{"n": 1}', "-H", "Idempotency-Key: order-7")
    first, second = (curl(node, "/story:1/told", *options, bearer=token("key")) for node in nodes)
    assert first[0] == second[0] == 202
    assert first[2] == second[2]
    assert first[2]["positions"][0].endswith(":1")


def test_the_commands_of_the_page_publish(nodes: list[Server], heard: Heard) -> None:
    page = [one for one in SNIPPETS if one.place.startswith("docs/howto/publish-from-outside.md")]
    (block,) = [one.code for one in page if "$ curl" in one.code]
    (answer,) = [one.code for one in page if one.language == "json"]
    commands = [line.removeprefix("$ ") for line in block.splitlines()]
    assert len(commands) == 2
    for number, command in enumerate(commands):
        run = subprocess.run(
            ["bash", "-c", command.replace("http://127.0.0.1:4000", nodes[0].url)],
            check=True,
            timeout=60,
            capture_output=True,
            env={**os.environ, "PUBLISH_TOKEN": token(f"page {number}")},
        )
        assert run.stdout.decode() == answer.strip()
    assert heard.next() == [["announced", {"body": "hello"}]] * 2
    assert heard.next() == [["announced", {"body": "one"}]] * 2
    assert heard.next() == [["announced", {"body": "two"}]] * 2


MISTAKES: dict[str, tuple[Callable[[Publisher], None], type[Exception]]] = {
    "a list": (lambda publisher: publisher.publish("news", "told", [1]), EncodeError),
    "an object": (
        lambda publisher: publisher.publish("news", "told", {"a": object()}),
        EncodeError,
    ),
    "a reserved event": (lambda publisher: publisher.publish("news", "phx_x", {}), EncodeError),
    "too much": (
        lambda publisher: publisher.publish("news", "told", {"a": "x" * 2_000_000}),
        MessageTooLarge,
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_message_that_no_node_could_read_is_refused(server: Valkey, mistake: str) -> None:
    call, error = MISTAKES[mistake]
    with Publisher(server.url) as publisher, pytest.raises(error):
        call(publisher)


async def test_a_published_value_keeps_its_key(server: Valkey) -> None:
    adapter = RedisAdapter(server.url, node_name="c")
    endpoint = Endpoint(sockets={}, pubsub=PubSub(adapter))
    mailbox = Mailbox()
    async with open_runtime(log=False), AsyncPublisher(server.url) as publisher:
        await endpoint.start_link(port=0)
        await mailbox.start(partial(endpoint.pubsub.subscribe, "map"))
        await until(lambda: adapter.statistics()["connected"])
        place, key = {"x": 1}, "bus 7"
        await publisher.publish("map", "position", place, key=key)
        await publish_async(server.url, "map", "position", place, key=key)
        await trio.to_thread.run_sync(
            partial(publish, server.url, "map", "position", place, key=key)
        )
        await publisher.publish("map", "position", place)
        await until(lambda: len(mailbox.messages) == 4)
    value = Broadcast("map", "position", place, key)
    assert mailbox.messages == [value] * 3 + [Broadcast("map", "position", place)]


def test_raw_bytes_reach_the_nodes(server: Valkey, heard: Heard) -> None:
    publish(server.url, "news", "photo", Binary(b"\x00\n\xff"))
    for socket in heard.sockets:
        assert socket.recv(timeout=20) == b"\x02\x04\x05newsphoto\x00\n\xff"


def test_a_wrong_password_is_named_and_not_shown(tmp_path: Path) -> None:
    with valkey(tmp_path, {"requirepass": "right"}) as own:
        url = own.url.replace("redis://", "redis://:wrong@")
        with pytest.raises(PublishError, match="WRONGPASS") as caught:
            publish(url, "news", "told", {})
        assert "wrong@" not in str(caught.value)
        publish(own.url.replace("redis://", "redis://:right@"), "news", "told", {})


def test_an_invalid_url_is_refused_at_once() -> None:
    with pytest.raises(InvalidArgument):
        Publisher("localhost:6379")


@pytest.mark.parametrize("host", ["a..b", "a" * 70, "127.0.0.1:1"])
async def test_a_host_without_a_server_is_an_error_of_the_publisher(host: str) -> None:
    for scheme in ("redis", "rediss"):
        with pytest.raises(PublishError) as failed:
            publish(f"{scheme}://{host}", "news", "told", {}, timeout=math.inf)
        assert not failed.value.is_sent
        with pytest.raises(PublishError) as failed:
            await publish_async(f"{scheme}://{host}", "news", "told", {}, timeout=math.inf)
        assert not failed.value.is_sent


@pytest.mark.parametrize(
    "options",
    [
        {"timeout": 0},
        {"max_bytes": 1.5},
        {"name": 5},
        {"name": "x" * 256},
    ],
    ids=list,
)
def test_an_invalid_option_is_refused_at_once(options: dict[str, Any]) -> None:
    for kind in (Publisher, AsyncPublisher):
        with pytest.raises(InvalidOption) as refused:
            kind("redis://127.0.0.1", **options)
        assert refused.value.option == next(iter(options))


def ashtree(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command `ashtree`."""
    code = "from channels.cli.command import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

"""Two servers of a generated project behind a proxy of the documentation, and clients that load them.

Only ports, names and the paths of certificates differ from the documentation.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import random
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme
from attrs import Factory, define
from trio_websocket import WebSocketConnection

from tests.architecture.snippets import snippets_in
from tests.integration.phoenix_js import FOLDER as NODE
from tests.integration.servers import ROOT, free_port
from tests.patience import PATIENCE, wait_until
from tests.websockets import open_websocket

PAGE = "docs/howto/deploy.md"
ASHTREE = [sys.executable, "-c", "from channels.cli.command import main; main()"]
# The changes to the generated endpoint: long polling, an application, and a second node.
CHANGES = (
    ("import Draining, Endpoint, Socket", "import Draining, Endpoint, Mount, PubSub, Socket"),
    (
        "\nfrom chat.room_channel",
        (
            "\nimport os\nfrom channels.pubsub.redis.adapter import RedisAdapter\n"
            "from chat.pages import SeenSocket, pages\nfrom chat.room_channel"
        ),
    ),
    (
        '{"/socket": UserSocket}',
        '{"/socket": Mount(UserSocket, longpoll=True), "/seen": Mount(SeenSocket)}',
    ),
    (
        "    plugs=",
        (
            "    http=pages,\n"
            '    pubsub=PubSub(RedisAdapter(os.environ["REDIS_URL"], node_name=os.environ["ASHTREE_PORT"])),\n'
            '    trusted_proxies=["127.0.0.1"],\n'
            '    secret_key_base="a secret that all servers share, for the tests",\n'
            "    plugs="
        ),
    ),
)


def create_project(folder: Path) -> Path:
    """Create a project with `ashtree new`, and add what the tests need. Return its folder."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([*ASHTREE, "new", "chat"], cwd=folder, env=environment, check=True)
    project = folder / "chat"
    shutil.copy(NODE / "node_modules/phoenix/priv/static/phoenix.mjs", project / "chat/static")
    shutil.copy(ROOT / "tests/proxies/pages.py", project / "chat")
    endpoint = project / "chat/endpoint.py"
    text = endpoint.read_text()
    for old, new in CHANGES:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    endpoint.write_text(text)
    return project


class ProjectServer:
    """`ashtree serve` of the project at one port. It can be stopped and started again."""

    def __init__(self, project: Path, environment: Mapping[str, str]) -> None:
        self.port = free_port()
        self._project = project
        self._environment = {
            **os.environ,
            **environment,
            "PYTHONPATH": str(ROOT),
            "ASHTREE_PORT": str(self.port),
        }
        self._log = project.parent / f"{self.port}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def output(self) -> str:
        return self._log.read_text()

    def start(self) -> None:
        """Start the server. Return when its readiness check passes, as an operator would wait."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*ASHTREE, "serve", "chat.endpoint:endpoint"],
                cwd=self._project,
                env=self._environment,
                stdout=log,
                stderr=log,
            )
        wait_until(self._is_ready, self.output)

    def _is_ready(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request("GET", "/health/ready")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def stop(self) -> int:
        """Stop the server in order, and return its exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(PATIENCE)

    def restart(self) -> None:
        assert self.stop() == 0, self.output()
        self.start()

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


def documented(beginning: str) -> str:
    """Return the block of the page about proxies that begins so."""
    (block,) = [
        each.code
        for each in snippets_in(PAGE, (ROOT / PAGE).read_text())
        if each.code.startswith(beginning)
    ]
    return block


def replaced(text: str, *changes: tuple[str, str]) -> str:
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    return text


def program(name: str) -> str:
    """Return the path of a program. Without the program, skip the test."""
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed; install the package {name}")
    return found


@define(eq=False)
class Proxy:
    """A running proxy, and how clients reach it."""

    name: str
    port: int
    context: ssl.SSLContext
    servers: list[ProjectServer]

    def connect(self, *, source: str | None = None) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(
            "localhost",
            self.port,
            timeout=PATIENCE,
            context=self.context,
            source_address=None if source is None else (source, 0),
        )

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        source: str | None = None,
    ) -> tuple[int, bytes]:
        """Send one request on a new connection. Return the status and the body of the answer."""
        connection = self.connect(source=source)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    @contextlib.asynccontextmanager
    async def websocket(
        self, path: str = "/socket", **headers: str
    ) -> AsyncIterator[WebSocketConnection]:
        """Open a WebSocket. Errors come in exception groups."""
        host = f"localhost:{self.port}"
        below = await trio.open_tcp_stream("127.0.0.1", self.port)
        stream = trio.SSLStream(
            below, self.context, server_hostname="localhost", https_compatible=True
        )
        async with stream, trio.open_nursery() as nursery:
            client = await open_websocket(
                nursery,
                stream,
                host,
                f"{path}/websocket?vsn=2.0.0",
                timeout=PATIENCE,
                headers=[
                    (name.replace("_", "-").encode(), value.encode())
                    for name, value in headers.items()
                ],
            )
            yield client
            with trio.move_on_after(PATIENCE):
                await client.aclose()
            nursery.cancel_scope.cancel()


async def joined(client: WebSocketConnection, topic: str) -> Any:
    """Join a topic, and return the payload of the reply."""
    await client.send_message(json.dumps(["1", "1", topic, "phx_join", {}]))
    with trio.fail_after(PATIENCE):
        answer = json.loads(await client.get_message())
    assert answer[3] == "phx_reply", answer
    return answer[4]


@contextlib.contextmanager
def running(command: list[str], folder: Path, port: int, **environment: str) -> Iterator[None]:
    """Run a proxy until the end of the block."""
    log = folder / "proxy.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=folder, env={**os.environ, **environment}, stdout=output, stderr=output
        )

    def listens() -> bool:
        assert process.poll() is None, log.read_text()
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", port)) == 0

    try:
        wait_until(listens, log.read_text)
        yield
    finally:
        process.terminate()
        process.wait(PATIENCE)


@contextlib.contextmanager
def nginx(folder: Path, servers: list[ProjectServer]) -> Iterator[Proxy]:
    """Serve with nginx and the configuration of the documentation."""
    port, authority = free_port(), trustme.CA()
    certificate = authority.issue_cert("localhost")
    certificate.private_key_pem.write_to_path(str(folder / "chat.key"))
    for index, blob in enumerate(certificate.cert_chain_pems):
        blob.write_to_path(str(folder / "chat.pem"), append=index > 0)
    block = replaced(
        documented("upstream ashtree {"),
        ("127.0.0.1:4000", f"127.0.0.1:{servers[0].port}"),
        ("127.0.0.1:4001", f"127.0.0.1:{servers[1].port}"),
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("chat.example.org", "localhost"),
        ("/etc/ssl/chat", str(folder / "chat")),
    )
    folders = "".join(
        f"{kind}_temp_path {folder}/{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;\n" if os.getuid() == 0 else ""
    (folder / "nginx.conf").write_text(
        f"{user}daemon off;\npid {folder}/nginx.pid;\nerror_log {folder}/error.log;\n"
        f"events {{ worker_connections 1024; }}\n"
        f"http {{\naccess_log off;\n{folders}{block}\n}}\n"
    )
    command = [program("nginx"), "-e", f"{folder}/error.log", "-c", f"{folder}/nginx.conf"]
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with running(command, folder, port):
        yield Proxy("nginx", port, context, servers)


@contextlib.contextmanager
def caddy(folder: Path, servers: list[ProjectServer]) -> Iterator[Proxy]:
    """Serve with Caddy and the configuration of the documentation. Caddy issues the certificate itself."""
    port = free_port()
    block = replaced(
        documented("chat.example.org {"),
        ("127.0.0.1:4000", f"127.0.0.1:{servers[0].port}"),
        ("127.0.0.1:4001", f"127.0.0.1:{servers[1].port}"),
        ("chat.example.org", f"https://localhost:{port}"),
    )
    (folder / "Caddyfile").write_text(
        f"{{\nadmin off\nauto_https disable_redirects\nskip_install_trust\n}}\n{block}\n"
    )
    command = [program("caddy"), "run", "--config", "Caddyfile", "--adapter", "caddyfile"]
    root = folder / "data/caddy/pki/authorities/local/root.crt"
    places = {
        "HOME": str(folder),
        "XDG_DATA_HOME": f"{folder}/data",
        "XDG_CONFIG_HOME": f"{folder}/config",
    }
    with running(command, folder, port, **places):
        wait_until(root.exists)
        context = ssl.create_default_context(cafile=str(root))
        proxy = Proxy("Caddy", port, context, servers)

        def has_certificate() -> bool:
            try:
                return proxy.ask("GET", "/health/ready")[0] == 200
            except OSError:
                return False

        # Until the first health checks have passed, Caddy answers 503.
        wait_until(has_certificate, (folder / "proxy.log").read_text)
        yield proxy


PROXIES = {"nginx": nginx, "caddy": caddy}


# Load


@define(eq=False)
class Load:
    """Clients that send requests until they are stopped: POSTs on kept connections, and WebSockets.

    Attributes:
        posts: the number of answered POSTs.
        visits: the number of WebSockets that joined, got a reply and left.
        failures: a line for each request without its right answer.
    """

    proxy: Proxy
    seed: int = 0
    posts: int = 0
    visits: int = 0
    failures: list[str] = Factory(list)
    _stopped: threading.Event = Factory(threading.Event)
    _lock: threading.Lock = Factory(threading.Lock)

    @contextlib.contextmanager
    def running(self, posters: int = 6, visitors: int = 2) -> Iterator[Load]:
        """Load the servers during the block."""
        threads = [
            threading.Thread(target=self._post, args=(random.Random(self.seed + n),))
            for n in range(posters)
        ]
        threads += [threading.Thread(target=trio.run, args=(self._visit,)) for _ in range(visitors)]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._stopped.set()
            for thread in threads:
                thread.join(PATIENCE)

    def wait_for_more(self) -> None:
        """Wait until each kind of client has got further answers."""
        posts, visits = self.posts, self.visits
        wait_until(lambda: self.posts >= posts + 20 and self.visits >= visits + 4)

    def _note(self, failure: str | None, *, is_post: bool) -> None:
        with self._lock:
            if failure is not None:
                self.failures.append(f"{time.strftime('%X')} {failure}")
            elif is_post:
                self.posts += 1
            else:
                self.visits += 1

    def _post(self, chance: random.Random) -> None:
        connection = self.proxy.connect()
        while not self._stopped.is_set():
            body = chance.randbytes(chance.choice((10, 1_000, 40_000)))
            failure = None
            try:
                connection.request("POST", "/pages", body)
                answer = connection.getresponse()
                data = answer.read()
                if answer.status != 200:
                    failure = f"POST got {answer.status}"
                elif json.loads(data)["digest"] != hashlib.sha256(body).hexdigest():
                    failure = "POST got the answer to another body"
            except (OSError, http.client.HTTPException, ValueError) as error:
                failure = f"POST failed: {error!r}"
                connection.close()
            self._note(failure, is_post=True)
        connection.close()

    async def _visit(self) -> None:
        while not self._stopped.is_set():
            failure = None
            try:
                async with self.proxy.websocket() as client:
                    answer = await joined(client, "room:lobby")
                    if answer != {"status": "ok", "response": {}}:
                        failure = f"a join got {answer}"
            except Exception as error:
                # Broad, because each part of the client has its own errors, and each is a failure. A server that drains
                # closes a WebSocket with 1012, and phoenix.js would come back.
                if "1012" not in repr(error) and "1012" not in repr(
                    getattr(error, "exceptions", "")
                ):
                    failure = f"a WebSocket failed: {error!r}"
            self._note(failure, is_post=False)


@contextlib.contextmanager
def deployed(kind: str, folder: Path, redis_url: str) -> Iterator[Proxy]:
    """Two servers behind a proxy."""
    project = create_project(folder)
    (folder / "proxy").mkdir()
    with ExitStack() as stack:
        servers = [ProjectServer(project, {"REDIS_URL": redis_url}) for _ in range(2)]
        for server in servers:
            stack.callback(server.close)
            server.start()
        yield stack.enter_context(PROXIES[kind](folder / "proxy", servers))

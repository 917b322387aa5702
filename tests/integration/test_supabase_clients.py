"""Both clients of supabase, unmodified, at their default settings.

`make test` drives `@supabase/realtime-js`. `make test-clients` also drives `realtime` from PyPI, which needs older
libraries than Ashtree.
"""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from channels.supabase import sign_jwt
from tests.integration.phoenix_js import FOLDER, Driver, require_node
from tests.integration.servers import ROOT, Server, serving
from tests.integration.supabase_app import SECRET

PYPI = "realtime==2.34.1"
# Its libraries, in the newest versions with which it works.
LIBRARIES = (
    "annotated-types==0.8.0",
    "anyio==4.16.0",
    "certifi==2026.10.19.post1",
    "h11==0.16.0",
    "h2==4.4.1",
    "hpack==4.2.0",
    "httpcore==1.0.9",
    "httpx==0.28.1",
    "hyperframe==6.1.0",
    "idna==3.20",
    "pydantic==2.14.4",
    "pydantic-core==2.50.5",
    "typing-extensions==4.16.0",
    "typing-inspection==0.4.5",
    "websockets==15.0.1",
)
CLIENTS = ["realtime-js", *(["realtime-py"] if os.environ.get("ASHTREE_CLIENTS") else [])]


def install() -> Path:
    """Install the client of PyPI into a folder of its own, once, and return the folder."""
    folder = ROOT / ".venv-clients" / PYPI.replace("==", "-")
    if not folder.exists():
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
        partial = folder.with_name(f"{folder.name}.partial")
        packages = [PYPI, *LIBRARIES]
        subprocess.run([*pip, "install", "--no-deps", "--target", partial, *packages], check=True)
        partial.rename(folder)
    return folder


def token(role: str = "authenticated", *, seconds: float = 3600.0) -> str:
    return sign_jwt(SECRET, {"role": role, "sub": "ann", "exp": time.time() + seconds})


class Supabase(Driver):
    """One client of either kind."""

    def __init__(self, kind: str, server: Server) -> None:
        self.is_js = kind == "realtime-js"
        url = f"{server.url}/realtime/v1"
        if self.is_js:
            super().__init__([require_node(), "supabase.mjs", url, token("anon")])
        else:
            program = str(FOLDER.parent / "supabase_py.py")
            environment = {**os.environ, "PYTHONPATH": str(install())}
            super().__init__([sys.executable, "-S", program, url, token("anon")], environment)

    def join(self, topic: str = "lobby", *, presence: bool = False, **config: Any) -> None:
        self.tell("subscribe", topic=topic, config=config, presence=presence)
        self.status("SUBSCRIBED", topic)

    def status(self, status: str, topic: str = "lobby") -> Any:
        return self.expect("status", topic=topic, status=status)["error"]

    def send(self, event: str, payload: Any, topic: str = "lobby", **more: Any) -> str:
        self.tell("send", topic=topic, event=event, payload=payload, **more)
        return str(self.expect("sent", event=event)["result"])

    def hears(self, event: str, payload: Any, topic: str = "lobby") -> dict[str, Any]:
        return self.expect("broadcast", topic=topic, event=event, payload=payload)

    def authorize(self, token: str) -> None:
        self.tell("set auth", token=token)
        self.expect("set auth")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("supabase")
    with serving("tests.integration.supabase_app", folder) as server:
        yield server


@pytest.fixture(params=CLIENTS)
def clients(request: pytest.FixtureRequest, server: Server) -> Iterator[tuple[Supabase, Supabase]]:
    """The client under test, and a JavaScript client that hears and speaks with it."""
    with Supabase(request.param, server) as client, Supabase("realtime-js", server) as other:
        yield client, other
        for each in (client, other):
            assert each.seen("close", code=1011) == []


def test_broadcasts_presences_tokens_and_http(clients: tuple[Supabase, Supabase]) -> None:
    client, other = clients
    client.join(presence=True, broadcast={"ack": True, "self": True})
    other.join(presence=True, broadcast={"ack": False, "self": False})

    # Broadcasts with and without ack and self.
    assert client.send("cursor", {"x": 1}) == "ok"
    client.hears("cursor", {"x": 1})
    other.hears("cursor", {"x": 1})
    assert other.send("cursor", {"x": 2}) == "ok"
    client.hears("cursor", {"x": 2})

    # Raw bytes: version 2.0.0 gets them, and version 1.0.0 is skipped.
    data = base64.b64encode(bytes(range(256))).decode()
    other.tell("send", topic="lobby", event="photo", base64=data)
    if client.is_js:
        client.expect("broadcast", event="photo", base64=data)
        client.tell("send", topic="lobby", event="photo", base64=data)
        other.expect("broadcast", event="photo", base64=data)

    # Presences.
    client.tell("track", topic="lobby", payload={"at": "desk"})
    assert client.expect("tracked")["result"] == "ok"
    other.expect("sync", topic="lobby", keys=[])
    assert len(other.expect("sync", topic="lobby")["keys"]) == 1
    client.tell("untrack", topic="lobby")
    client.expect("tracked")
    other.expect("sync", topic="lobby", keys=[])

    # HTTP, for a public and a private topic.
    client.tell("http", topic="elsewhere", event="a", payload={"x": 3})
    assert client.expect("http")["result"] == "ok"
    client.tell("http", topic="secret", event="a", payload={}, private=True)
    assert client.expect("http")["result"] == "Unauthorized"
    other.tell("http", topic="lobby", event="news", payload={"x": 4})
    client.hears("news", {"x": 4})


def test_private_channels_replay_and_tokens(clients: tuple[Supabase, Supabase]) -> None:
    client, other = clients
    topic = f"private {time.monotonic()}"
    other.authorize(token())
    acked = {"ack": True, "self": False}
    other.join(topic, private=True, broadcast=acked)
    assert other.send("chat", {"n": 1}, topic, persist=True) == "ok"

    # Without a token of a user, the join is refused. With one, the client joins at its next attempt.
    replay = {"ack": False, "self": False, "replay": {"since": 0, "limit": 25}}
    client.tell("subscribe", topic=topic, config={"private": True, "broadcast": replay})
    assert "You do not have permissions to read" in client.status("CHANNEL_ERROR", topic)
    client.authorize(token())
    client.status("SUBSCRIBED", topic)
    assert client.hears("chat", {"n": 1}, topic)["replayed"] is True
    assert other.send("chat", {"n": 2}, topic, persist=True) == "ok"
    assert client.hears("chat", {"n": 2}, topic)["replayed"] is False

    # A new token renews the channel.
    expires = time.monotonic() + 4
    client.authorize(token(seconds=4))
    client.authorize(token())
    time.sleep(max(0.0, expires + 0.2 - time.monotonic()))
    client.send("still here", {}, topic)
    other.hears("still here", {}, topic)

    # Without a new token, the channel closes when its token expires.
    client.authorize(token(seconds=1))
    client.status("CLOSED", topic)
    if client.is_js:
        told = client.expect("system", topic=topic, status="error")["message"]
        assert told == "Token has expired 0 seconds ago"


def test_a_crash_and_a_restart_of_the_server(
    clients: tuple[Supabase, Supabase], server: Server
) -> None:
    client, other = clients
    for each in clients:
        changes = {"event": "*", "schema": "public", "table": "crashes"}
        config = {"broadcast": {"ack": False, "self": False}}
        each.tell("subscribe", topic="lobby", config=config, changes=changes)
        each.status("SUBSCRIBED")

    # The channel of one client crashes, after which it joins again. The other gets a change of a table.
    for one, another in ((other, client), (client, other)):
        one.tell("crash", topic="lobby")
        assert another.expect("change")["row"] == {"id": 7, "text": "a channel crashes"}
        one.status("CHANNEL_ERROR")
        one.status("SUBSCRIBED")
    assert other.send("after the crash", {}) == "ok"
    client.hears("after the crash", {})

    # A restart of the server.
    server.stop()
    server.start()
    for each in clients:
        each.status("CHANNEL_ERROR")
        each.status("SUBSCRIBED")
    assert [each.expect("close")["code"] for each in clients] == [1012, 1012]
    other.send("after the restart", {})
    client.hears("after the restart", {})

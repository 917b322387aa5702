"""The development page over HTTP: its files, and the requests that it does not answer."""

from __future__ import annotations

import importlib
import linecache
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from actors import Runtime
from actors.places import place_of
from channels import Channel, Endpoint, handle_in
from channels.development.page import is_local
from channels.observer import Observer
from channels.telemetry import CHANNEL_CRASHED
from tests.channels.conftest import Serve
from tests.channels.http.test_static import Answer, never, teapot
from tests.channels.rooms import UserSocket
from tests.channels.support import head

LOCAL = {"host": "localhost:4000"}


async def ask(
    endpoint: Any,
    path: str,
    method: str = "GET",
    *,
    client: str | None = "127.0.0.1",
    headers: dict[str, str] | None = None,
) -> Answer:
    answer = Answer()
    given = LOCAL if headers is None else headers
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "client": None if client is None else (client, 50_000),
        "headers": [(name.encode(), value.encode()) for name, value in given.items()],
    }
    await endpoint(scope, never, answer.send)
    return answer


async def test_the_root_of_an_endpoint_without_pages_redirects_to_the_development_page() -> None:
    endpoint = Endpoint(sockets={"/socket": UserSocket}, development=True)
    async with endpoint.running():
        for path in ("/", "/_ashtree"):
            answer = await ask(endpoint, path)
            assert (answer.status, answer.headers["location"]) == (307, "./_ashtree/")
        page = await ask(endpoint, "/_ashtree/")
        assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
        for name in ("page.css", "page.js", "client.js"):
            assert name.encode() in page.body + (await ask(endpoint, "/_ashtree/page.js")).body
            assert (await ask(endpoint, f"/_ashtree/{name}")).status == 200
        assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
        assert page.headers["cache-control"] == "no-store"
        assert (await ask(endpoint, "/_ashtree/", "HEAD")).body == b""
        assert (await ask(endpoint, "/_ashtree/", "POST")).status == 405
        assert (await ask(endpoint, "/_ashtree/other")).body == b"not found"
        assert (await ask(endpoint, "/other")).body == b"not found"


async def test_the_page_does_not_replace_the_pages_of_an_endpoint() -> None:
    endpoint = Endpoint(sockets={}, http=teapot, development=True)
    async with endpoint.running():
        assert (await ask(endpoint, "/")).status == 418
        assert (await ask(endpoint, "/_ashtree/")).status == 200


async def test_the_page_describes_the_endpoint_and_shows_why_it_was_not_reloaded() -> None:
    endpoint = Endpoint(sockets={"/socket": UserSocket}, development=True)
    async with endpoint.running():
        told = msgspec.json.decode((await ask(endpoint, "/_ashtree/endpoint.json")).body)
        assert [socket["path"] for socket in told["sockets"]] == ["/socket"]
        status = msgspec.json.decode((await ask(endpoint, "/_ashtree/status.json")).body)
        assert status["problem"] is None
        endpoint.load_problem = "SyntaxError"
        status = msgspec.json.decode((await ask(endpoint, "/_ashtree/status.json")).body)
        assert status["problem"] == "SyntaxError"


class Crashing(Channel):
    async def join(self, topic: str, payload: Any) -> None:
        if "boom" in payload:
            # The last character is a lone surrogate, which JSON cannot express.
            lone = "\ud800" if "times" in payload else ""
            raise ValueError(payload["boom"] * payload.get("times", 1) + lone)

    @handle_in("boom")
    async def boom(self, payload: Any) -> None:
        raise KeyError(payload["text"])


class CrashingSocket(UserSocket):
    channels = {"room:*": Crashing}

    async def connect(self, params: Any, connect_info: Any) -> None:
        await super().connect(params, connect_info)
        if "boom" in params:
            raise LookupError("no such user")


async def crashes_of(endpoint: Endpoint, **options: Any) -> Answer:
    return await ask(endpoint, "/_ashtree/crashes.json", **options)


async def test_the_page_has_the_tracebacks_of_crashes(serve: Serve) -> None:
    server = await serve(Endpoint(sockets={"/socket": CrashingSocket}, development=True))
    client = await server.connect()
    await client.exchange(("1", "1", "room:a", "phx_join", {}))
    await client.exchange(("1", "2", "room:a", "boom", {"text": "<script>"}))
    await client.exchange(("2", "3", "room:b", "phx_join", {"boom": "at the join"}))
    other = await server.accept()
    other.write(head("/socket/websocket?vsn=2.0.0&boom=1"))
    await trio.sleep(5)
    connect, join, handler = msgspec.json.decode((await crashes_of(server.endpoint)).body)
    assert [each["number"] for each in (handler, join, connect)] == [1, 2, 3]
    assert (handler["owner"], handler["topic"]) == ("Crashing", "room:a")
    assert handler["summary"] == "KeyError: '<script>'"
    assert f'File "{__file__}", line ' in handler["text"]
    assert "in boom" in handler["text"]
    assert "channels/connection" not in handler["text"]
    assert handler["age"] == 5
    assert (join["topic"], join["summary"]) == ("room:b", "ValueError: at the join")
    assert (connect["owner"], connect["topic"]) == ("CrashingSocket", None)
    status = msgspec.json.decode((await ask(server.endpoint, "/_ashtree/status.json")).body)
    assert status["crashes"] == 3


async def test_the_list_of_crashes_is_bounded(serve: Serve) -> None:
    server = await serve(Endpoint(sockets={"/socket": CrashingSocket}, development=True))
    client = await server.connect()
    for number in range(30):
        payload = {"boom": "a", "times": 50_000}
        await client.exchange((str(number), "1", "room:" + "x" * 20_000, "phx_join", payload))
    answer = await crashes_of(server.endpoint)
    kept = msgspec.json.decode(answer.body)
    assert [each["number"] for each in kept] == list(range(30, 10, -1))
    assert len(answer.body) < 20 * 25_000
    assert max(len(each["summary"]) for each in kept) < 220


@pytest.mark.parametrize("options", [{"client": "192.0.2.1"}, {"headers": {"host": "evil.test"}}])
async def test_crashes_are_only_for_browsers_on_this_machine(options: dict[str, Any]) -> None:
    endpoint = Endpoint(sockets={}, http=teapot, development=True)
    async with endpoint.running():
        assert (await crashes_of(endpoint)).status == 200
        assert (await crashes_of(endpoint, **options)).status == 418


async def test_a_server_in_production_records_no_crashes(runtime: Runtime) -> None:
    endpoint = Endpoint(sockets={"/socket": CrashingSocket})
    await endpoint.start_link(port=None)
    assert runtime.telemetry.handlers(CHANNEL_CRASHED) == ()
    assert (await crashes_of(endpoint)).status == 404


async def test_the_page_links_to_the_observer(tmp_path: Any) -> None:
    phoenix_js = tmp_path / "phoenix.mjs"
    phoenix_js.write_text("")
    observer = Observer(phoenix_js=phoenix_js, announce=lambda _: None)
    endpoint = Endpoint(sockets={}, observer=observer, development=True)
    async with endpoint.running():
        told = msgspec.json.decode((await ask(endpoint, "/_ashtree/endpoint.json")).body)
        assert told["observer"] == "/_ashtree/observer"
        assert (await ask(endpoint, "/_ashtree/observer")).status == 403


async def test_the_page_links_to_an_observer_on_the_internal_port(
    runtime: Runtime, tmp_path: Any
) -> None:
    phoenix_js = tmp_path / "phoenix.mjs"
    phoenix_js.write_text("")
    observer = Observer(phoenix_js=phoenix_js, announce=lambda _: None)
    endpoint = Endpoint(sockets={}, observer=observer, development=True)
    await endpoint.start_link(port=None, internal_port=0)
    told = msgspec.json.decode((await ask(endpoint, "/_ashtree/endpoint.json")).body)
    assert endpoint.internal_address is not None
    port = endpoint.internal_address[1]
    assert told["observer"] == f"http://127.0.0.1:{port}/_ashtree/observer"
    assert (await ask(endpoint, "/_ashtree/observer")).status == 404


@pytest.mark.parametrize(
    ("environment", "option", "status"),
    [
        (None, None, 404),
        ("production", None, 404),
        ("development", None, 307),
        ("development", False, 404),
        (None, True, 307),
    ],
)
async def test_the_page_exists_only_in_development(
    monkeypatch: pytest.MonkeyPatch, environment: str | None, option: bool | None, status: int
) -> None:
    monkeypatch.delenv("ASHTREE_ENV", raising=False)
    if environment is not None:
        monkeypatch.setenv("ASHTREE_ENV", environment)
    endpoint = Endpoint(sockets={}, development=option)
    async with endpoint.running():
        assert (await ask(endpoint, "/")).status == status
        assert (await ask(endpoint, "/_ashtree/")).status == (404 if status == 404 else 200)


REFUSED: dict[str, dict[str, Any]] = {
    "another machine": {"client": "192.0.2.7"},
    "a client without an address": {"client": None},
    "a Unix socket": {"client": "unix"},
    "a host name that leads here": {"headers": {"host": "evil.example:4000"}},
    "no host": {"headers": {}},
    "a broken host": {"headers": {"host": "[::1"}},
    "a page of another site": {"headers": {**LOCAL, "origin": "https://evil.example"}},
    "a page of another port": {"headers": {**LOCAL, "origin": "http://localhost:5000"}},
    "a page without an origin": {"headers": {**LOCAL, "origin": "null"}},
    "a proxy": {"headers": {**LOCAL, "x-forwarded-for": "192.0.2.7"}},
    "a proxy that tells the scheme alone": {"headers": {**LOCAL, "x-forwarded-proto": "https"}},
    "a proxy with the standard header": {"headers": {**LOCAL, "forwarded": "for=192.0.2.7"}},
}


@pytest.mark.parametrize("request_", REFUSED.values(), ids=list(REFUSED))
async def test_only_a_browser_of_this_machine_sees_the_page(request_: dict[str, Any]) -> None:
    endpoint = Endpoint(sockets={}, development=True)
    async with endpoint.running():
        for path in ("/", "/_ashtree", "/_ashtree/", "/_ashtree/status.json"):
            answer = await ask(endpoint, path, **request_)
            assert (answer.status, answer.body) == (404, b"not found")


@pytest.mark.parametrize(
    ("client", "headers"),
    [
        ("127.0.0.1", {"host": "127.0.0.1:4000"}),
        ("127.0.0.9", {"host": "LOCALHOST"}),
        ("::1", {"host": "[::1]:4000"}),
        ("::ffff:127.0.0.1", {"host": "localhost:4000", "origin": "http://localhost:4000"}),
    ],
)
async def test_the_addresses_of_this_machine_are_local(
    client: str, headers: dict[str, str]
) -> None:
    await trio.lowlevel.checkpoint()
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    assert is_local({"client": (client, 1), "headers": pairs})


def test_the_place_of_a_class_whose_file_python_cannot_parse_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "edited_room.py"
    file.write_text("class RoomChannel:\n    pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    module = importlib.import_module("edited_room")
    file.write_text("class RoomChannel(:\n")
    linecache.checkcache()
    assert place_of(module.RoomChannel) in (None, f"{file}:1")

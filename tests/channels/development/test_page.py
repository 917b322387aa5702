"""The development page over HTTP: its files, and the requests that it does not answer."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import trio

from channels import Endpoint
from channels.development.page import is_local
from channels.observer import Observer
from tests.channels.http.test_static import Answer, never, teapot
from tests.channels.rooms import UserSocket

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


async def test_the_page_links_to_the_observer(tmp_path: Any) -> None:
    phoenix_js = tmp_path / "phoenix.mjs"
    phoenix_js.write_text("")
    observer = Observer(phoenix_js=phoenix_js, announce=lambda _: None)
    endpoint = Endpoint(sockets={}, observer=observer, development=True)
    async with endpoint.running():
        told = msgspec.json.decode((await ask(endpoint, "/_ashtree/endpoint.json")).body)
        assert told["observer"] == "/_ashtree/observer"
        assert (await ask(endpoint, "/_ashtree/observer")).status == 403


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

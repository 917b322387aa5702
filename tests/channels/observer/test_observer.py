"""The options of an observer, and who is admitted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from actors import InvalidOption
from channels import Endpoint, Socket
from channels.observer import Observer, PhoenixMissing
from channels.observer.access import Access, cookie_name
from channels.observer.memory import MAX_CRASHES, MAX_EVENTS, Memory


@pytest.mark.parametrize(
    "options",
    [
        {"path": "observer"},
        {"path": "/observer/"},
        {"token": "short"},
        {"token": "long-enough", "check": lambda headers: True},
        {"check": "yes"},
        {"interval": 0},
        {"max_pages": 0},
    ],
)
def test_a_wrong_option_stops_the_endpoint_before_it_starts(
    options: dict[str, Any], phoenix_js: Path
) -> None:
    endpoint = Endpoint(sockets={}, observer=Observer(phoenix_js=phoenix_js, **options))
    with pytest.raises(InvalidOption):
        endpoint.check()


def test_a_token_is_not_in_the_error_about_it(phoenix_js: Path) -> None:
    with pytest.raises(InvalidOption) as caught:
        Observer(phoenix_js=phoenix_js, token="tiny").check_options()
    assert "tiny" not in str(caught.value)


def test_missing_phoenix_js_names_the_command_that_installs_it(tmp_path: Path) -> None:
    endpoint = Endpoint(sockets={}, observer=Observer(phoenix_js=tmp_path / "phoenix.mjs"))
    with pytest.raises(PhoenixMissing, match="npm install"):
        endpoint.check()


def test_something_else_than_an_observer_is_refused() -> None:
    with pytest.raises(InvalidOption):
        Endpoint(sockets={}, observer=Observer).check()  # type: ignore[arg-type]


def test_the_socket_of_the_page_is_mounted_only_with_an_observer(phoenix_js: Path) -> None:
    class Empty(Socket):
        pass

    def paths(observer: Observer | None) -> list[str]:
        endpoint = Endpoint(sockets={"/socket": Empty}, observer=observer)
        return list(endpoint._checked_mounts())

    assert paths(None) == ["/socket"]
    assert paths(Observer(phoenix_js=phoenix_js)) == ["/socket", "/_ashtree/observer/socket"]


async def test_only_the_cookie_with_the_token_is_admitted() -> None:
    access = Access("the-token", None)
    name = cookie_name("the-token")
    assert await access.admits({"cookie": f"a=b; {name}=the-token"})
    for cookie in ("", f"{name}=", f"{name}=other", name, "ashtree_observer=the-token"):
        assert not await access.admits({"cookie": cookie})
    assert not await access.admits({})


@pytest.mark.parametrize("other", ['settings={"a":1}', "flag", "foo[bar]=1", "a b=c", "=x", "ž=1"])
async def test_the_cookie_is_found_behind_cookies_of_any_form(other: str) -> None:
    access = Access("the-token", None)
    cookie = f"{cookie_name('the-token')}=the-token"
    assert await access.admits({"cookie": f"{other}; {cookie}"})
    assert await access.admits({"cookie": f"{cookie}; {other}"})


async def test_only_true_of_a_check_admits(caplog: pytest.LogCaptureFixture) -> None:
    async def asynchronous(headers: Any) -> bool:
        return bool(headers["x-user"] == "admin")

    access = Access(None, asynchronous)
    assert await access.admits({"x-user": "admin"})
    assert not await access.admits({"x-user": "ann"})
    assert not await access.admits({})
    assert "refused the request" in caplog.text
    for answer in (None, 1, "yes", [True]):
        assert not await Access(None, lambda headers, answer=answer: answer).admits({})  # type: ignore[misc]
    assert not access.takes_token("")


def test_a_generated_token_is_derived_from_the_secret_of_the_endpoint() -> None:
    one, other = Access(None, None), Access(None, None)
    assert one.token != other.token
    assert not one.takes_ticket(other.ticket())
    for access in (one, other):
        access.derive_from(b"s" * 64)
    assert one.token == other.token
    assert one.takes_ticket(other.ticket())
    assert not one.takes_ticket("")
    assert not one.takes_ticket(None)


def test_the_address_is_printed_once_and_never_with_a_chosen_token(phoenix_js: Path) -> None:
    printed: list[str] = []
    generated = Observer(phoenix_js=phoenix_js, announce=printed.append)
    generated.announce(("0.0.0.0", 4000), tls=True)
    generated.announce(("0.0.0.0", 4000), tls=True)
    Observer(token="chosen-token", announce=printed.append).announce(None, tls=False)
    Observer(check=lambda headers: True, announce=printed.append).announce(("::", 1), tls=False)
    token = generated.access.token
    assert printed == [
        f"The observer page is at https://127.0.0.1:4000/_ashtree/observer?token={token}",
        "The observer page is at /_ashtree/observer?token=... (with your token)",
        "The observer page is at http://127.0.0.1:1/_ashtree/observer",
    ]


def test_the_memory_is_bounded() -> None:
    memory = Memory()
    for number in range(2 * MAX_EVENTS):
        memory.add_crash(number, memory.add(1.0, "started", first=True))
    assert len(memory.events) == MAX_EVENTS
    assert len(memory.crashes) == MAX_CRASHES
    assert [event["n"] for event in memory.since(2 * MAX_EVENTS - 2)] == [
        2 * MAX_EVENTS - 1,
        2 * MAX_EVENTS,
    ]

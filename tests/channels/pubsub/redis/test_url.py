"""URLs of Redis and Valkey: every part is read, and no message shows a password."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors import InvalidArgument
from channels.pubsub.redis.url import RedisUrl


def test_a_url_has_user_password_host_port_database_and_prefix() -> None:
    url = RedisUrl.parse("redis://me:s%40cret@db.example:7000/3?prefix=shop")
    assert (url.username, url.password) == ("me", "s@cret")
    assert (url.host, url.port, url.database, url.prefix) == ("db.example", 7000, 3, "shop")
    assert not url.tls
    assert url.path is None


@pytest.mark.parametrize("text", ["redis://db", "valkey://db", "redis://db/", "redis://db:6379/0"])
def test_what_a_url_leaves_out_has_a_default(text: str) -> None:
    assert RedisUrl.parse(text) == RedisUrl(host="db", port=6379, prefix="ashtree")


@pytest.mark.parametrize("scheme", ["rediss", "valkeys"])
def test_a_second_s_in_the_scheme_asks_for_tls(scheme: str) -> None:
    assert RedisUrl.parse(f"{scheme}://db").tls


def test_a_user_may_have_no_password_and_a_password_no_user() -> None:
    assert RedisUrl.parse("redis://:pw@db").username is None
    assert RedisUrl.parse("redis://:pw@db").password == "pw"
    assert RedisUrl.parse("redis://me@db").password is None


def test_a_unix_socket_has_a_path_and_its_database_is_an_option() -> None:
    url = RedisUrl.parse("unix://me:pw@/run/a%20b.sock?db=2&prefix=p")
    assert (url.path, url.database, url.prefix) == ("/run/a b.sock", 2, "p")
    assert (url.username, url.password, url.host, url.port) == ("me", "pw", "", 0)
    assert RedisUrl.parse("unix:///run/v.sock") == RedisUrl(path="/run/v.sock")


def test_an_ipv6_address_stands_in_brackets() -> None:
    url = RedisUrl.parse("redis://[::1]:7000")
    assert (url.host, url.port) == ("::1", 7000)
    assert str(url) == "redis://[::1]:7000/0"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://me:secret@db/1?prefix=p", "redis://***@db:6379/1?prefix=p"),
        ("valkeys://db", "rediss://db:6379/0"),
        ("unix://:secret@/run/v.sock?db=1", "unix://***@/run/v.sock?db=1"),
        ("unix:///run/v.sock", "unix:///run/v.sock"),
    ],
)
def test_the_text_of_a_url_has_no_password(text: str, shown: str) -> None:
    url = RedisUrl.parse(text)
    assert str(url) == shown
    assert "secret" not in repr(url)


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("db:6379", "scheme"),
        ("http://db", "scheme"),
        ("redis://", "host"),
        ("redis://d b", "space"),
        ("redis://db:70000", "port"),
        ("redis://db:0", "port"),
        ("redis://db:x", "port"),
        ("redis://[::1", "host"),
        ("redis://db/x", "database"),
        ("redis://db/-1", "database"),
        ("redis://db#1", "%23"),
        ("redis://db?prefix=", "prefix"),
        ("redis://db?prefix=a*", "prefix"),
        ("redis://db?password=x", "before the host"),
        ("redis://db?color=2", "db and prefix"),
        ("unix://host/run/v.sock", "unix:///"),
        ("unix://", "unix:///"),
        (b"redis://db", "bytes"),
        (None, "NoneType"),
    ],
)
def test_a_url_of_another_form_is_refused_with_advice(text: str, advice: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        RedisUrl.parse(text)
    assert advice in caught.value.problem
    assert caught.value.problem in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "redis://me:hunter2hunter2@db:x",
        "redis://:hunter2/hunter2@db:6379/0",
        "redis://:hunter2#hunter2@db",
        "redis://:hunter2?hunter2@db",
        "redis://:1?hunter2@db",
        "redis://db?prefix=hunter2@db",
        "redis://:hunter2@hunter2@db/x",
        "redis://:hunter2",
        "redis://me:hunter2",
        "redis://me:hunter2/0",
        "redis://db?password=hunter2",
        "redis://db?auth=hunter2",
        "redis:hunter2@db",
        "hunter2://db",
        "hunter2",
        "redis://me:hunter2@",
        "redis://:[hunter2@db",
        "unix://me:hunter2@host/path",
    ],
)
def test_a_refusal_never_shows_a_password(text: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        RedisUrl.parse(text)
    error: BaseException | None = caught.value
    while error is not None and not error.__suppress_context__:
        assert "hunter2" not in str(error)
        error = error.__context__
    assert "hunter2" not in f"{caught.value} {caught.value!r} {vars(caught.value)}"


@given(
    user=st.text(min_size=1, max_size=8),
    password=st.text(min_size=1, max_size=8),
    database=st.integers(0, 99),
)
def test_quoted_users_and_passwords_come_back(user: str, password: str, database: int) -> None:
    user = user.encode("utf-8", "ignore").decode() or "u"
    password = password.encode("utf-8", "ignore").decode() or "p"
    secret = f"{quote(user, safe='')}:{quote(password, safe='')}"
    url = RedisUrl.parse(f"redis://{secret}@db/{database}")
    assert (url.username, url.password, url.database) == (user, password, database)

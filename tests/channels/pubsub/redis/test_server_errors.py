"""Errors of a server: their parts, their advice, and no arguments of commands in them."""

from __future__ import annotations

import pytest

from channels.pubsub.redis.server_errors import ServerError


@pytest.mark.parametrize(
    ("line", "code", "text"),
    [
        ("WRONGPASS invalid username-password pair", "WRONGPASS", "invalid username-password pair"),
        ("ERR max number of clients reached", "ERR", "max number of clients reached"),
        ("NOAUTH", "NOAUTH", ""),
        ("no code at all", "ERR", "no code at all"),
        ("", "ERR", ""),
        ("Ordinary text", "ERR", "Ordinary text"),
    ],
)
def test_an_error_line_has_a_code_and_a_text(line: str, code: str, text: str) -> None:
    assert ServerError.parse(line) == ServerError(code, text)


@pytest.mark.parametrize(
    ("line", "advice"),
    [
        ("NOAUTH HELLO must be called with the client already authenticated", "into the URL"),
        ("WRONGPASS invalid username-password pair or user is disabled.", "correct the URL"),
        ("NOPERM User a has no permissions to run the 'publish' command", "+publish"),
        ("OOM command not allowed when used memory > 'maxmemory'.", "maxmemory"),
        ("MISCONF Valkey is configured to save RDB snapshots", "disk"),
        ("LOADING Valkey is loading the dataset in memory", "nothing to do"),
        ("READONLY You can't write against a read only replica.", "primary"),
        ("DENIED Redis is running in protected mode", "set a password"),
        ("ERR max number of clients reached", "maxclients"),
        ("ERR unknown command 'HELLO'", "Redis 6 or Valkey 7"),
        ("NOPROTO unsupported protocol version", "Redis 6 or Valkey 7"),
        ("ERR DB index is out of range", "lower number"),
    ],
)
def test_a_known_error_says_what_to_do(line: str, advice: str) -> None:
    error = ServerError.parse(line)
    assert advice in error.advice
    assert advice in str(error)


def test_an_unknown_error_has_no_advice() -> None:
    assert str(ServerError.parse("ERR something else")) == "ERR something else"


@pytest.mark.parametrize(
    "line",
    [
        "ERR unknown command `HELLO`, with args beginning with: `3`, `AUTH`, `me`, `hunter2`, ",
        "ERR unknown command 'HELLO', with args beginning with: '3' 'AUTH' 'me' 'hunter2' ",
    ],
)
def test_an_old_server_that_repeats_the_password_does_not_get_it_into_the_error(line: str) -> None:
    error = ServerError.parse(line)
    assert "hunter2" not in str(error)
    assert "too old" in str(error)


def test_a_long_error_is_cut() -> None:
    assert len(ServerError.parse(f"ERR {'x' * 10_000}").text) == 300

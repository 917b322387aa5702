"""The one check of numbers."""

from __future__ import annotations

import math
from typing import Any

import pytest
import trio

from actors import InvalidOption, kill, open_runtime, send, spawn, wait_exit
from actors.arguments import check_choice, check_number, check_seconds, check_whole, is_number
from tests.actors.helpers import idle


@pytest.mark.parametrize("value", [True, "1", None, math.nan, [1]])
def test_a_value_of_another_type_is_no_number(value: Any) -> None:
    assert not is_number(value)


@pytest.mark.parametrize(
    ("value", "bounds", "accepted"),
    [
        (0, {"least": 0}, True),
        (0, {"above": 0}, False),
        (-math.inf, {}, True),
        (math.inf, {"least": 0}, True),
        (math.inf, {"finite": True}, False),
        (10**400, {"finite": True}, False),
        (1.5, {"most": 1}, False),
        (2.0, {"whole": True}, False),
        (2, {"whole": True}, True),
    ],
)
def test_a_number_is_in_its_range(value: Any, bounds: Any, accepted: bool) -> None:
    assert is_number(value, **bounds) is accepted


def test_the_error_names_owner_option_value_and_correction() -> None:
    with pytest.raises(InvalidOption) as caught:
        check_number("open_socket", "timeout", -1, "seconds from 0", least=0)
    assert str(caught.value) == "open_socket got timeout=-1; write seconds from 0"
    assert (caught.value.option, caught.value.value) == ("timeout", -1)
    assert isinstance(caught.value, ValueError)


def test_the_password_of_a_url_is_not_shown() -> None:
    error = InvalidOption("Redis", "url", "redis://:hunter2@db", "a URL")
    assert "hunter2" not in f"{error} {error!r}"


def test_a_choice_lists_the_texts() -> None:
    check_choice("a task", "on_timeout", "exit", ("exit", "kill_task"))
    with pytest.raises(InvalidOption, match='write "exit" or "kill_task"'):
        check_choice("a task", "on_timeout", "stop", ("exit", "kill_task"))


def test_seconds_may_be_infinite_and_a_count_may_not() -> None:
    check_seconds("a", "b", math.inf)
    for wrong in (math.inf, 0, 1.0):
        with pytest.raises(InvalidOption):
            check_whole("a", "b", wrong)
    for wrong in (-1, math.nan, 10**400):
        with pytest.raises(InvalidOption):
            check_seconds("a", "b", wrong)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("kill_grace", -1),
        ("kill_grace", math.nan),
        ("kill_grace", None),
        ("shutdown_deadline", -0.1),
        ("mailbox_alarm", 0),
        ("mailbox_alarm", "10"),
        ("max_thread_calls", 1.5),
    ],
)
async def test_a_runtime_refuses_an_invalid_option(option: str, value: Any) -> None:
    options: dict[str, Any] = {option: value}
    with pytest.raises(InvalidOption, match=f"open_runtime got {option}="):
        async with open_runtime(**options):
            pytest.fail("the runtime opened")


async def test_a_runtime_may_have_no_limits(autojump_clock: trio.testing.MockClock) -> None:
    async with open_runtime(
        kill_grace=math.inf, shutdown_deadline=math.inf, mailbox_alarm=math.inf
    ):
        pid = spawn(idle)
        send(pid, "a message")
        kill(pid)
        await wait_exit(pid)

"""The decision table of exit signals, and the rules for reasons."""

from typing import Any

import pytest

from actors import (
    KILL,
    KILLED,
    NOPROC,
    NORMAL,
    SHUTDOWN,
    TIMEOUT,
    Crash,
    Reason,
    Shutdown,
    is_normal_exit,
)
from actors.exits import Verdict, judge

DROP, DELIVER, DIE = Verdict.DROP, Verdict.DELIVER, Verdict.DIE


@pytest.mark.parametrize("trapping", [False, True])
@pytest.mark.parametrize("from_self", [False, True])
def test_a_direct_kill_always_kills(trapping: bool, from_self: bool) -> None:
    assert judge(KILL, linked=False, trapping=trapping, from_self=from_self) == (DIE, KILLED)


@pytest.mark.parametrize("reason", [NORMAL, SHUTDOWN, Shutdown("x"), KILLED, "any"], ids=repr)
@pytest.mark.parametrize("linked", [False, True])
@pytest.mark.parametrize("from_self", [False, True])
def test_a_trapping_process_gets_a_message(reason: Any, linked: bool, from_self: bool) -> None:
    assert judge(reason, linked=linked, trapping=True, from_self=from_self) == (DELIVER, reason)


def test_a_kill_over_a_link_can_be_trapped_and_is_not_renamed() -> None:
    assert judge(KILL, linked=True, trapping=True) == (DELIVER, KILL)
    assert judge(KILL, linked=True, trapping=False) == (DIE, KILL)


@pytest.mark.parametrize("linked", [False, True])
def test_normal_from_another_does_nothing_and_from_oneself_ends(linked: bool) -> None:
    assert judge(NORMAL, linked=linked, trapping=False) == (DROP, NORMAL)
    assert judge(NORMAL, linked=False, trapping=False, from_self=True) == (DIE, NORMAL)


@pytest.mark.parametrize("reason", [SHUTDOWN, Shutdown("x"), KILLED, NOPROC, "any"], ids=repr)
@pytest.mark.parametrize("linked", [False, True])
def test_any_other_reason_kills_and_becomes_the_exit_reason(reason: Any, linked: bool) -> None:
    assert judge(reason, linked=linked, trapping=False) == (DIE, reason)


@pytest.mark.parametrize(
    ("reason", "normal"),
    [
        (NORMAL, True),
        (SHUTDOWN, True),
        (Shutdown("x"), True),
        (KILL, False),
        (KILLED, False),
        (NOPROC, False),
        (TIMEOUT, False),
        ("normal", False),
        (None, False),
        (Crash(ValueError()), False),
    ],
    ids=repr,
)
def test_three_reasons_are_a_clean_end(reason: Any, normal: bool) -> None:
    assert is_normal_exit(reason) is normal


def test_crashes_are_equal_by_type_and_arguments_of_the_exception() -> None:
    assert Crash(ValueError(1)) == Crash(ValueError(1))
    assert hash(Crash(ValueError(1))) == hash(Crash(ValueError(1)))
    assert Crash(ValueError(1)) != Crash(ValueError(2))
    assert Crash(ValueError(1)) != Crash(TypeError(1))
    # 1 == 1.0 == True, but a report shows them differently.
    assert Crash(ValueError(1)) != Crash(ValueError(True))


def test_the_repr_of_a_reason_is_its_source() -> None:
    assert repr(NORMAL) == str(NORMAL) == "NORMAL"
    assert all(getattr(__import__("actors"), each.name) is each for each in Reason)
    assert str(Crash(ValueError("no room"))) == "ValueError: no room"

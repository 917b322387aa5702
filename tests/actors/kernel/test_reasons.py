"""The exit reason for each kind of exception."""

from typing import Any

import pytest
import trio

from actors import KILLED, Crash, ProcessExit, ProcessKilled
from actors._kernel.process import escaping, only_unwinding, reason_of
from actors.exits import ExitReason


async def a_cancelled() -> trio.Cancelled:
    with trio.CancelScope() as scope:
        scope.cancel()
        try:
            await trio.lowlevel.checkpoint()
        except trio.Cancelled as error:
            return error
    raise AssertionError


def group(*errors: BaseException) -> BaseExceptionGroup[Any]:
    return BaseExceptionGroup("group", errors)


def test_an_exception_is_a_crash_and_a_process_exit_is_its_reason() -> None:
    assert reason_of(ValueError(1)) == Crash(ValueError(1))
    assert reason_of(ProcessExit("done")) == "done"


async def test_cancellations_in_a_group_are_ignored() -> None:
    cancelled = await a_cancelled()
    error = ValueError(1)
    mixed = group(cancelled, group(group(error), cancelled), ProcessKilled(KILLED))
    reason = reason_of(mixed)
    assert isinstance(reason, Crash)
    assert reason.exception is error
    assert reason_of(group(cancelled, ProcessExit("done"))) == "done"


@pytest.mark.parametrize(
    ("errors", "reason"),
    [
        ((ProcessExit("a"), ProcessExit("a")), "a"),
        ((ProcessExit("a"), ProcessExit("b")), None),
        ((ProcessExit("a"), ValueError(1)), None),
        ((ValueError(1), ValueError(2)), None),
    ],
    ids=["same exits", "two exits", "exit and error", "two errors"],
)
def test_several_exits_that_agree_are_one_and_anything_else_is_the_group(
    errors: tuple[BaseException, ...], reason: ExitReason
) -> None:
    whole = group(*errors)
    found = reason_of(whole)
    if reason is not None:
        assert found == reason
    else:
        assert isinstance(found, Crash)
        assert found.exception is whole


async def test_a_group_of_cancellations_alone_is_the_crash() -> None:
    whole = group(await a_cancelled())
    found = reason_of(whole)
    assert isinstance(found, Crash)
    assert found.exception is whole


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_in_a_group_is_found_at_any_depth(kind: type[BaseException]) -> None:
    interrupt = kind()
    assert escaping(interrupt) is interrupt
    assert escaping(group(ValueError(), group(interrupt))) is interrupt
    assert escaping(group(ValueError(), group(ProcessExit(1)))) is None
    assert escaping(ValueError()) is None


async def test_only_unwinding_accepts_cancellations_exits_and_kills() -> None:
    quiet = (await a_cancelled(), ProcessKilled(KILLED), ProcessExit("x"))
    assert all(only_unwinding(error) for error in quiet)
    assert only_unwinding(group(*quiet))
    assert not only_unwinding(group(*quiet, ValueError()))
    assert not only_unwinding(ValueError())

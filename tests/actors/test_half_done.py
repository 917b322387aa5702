"""Errors in the middle of an operation change nothing: limits that are not numbers, and instruments that raise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import actors
from actors import (
    GenServer,
    Instrument,
    NoReply,
    Runtime,
    Sender,
    as_process,
    call,
    is_alive,
    reply,
    scoped_spawn,
    send,
    spawn,
    whereis,
)


class Slow(GenServer[None]):
    """A server that keeps its callers, and answers them on request."""

    async def init(self) -> None:
        self.callers: list[Sender] = []

    async def handle_call(self, request: Any, sender: Sender) -> NoReply:
        self.callers.append(sender)
        return NoReply()

    async def handle_info(self, message: Any) -> None:
        for sender in self.callers:
            reply(sender, message)


class Raises(Instrument):
    """An instrument that raises in one of its methods."""

    def __init__(self, method: str) -> None:
        self.method = method
        setattr(self, method, self._fail)

    def _fail(self, *args: object) -> None:
        raise ZeroDivisionError(self.method)


async def survives(runtime: Runtime, slow: actors.Pid) -> None:
    """An answer to a call that was never made must not wake the caller from another wait."""
    assert not runtime.graph.links_of(slow)
    assert not runtime.graph.watchers_of(slow)
    began = trio.current_time()
    send(slow, "the answer")
    await trio.sleep(1)
    assert trio.current_time() == began + 1
    assert is_alive(slow)


@pytest.mark.parametrize("timeout", [None, "5"])
async def test_a_call_with_an_invalid_timeout_is_not_sent(
    runtime: Runtime, timeout: Any, autojump_clock: trio.testing.MockClock
) -> None:
    slow = await Slow.start()
    with pytest.raises(TypeError):
        await call(slow, "anything", timeout=timeout)
    await survives(runtime, slow)


@pytest.mark.parametrize("method", ["call_started", "message_sent"])
async def test_a_call_that_an_instrument_fails_leaves_no_waiting_caller(
    runtime: Runtime, method: str, autojump_clock: trio.testing.MockClock
) -> None:
    slow = await Slow.start()
    remove = runtime.add_instrument(Raises(method))
    with pytest.raises(ZeroDivisionError):
        await call(slow, "anything")
    remove()
    await survives(runtime, slow)


async def test_a_start_with_an_invalid_timeout_starts_nothing(runtime: Runtime) -> None:
    before = runtime.statistics()
    limit: Any = None
    with pytest.raises(TypeError):
        await Slow.start(timeout=limit)
    assert runtime.statistics() == before


@pytest.mark.parametrize("shutdown", [-1, float("nan")])
async def test_a_scoped_spawn_with_an_invalid_shutdown_spawns_nothing(
    runtime: Runtime, shutdown: float
) -> None:
    with pytest.raises(
        ValueError, match=rf"scoped_spawn\(\) got shutdown={shutdown}; write a number of seconds"
    ):
        async with scoped_spawn(trio.sleep_forever, shutdown=shutdown):
            pass
    assert runtime.processes() == []


@pytest.mark.parametrize(
    "name_it",
    [lambda _: spawn(trio.sleep_forever, name="name"), lambda pid: actors.register("name", pid)],
)
async def test_a_name_stays_free_if_an_instrument_fails_its_registration(
    runtime: Runtime, name_it: Callable[[actors.Pid], object]
) -> None:
    pid = spawn(trio.sleep_forever)
    remove = runtime.add_instrument(Raises("registered"))
    with pytest.raises(ZeroDivisionError):
        name_it(pid)
    remove()
    assert whereis("name") is None
    assert runtime.processes() == [pid]
    actors.register("name", pid)


async def test_a_task_stays_a_plain_task_if_an_instrument_fails_its_adoption(
    runtime: Runtime,
) -> None:
    remove = runtime.add_instrument(Raises("process_spawned"))
    with pytest.raises(ZeroDivisionError):
        async with as_process():
            raise AssertionError("the block must not run")
    remove()
    assert runtime.processes() == []
    await wait_all_tasks_blocked()

"""The invariants for monitors, calls and names report the right findings."""

from __future__ import annotations

import math
from typing import Any

import pytest
import trio
import trio.testing

from actors import (
    KILL,
    NORMAL,
    Down,
    Pid,
    Ref,
    Registry,
    RemoteAddress,
    current_pid,
    kill,
    monitor,
    receive,
    send,
    spawn,
)
from actors.runtime import Runtime
from supervision.laboratory.chaos.invariants.base import Invariant, Violation
from tests.laws.names import Names
from tests.laws.processes import Calls, DeadHandleNothing, Monitors


class Told:
    """One invariant with three processes that only the invariant knows."""

    def __init__(self, invariant: Invariant, runtime: Runtime) -> None:
        self.findings: list[Violation] = []
        invariant.share(self.findings)
        invariant.attach(runtime)
        self.pids = tuple(Pid(number, runtime) for number in (1, 2, 3))
        for pid in self.pids:
            invariant.process_spawned(pid, runtime.pid, "process")

    def found(self) -> str:
        (violation,) = self.findings
        return violation.problem


async def test_a_monitor_fires_once_and_after_the_end_of_its_target(runtime: Runtime) -> None:
    monitors = Monitors()
    told = Told(monitors, runtime)
    one, other, _ = told.pids
    ref, second = Ref(1), Ref(2)
    monitors.monitored(one, ref, other)
    monitors.monitored(one, second, other)
    monitors.process_exited(other, NORMAL)
    assert "has not fired" in str(monitors.check())
    monitors.down_sent(one, ref)
    monitors.down_sent(one, second)
    assert monitors.check() is None
    monitors.message_received(one, Down(ref, other, NORMAL))
    assert told.findings == []
    monitors.message_received(one, Down(ref, other, NORMAL))
    assert "received a Down of" in told.found()


class Far(RemoteAddress):
    """The address of a process on another node."""


async def test_the_monitor_of_a_remote_address_fires_once_and_at_any_time(runtime: Runtime) -> None:
    monitors = Monitors()
    told = Told(monitors, runtime)
    one, far, ref, unused = told.pids[0], Far(), Ref(1), Ref(2)
    monitors.monitored(one, ref, far)
    monitors.monitored(one, unused, far)
    assert monitors.check() is None
    monitors.down_sent(one, ref)
    monitors.demonitored(one, unused, False)
    assert told.findings == []
    monitors.down_sent(one, ref)
    assert "fires a second time" in told.found()


async def test_the_monitor_of_a_remote_address_does_not_fire_after_its_removal(
    runtime: Runtime,
) -> None:
    monitors = Monitors()
    told = Told(monitors, runtime)
    monitors.monitored(told.pids[0], Ref(1), Far())
    ref = Ref(2)
    monitors.monitored(told.pids[0], ref, Far())
    monitors.demonitored(told.pids[0], ref, False)
    monitors.down_sent(told.pids[0], ref)
    assert "was removed" in told.found()


async def test_a_down_that_a_program_forwards_is_no_second_down(runtime: Runtime) -> None:
    found: list[Violation] = []
    monitors = Monitors()
    monitors.share(found)
    remove = runtime.add_instrument(monitors)
    monitors.attach(runtime)
    got: list[Any] = []

    async def collects() -> None:
        got.append(await receive())

    async def forwards(other: Pid, target: Pid) -> None:
        monitor(target)
        kill(target)
        send(other, await receive())

    spawn(forwards, spawn(collects), target := spawn(trio.sleep_forever))
    await trio.testing.wait_all_tasks_blocked()
    remove()
    assert [down.pid for down in got] == [target]
    assert found == []


async def test_forwarded_downs_take_memory_only_until_their_receiver_gets_them(
    runtime: Runtime,
) -> None:
    found: list[Violation] = []
    monitors = Monitors()
    monitors.share(found)
    remove = runtime.add_instrument(monitors)
    monitors.attach(runtime)
    got: list[Any] = []

    async def collects() -> None:
        while True:
            got.append(await receive())

    ended = spawn(trio.sleep, 0)
    collector = spawn(collects)
    await trio.testing.wait_all_tasks_blocked()
    for number in range(100):
        down = Down(Ref(10**6 + number), ended, NORMAL)
        send(collector, down)
        send(collector, down)
        send(ended, down)
    await trio.testing.wait_all_tasks_blocked()
    assert len(got) == 200
    assert found == []
    assert monitors._forwarded == {}
    remove()


@pytest.mark.parametrize(
    ("events", "part"),
    [
        (["monitored", "down"], "has not ended"),
        (["monitored", "exit", "down", "down"], "a second time"),
        (["down"], "has fired before or was removed"),
        (["monitored", "back", "exit", "down"], "was removed"),
        (["monitored", "read"], "has not fired"),
        (["monitored", "monitored"], "a second monitor"),
        (["monitored", "exit", "down", "flushed", "read"], "was removed"),
    ],
)
async def test_a_monitor_that_fires_wrongly_is_found(
    runtime: Runtime, events: list[str], part: str
) -> None:
    monitors = Monitors()
    told = Told(monitors, runtime)
    one, other, _ = told.pids
    ref = Ref(1)
    does = {
        "monitored": lambda: monitors.monitored(one, ref, other),
        "exit": lambda: monitors.process_exited(other, NORMAL),
        "down": lambda: monitors.down_sent(one, ref),
        "back": lambda: monitors.demonitored(one, ref, False),
        "flushed": lambda: monitors.demonitored(one, ref, True),
        "read": lambda: monitors.message_received(one, Down(ref, other, NORMAL)),
    }
    for event in events:
        assert told.findings == []
        does[event]()
    assert part in told.found()


async def test_a_process_that_ends_loses_its_monitors(runtime: Runtime) -> None:
    monitors = Monitors()
    told = Told(monitors, runtime)
    one, other, third = told.pids
    monitors.monitored(one, Ref(1), other)
    monitors.monitored(other, Ref(2), third)
    monitors.process_exited(one, NORMAL)
    monitors.process_exited(other, NORMAL)
    monitors.process_exited(third, NORMAL)
    assert monitors.check() is None
    assert told.findings == []


async def test_a_call_may_end_in_three_ways(runtime: Runtime, autojump_clock: object) -> None:
    calls = Calls()
    told = Told(calls, runtime)
    _, server, _ = told.pids
    for call, how in ((1, "answered"), (2, "timeout"), (3, "cancelled")):
        calls.call_started(None, server, call, 1.0)
        await trio.sleep(1)
        calls.call_ended(call, how)
    calls.call_started(None, server, 4, math.inf)
    calls.process_exited(server, NORMAL)
    calls.call_ended(4, "server_ended")
    assert calls.at_rest() is calls.at_rest() is None
    assert told.findings == []


async def test_a_call_beyond_its_server_or_its_timeout_is_found_at_the_second_rest(
    runtime: Runtime, autojump_clock: object
) -> None:
    for what in ("its server has ended", "its timeout is over"):
        calls = Calls()
        _, server, _ = Told(calls, runtime).pids
        calls.call_started(None, server, "call", 1.0)
        assert calls.at_rest() is calls.at_rest() is None
        if what == "its timeout is over":
            await trio.sleep(1)
        else:
            calls.process_exited(server, NORMAL)
        assert calls.at_rest() is None
        assert what in str(calls.at_rest())


@pytest.mark.parametrize(
    ("how", "part"), [("server_ended", "but it lives"), ("timeout", "1 s too early")]
)
async def test_a_call_that_ends_for_no_reason_is_found(
    runtime: Runtime, how: str, part: str
) -> None:
    calls = Calls()
    told = Told(calls, runtime)
    calls.call_started(None, told.pids[1], "call", 1.0)
    calls.call_ended("call", how)
    assert part in told.found()


async def test_a_name_that_two_processes_have_is_found(runtime: Runtime) -> None:
    names = Names()
    told = Told(names, runtime)
    one, other, _ = told.pids
    names.registered(one, "name", None)
    names.unregistered(one, "name", None)
    names.registered(other, "name", None)
    names.process_exited(other, NORMAL)
    names.registered(one, "name", None)
    assert told.findings == []
    names.registered(other, "name", None)
    assert "got the name 'name', which <pid 1> already has" in told.found()


async def test_a_unique_key_that_two_processes_have_is_found(runtime: Runtime) -> None:
    names = Names()
    told = Told(names, runtime)
    one, other, _ = told.pids
    many: Registry[object, None] = Registry("duplicate", name="many")
    single: Registry[object, None] = Registry("unique", name="single")
    for pid in (one, other):
        names.registered(pid, 1, many)
    names.registered(one, 1, single)
    names.registered(other, True, single)
    assert told.findings == []
    names.registered(other, 1, single)
    assert "got the key 1" in told.found()


async def test_names_that_lead_to_another_process_are_found_at_rest(runtime: Runtime) -> None:
    names = Names()
    one, _, _ = Told(names, runtime).pids
    assert names.at_rest() is None
    names.registered(one, "name", None)
    assert "leads to no process" in str(names.at_rest())
    names.process_exited(one, NORMAL)
    assert names.at_rest() is None
    registry: Registry[str, None] = Registry("unique", name="rooms")
    names.registered(one, "key", registry)
    assert "is not found under that key" in str(names.at_rest())
    names.registry_closed(registry)
    assert names.at_rest() is None


async def test_a_callback_after_a_kill_is_found(runtime: Runtime) -> None:
    dead = DeadHandleNothing()
    told = Told(dead, runtime)
    one, other, _ = told.pids
    dead.signal_sent(other, one, NORMAL, False)
    dead.callback_started(one, "handle_info", "hello")
    assert told.findings == []
    dead.signal_sent(other, one, KILL, False)
    dead.callback_started(one, "handle_info", "hello")
    assert "began handle_info with 'hello' after the fatal exit signal KILL" in told.found()


@pytest.mark.parametrize(
    "keys", [(1, 1.0, True), (("a", 1), ("a", 1.0)), (frozenset({1}), frozenset({True}))]
)
async def test_keys_that_only_a_dict_takes_for_equal_are_different_keys(
    runtime: Runtime, keys: tuple[object, ...]
) -> None:
    names = Names()
    told = Told(names, runtime)
    registry: Registry[object, None] = Registry("unique")

    async def holder() -> None:
        for key in keys:
            registry.register(key)
            names.registered(current_pid(), key, registry)
        registry.unregister(keys[0])
        names.unregistered(current_pid(), keys[0], registry)
        await trio.sleep_forever()

    pid = spawn(holder)
    names.process_spawned(pid, runtime.pid, "holder")
    await trio.testing.wait_all_tasks_blocked()
    assert told.findings == []
    assert names.at_rest() is None

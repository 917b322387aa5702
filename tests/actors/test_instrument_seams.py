"""The events that instruments get about monitors, calls and names."""

import math
from typing import Any

import pytest
import trio

from actors import (
    CallTimeout,
    GenServer,
    NoReply,
    Pid,
    Ref,
    Registry,
    Reply,
    Sender,
    ServerExit,
    call,
    demonitor,
    kill,
    monitor,
    receive,
    register,
    spawn,
    unregister,
    wait_exit,
)
from actors.instrumentation.instrument import Instrument
from actors.refs import Address
from actors.runtime import Runtime


class Seen(Instrument):
    """An instrument that records the calls of these methods, in order."""

    def __init__(self, runtime: Runtime) -> None:
        self.events: list[tuple[Any, ...]] = []
        runtime.add_instrument(self)

    def monitored(self, pid: Pid, ref: Ref, target: Pid | Address[Any] | None) -> None:
        self.events.append(("monitored", pid, ref, target))

    def demonitored(self, pid: Pid, ref: Ref, flushed: bool) -> None:
        self.events.append(("demonitored", pid, ref, flushed))

    def down_sent(self, pid: Pid, ref: Ref) -> None:
        self.events.append(("down", pid, ref))

    def call_started(self, caller: Pid | None, server: Pid, call: object, timeout: float) -> None:
        self.events.append(("call", caller, server, timeout))
        self.last = call

    def call_ended(self, call: object, how: str) -> None:
        assert call is self.last
        self.events.append((how,))

    def registered(self, pid: Pid, key: object, registry: object) -> None:
        self.events.append(("registered", pid, key, registry))

    def unregistered(self, pid: Pid, key: object, registry: object) -> None:
        self.events.append(("unregistered", pid, key, registry))

    def registry_closed(self, registry: object) -> None:
        self.events.append(("closed", registry))


class Server(GenServer[None]):
    async def handle_call(self, request: Any, sender: Sender) -> Reply | NoReply:
        return Reply(request) if request == "answer" else NoReply()


@pytest.fixture
def seen(runtime: Runtime) -> Seen:
    return Seen(runtime)


async def test_instruments_see_a_monitor_start_fire_and_end(seen: Seen) -> None:
    refs: list[Ref] = []

    async def watcher() -> None:
        refs.extend([monitor(target), monitor(target)])
        demonitor(refs[0], flush=True)
        await receive()
        refs.append(monitor("nobody"))

    target = spawn(receive)
    pid = spawn(watcher)
    await trio.testing.wait_all_tasks_blocked()
    kill(target)
    await wait_exit(pid)
    assert seen.events == [
        ("monitored", pid, refs[0], target),
        ("monitored", pid, refs[1], target),
        ("demonitored", pid, refs[0], True),
        ("down", pid, refs[1]),
        ("monitored", pid, refs[2], None),
        ("down", pid, refs[2]),
    ]


async def test_instruments_see_a_call_and_its_end(seen: Seen, autojump_clock: object) -> None:
    server = await Server.start()
    await call(server, "answer")
    with pytest.raises(CallTimeout):
        await call(server, "wait", timeout=1)
    with trio.move_on_after(1):
        await call(server, "wait", timeout=math.inf)

    async def killer() -> None:
        await trio.sleep(1)
        kill(server)

    spawn(killer)
    with pytest.raises(ServerExit):
        await call(server, "wait")
    assert [event for event in seen.events if event[0] != "call"] == [
        ("answered",),
        ("timeout",),
        ("cancelled",),
        ("server_ended",),
    ]
    assert [event[1:] for event in seen.events if event[0] == "call"] == [
        (None, server, 5.0),
        (None, server, 1),
        (None, server, math.inf),
        (None, server, 5.0),
    ]


async def test_instruments_see_names_and_keys_come_and_go(seen: Seen) -> None:
    registry = Registry[str, None]("unique", name="keys")
    owner = await registry.start_link()

    async def worker() -> None:
        registry.register("one")
        registry.unregister("one")
        registry.register("two")
        unregister("worker")
        register("again")
        kill(owner)
        await receive()

    pid = spawn(worker, name="worker")
    await wait_exit(pid)
    assert seen.events == [
        ("registered", owner, "keys", None),
        ("registered", pid, "worker", None),
        ("registered", pid, "one", registry),
        ("unregistered", pid, "one", registry),
        ("registered", pid, "two", registry),
        ("unregistered", pid, "worker", None),
        ("registered", pid, "again", None),
        ("closed", registry),
    ]

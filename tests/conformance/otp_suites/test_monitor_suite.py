"""Cases of OTP's monitor_SUITE that no other test covers."""

import random
from typing import Any

import pytest

from actors import (
    KILLED,
    NOPROC,
    NORMAL,
    Down,
    Pid,
    Ref,
    current_pid,
    current_runtime,
    demonitor,
    exit,
    kill,
    monitor,
    receive,
    register,
    send,
    send_exit,
    spawn,
    spawn_monitor,
)
from tests.actors.helpers import down, idle, in_process, nothing_arrives, settle


async def on_demand() -> None:
    """Run a process that exits with its first message as reason."""
    exit(await receive())


@pytest.mark.parametrize("reason", [NORMAL, "end", ("a", ["large", "reason"])], ids=repr)
@pytest.mark.parametrize("registered", [False, True])
@in_process()
async def test_a_monitor_of_a_pid_or_a_name_fires_once(reason: Any, registered: bool) -> None:
    pid = spawn(on_demand, name="target" if registered else None)
    ref = monitor("target" if registered else pid)
    send(pid, reason)
    assert await receive() == Down(ref, pid, reason, "target" if registered else None)
    await nothing_arrives(1)


@pytest.mark.parametrize("first", ["demonitor", "end"])
@in_process()
async def test_after_demonitor_only_an_earlier_down_is_received(
    first: str,
) -> None:
    pid = spawn(on_demand)
    ref = monitor(pid)
    if first == "end":
        send(pid, "end")
        await settle()
    assert demonitor(ref) is (first == "demonitor")
    send(pid, "end")
    if first == "end":
        assert await receive() == Down(ref, pid, "end")
    await nothing_arrives(1)


@in_process()
async def test_a_monitor_of_an_invalid_address_raises_and_of_an_unknown_name_sends_noproc() -> None:
    unhashable: list[Any] = [[], {}]
    for wrong in unhashable:
        with pytest.raises(TypeError):
            monitor(wrong)
    await nothing_arrives(1)
    for nobody in (None, 3, "nobody", b"nobody"):
        ref = monitor(nobody)
        assert await receive(timeout=0) == Down(ref, None, NOPROC, nobody)
    info = current_runtime().process_info(current_pid())
    assert info is not None
    assert info["monitors"] == ()


@in_process()
async def test_demonitor_returns_false_for_any_other_reference() -> None:
    pid = spawn(idle)
    ref = monitor(pid)
    assert demonitor(Ref(0)) is False
    send_exit(pid, "end")
    assert (await down(ref)).reason == "end"


@in_process()
async def test_a_process_does_not_monitor_itself() -> None:
    # erlang:demonitor(erlang:monitor(process, self()), [info]) is false.
    me = current_pid()
    ref = monitor(me)
    info = current_runtime().process_info(me)
    assert info is not None
    assert info["monitors"] == ()
    assert demonitor(ref, flush=True) is False
    register("me", me)
    assert demonitor(monitor("me")) is False


@in_process()
async def test_monitors_can_be_removed_in_any_order_and_leave_nothing() -> None:
    order = random.Random(0)
    pids = [spawn(on_demand) for _ in range(200)]
    refs = [(monitor(pid), pid) for pid in pids for _ in range(3)]
    order.shuffle(refs)
    removed = {ref for ref, _ in refs[:200]}
    assert all(demonitor(ref) for ref in removed)
    order.shuffle(pids)
    for number, pid in enumerate(pids):
        send(pid, number)
    reasons: dict[Pid, Any] = {pid: number for number, pid in enumerate(pids)}
    told = [await receive() for _ in range(400)]
    assert all(reasons[each.pid] == each.reason for each in told)
    assert {each.ref for each in told} == {ref for ref, _ in refs} - removed
    await nothing_arrives(1)
    info = current_runtime().process_info(current_pid())
    assert info is not None
    assert info["monitors"] == ()


@in_process()
async def test_a_large_reason_arrives_unchanged() -> None:
    large = [bytes(1000)] * 1000
    pid, ref = spawn_monitor(idle)
    send_exit(pid, large)
    assert (await down(ref)).reason is large


@in_process()
async def test_a_name_is_free_before_its_monitor_fires() -> None:
    for _ in range(100):
        pid = spawn(idle, name="name")
        ref = monitor("name")
        kill(pid)
        assert await down(ref) == Down(ref, pid, KILLED, "name")
        # This raises if the name is not free.
        kill(spawn(idle, name="name"))
        await settle()

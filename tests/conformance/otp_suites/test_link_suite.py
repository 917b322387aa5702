"""Cases of OTP's erl_link_SUITE that no other test covers."""

from typing import Any

from actors import (
    NOPROC,
    Down,
    Exit,
    Pid,
    current_pid,
    current_runtime,
    demonitor,
    exit,
    link,
    monitor,
    receive,
    send,
    send_exit,
    spawn,
    spawn_link,
    spawn_monitor,
    trap_exits,
    unlink,
)
from tests.actors.helpers import down, in_process, listen, nothing_arrives, reason_of, settle


async def obeys() -> None:
    """A process that calls the functions that it gets as messages."""
    while True:
        do = await receive(callable)
        do()


def links_of(pid: Pid) -> tuple[Pid, ...]:
    info = current_runtime().process_info(pid)
    assert info is not None
    links: tuple[Pid, ...] = info["links"]
    return links


async def tell(pid: Pid, do: Any) -> None:
    send(pid, do)
    await settle()


@in_process()
async def test_a_link_is_symmetric_and_ends_with_unlink_or_with_either_process() -> None:
    found: list[Pid] = []
    first = spawn(obeys)
    await tell(first, lambda: found.append(spawn_link(obeys)))
    [second] = found
    assert (links_of(first), links_of(second)) == ((second,), (first,))
    await tell(second, lambda: unlink(first))
    assert (links_of(first), links_of(second)) == ((), ())
    await tell(second, lambda: link(first))
    assert (links_of(first), links_of(second)) == ((second,), (first,))
    await tell(second, trap_exits)
    send(first, lambda: exit("died"))
    assert await reason_of(first) == "died"
    assert links_of(second) == ()
    await tell(second, lambda: found.append(spawn_link(obeys)))
    send(second, lambda: exit("died too"))
    assert await reason_of(found[1]) == "died too"
    me = current_pid()
    link(me)
    assert links_of(me) == ()
    unlink(me)


@in_process()
async def test_only_its_owner_removes_a_monitor_which_fires_once_and_leaves_nothing() -> None:
    def monitors() -> Any:
        info = current_runtime().process_info(current_pid())
        assert info is not None
        return info["monitors"]

    target = spawn(obeys, name="target")
    for address in (target, "target"):
        ref = monitor(address)
        await tell(target, lambda ref=ref: demonitor(ref))
        assert monitors() == (target,)
        assert demonitor(ref)
        assert monitors() == ()
    by_pid, by_name = monitor(target), monitor("target")
    send(target, lambda: exit("bye"))
    assert await down(by_pid) == Down(by_pid, target, "bye")
    assert await down(by_name) == Down(by_name, target, "bye", "target")
    assert monitors() == ()
    gone = monitor("target")
    assert await down(gone) == Down(gone, None, NOPROC, "target")
    assert monitors() == ()


@in_process()
async def test_no_exit_arrives_after_an_unlink() -> None:
    trap_exits()
    for ended in (False, True):
        pid = spawn_link(listen, [])
        send_exit(pid, "bang")
        if ended:
            await settle()
        unlink(pid)
        if ended:
            assert await receive(timeout=0) == Exit(pid, "bang")
        await nothing_arrives(1)


@in_process()
async def test_no_down_arrives_after_a_demonitor() -> None:
    for ended in (False, True):
        pid, ref = spawn_monitor(listen, [])
        send_exit(pid, "bang")
        if ended:
            await settle()
        demonitor(ref)
        if ended:
            assert await receive(timeout=0) == Down(ref, pid, "bang")
        await nothing_arrives(1)

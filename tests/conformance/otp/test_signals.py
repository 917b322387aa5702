"""Exit signals, links and monitors: cases 1 to 20."""

from typing import Any

import pytest
import trio

from actors import (
    KILL,
    KILLED,
    NOPROC,
    NORMAL,
    DeadProcess,
    Down,
    Exit,
    GenServer,
    NoReply,
    Pid,
    Ref,
    current_pid,
    current_runtime,
    demonitor,
    exit,
    is_alive,
    kill,
    link,
    monitor,
    receive,
    register,
    send,
    send_exit,
    spawn,
    spawn_link,
    spawn_monitor,
    trap_exits,
    unlink,
    whereis,
)
from supervision import ChildSpec, Supervisor
from tests.actors.helpers import (
    dead_process,
    down,
    idle,
    in_process,
    listen,
    nothing_arrives,
    reason_of,
    settle,
)


async def linked_to(pid: Pid, heard: list[Any] | None = None) -> None:
    """Run a process linked to another. With `heard`, it traps exits and keeps its messages there."""
    trap_exits(heard is not None)
    link(pid)
    await listen([] if heard is None else heard)


@in_process()
async def test_01_a_fatal_signal_kills_with_its_reason_and_so_do_its_links() -> None:
    victim, first = spawn_monitor(idle)
    peer, second = spawn_monitor(linked_to, victim)
    _, third = spawn_monitor(linked_to, peer)
    await settle()
    send_exit(victim, "boom")
    assert [(await down(ref)).reason for ref in (first, second, third)] == ["boom"] * 3


@in_process()
async def test_02_a_normal_signal_of_another_process_does_nothing() -> None:
    heard: list[Any] = []
    pid = spawn(listen, heard)
    send_exit(pid, NORMAL)
    send(pid, "still there?")
    await settle()
    assert is_alive(pid)
    assert heard == ["still there?"]


@in_process()
async def test_03_a_normal_signal_to_oneself_ends_the_process_or_is_a_message_if_it_traps() -> None:
    after: list[str] = []

    async def ends() -> None:
        send_exit(current_pid(), NORMAL)
        after.append("the next line")

    async def lives() -> None:
        trap_exits()
        send_exit(current_pid(), NORMAL)
        assert await receive(timeout=0) == Exit(current_pid(), NORMAL)
        exit("lived")

    _, ref = spawn_monitor(ends)
    assert (await down(ref)).reason is NORMAL
    assert after == []
    assert await reason_of(spawn(lives)) == "lived"


@in_process()
async def test_04_kill_cannot_be_trapped() -> None:
    pid, ref = spawn_monitor(linked_to, current_pid(), [])
    trap_exits()
    await settle()
    kill(pid)
    info = current_runtime().process_info(pid)
    assert info is not None
    assert info["queue_length"] == 0
    assert (await down(ref)).reason is KILLED


@in_process()
async def test_05_killed_arrives_over_a_link_as_a_trappable_reason() -> None:
    trap_exits()
    pid = spawn_link(idle)
    kill(pid)
    assert await receive() == Exit(pid, KILLED)


@in_process()
async def test_06_a_kill_over_a_link_can_be_trapped_and_stays_kill() -> None:
    async def ends_itself() -> None:
        await receive()
        exit(KILL)

    pid = spawn(ends_itself)
    trap_exits()
    link(pid)
    _, ref = spawn_monitor(linked_to, pid)
    await settle()
    send(pid, "now")
    assert await receive(lambda message: isinstance(message, Exit)) == Exit(pid, KILL)
    assert (await down(ref)).reason is KILL


@in_process()
async def test_07_a_normal_end_is_a_message_for_a_trapping_peer_and_nothing_for_others() -> None:
    async def returns() -> None:
        await receive()

    heard: list[Any] = []
    pid = spawn(returns)
    trapping = spawn(linked_to, pid, heard)
    other = spawn(linked_to, pid)
    await settle()
    send(pid, "now")
    await settle()
    assert heard == [Exit(pid, NORMAL)]
    assert is_alive(trapping)
    assert is_alive(other)


@in_process()
async def test_08_a_link_to_a_dead_process_raises_or_is_a_message_if_the_caller_traps() -> None:
    dead = await dead_process()
    with pytest.raises(DeadProcess) as caught:
        link(dead)
    assert caught.value.pid is dead
    trap_exits()
    link(dead)
    assert await receive(timeout=0) == Exit(dead, NOPROC)


@in_process()
async def test_09_linking_twice_is_one_link_and_one_signal() -> None:
    trap_exits()
    pid = spawn_link(idle)
    link(pid)
    kill(pid)
    assert await receive() == Exit(pid, KILLED)
    await nothing_arrives(1)


@in_process()
async def test_10_no_exit_arrives_after_unlink_and_an_earlier_one_stays() -> None:
    trap_exits()
    first, second = spawn_link(idle), spawn_link(idle)
    unlink(first)
    kill(first)
    await nothing_arrives(1)
    kill(second)
    await settle()
    unlink(second)
    assert await receive(timeout=0) == Exit(second, KILLED)


@in_process()
async def test_11_each_monitor_fires_once() -> None:
    pid = spawn(idle)
    refs = [monitor(pid) for _ in range(3)]
    assert len(set(refs)) == 3
    kill(pid)
    assert [await receive() for _ in refs] == [Down(ref, pid, KILLED) for ref in refs]
    await nothing_arrives(1)


@in_process()
async def test_12_a_monitor_of_a_dead_process_or_an_unknown_name_sends_noproc() -> None:
    dead = await dead_process()
    ref = monitor(dead)
    assert await receive(timeout=0) == Down(ref, dead, NOPROC)
    ref = monitor("nobody")
    assert await receive(timeout=0) == Down(ref, None, NOPROC, "nobody")


@in_process()
async def test_13_demonitor_keeps_an_earlier_down_unless_it_flushes() -> None:
    async def fired() -> tuple[Pid, Ref]:
        pid, ref = spawn_monitor(idle)
        kill(pid)
        await settle()
        return pid, ref

    pid, ref = await fired()
    demonitor(ref)
    assert await receive(timeout=0) == Down(ref, pid, KILLED)
    _, ref = await fired()
    demonitor(ref, flush=True)
    await nothing_arrives()


@in_process()
async def test_14_down_implies_that_the_name_is_free_and_the_process_dead() -> None:
    async def named() -> None:
        register("name")
        await receive()

    pid = spawn(named)
    await settle()
    ref = monitor("name")
    send("name", "end")
    assert await receive() == Down(ref, pid, NORMAL, "name")
    assert whereis("name") is None
    assert not is_alive(pid)
    register("name")


@in_process()
async def test_15_messages_after_a_fatal_signal_are_not_processed() -> None:
    heard: list[Any] = []
    pid, ref = spawn_monitor(listen, heard)
    await settle()
    for number in range(3):
        send(pid, number)
    send_exit(pid, "enough")
    for number in range(3, 6):
        send(pid, number)
    assert (await down(ref)).reason == "enough"
    assert not {3, 4, 5}.intersection(heard)


@in_process()
async def test_16_the_first_of_two_fatal_signals_is_the_reason() -> None:
    pid, ref = spawn_monitor(idle)
    send_exit(pid, "first")
    kill(pid)
    send_exit(pid, "third")
    assert (await down(ref)).reason == "first"


@pytest.mark.parametrize("kind", ["receive", "server"])
@in_process()
async def test_17_a_kill_in_the_same_turn_as_a_message_wins(kind: str) -> None:
    heard: list[Any] = []

    class Server(GenServer[None]):
        async def handle_info(self, message: Any) -> NoReply | None:
            heard.append(message)
            return None

    pid = spawn(listen, heard) if kind == "receive" else await Server.start()
    await settle()
    ref = monitor(pid)
    send(pid, "message")
    kill(pid)
    assert (await down(ref)).reason is KILLED
    assert heard == []


@in_process(kill_grace=2.0)
async def test_18_a_process_that_swallows_its_cancellation_is_declared_dead_after_the_grace() -> (
    None
):
    release = trio.Event()

    async def swallows() -> None:
        register("swallower")
        while not release.is_set():
            try:
                await trio.sleep_forever()
            except trio.Cancelled:
                with trio.CancelScope(shield=True):
                    await release.wait()

    async def start() -> Pid:
        return spawn_link(swallows)

    supervisor = await Supervisor.start_link(
        [ChildSpec("child", start, shutdown="brutal_kill", restart="temporary")]
    )
    await settle()
    ref = monitor("swallower")
    began = trio.current_time()
    await Supervisor.terminate_child(supervisor, "child")
    assert trio.current_time() - began == pytest.approx(2)
    message = await receive(timeout=0)
    assert (message.ref, message.reason) == (ref, KILLED)
    assert whereis("swallower") is None
    assert current_runtime().statistics()["zombies"] == 1
    assert await Supervisor.which_children(supervisor) == []
    release.set()
    await settle()
    statistics = current_runtime().statistics()
    assert (statistics["zombies"], statistics["zombies_ever"]) == (0, 1)


@in_process()
async def test_19_clean_up_runs_before_down_and_cannot_wait() -> None:
    seen: list[str] = []

    async def tidy() -> None:
        try:
            await receive()
        finally:
            seen.append("finally")
            try:
                await trio.lowlevel.checkpoint()
            except trio.Cancelled:
                seen.append("cancelled")
                raise

    pid, ref = spawn_monitor(tidy)
    await settle()
    kill(pid)
    assert seen == []
    assert (await down(ref)).reason is KILLED
    assert seen == ["finally", "cancelled"]


@in_process()
async def test_20_messages_of_one_sender_arrive_in_order() -> None:
    me = current_pid()

    async def count(who: str) -> None:
        for number in range(1000):
            send(me, (who, number))
            if number % 7 == 0:
                await trio.lowlevel.checkpoint()

    spawn(count, "a")
    spawn(count, "b")
    numbers: dict[str, list[int]] = {"a": [], "b": []}
    for _ in range(2000):
        who, number = await receive()
        numbers[who].append(number)
    assert numbers == {"a": list(range(1000)), "b": list(range(1000))}

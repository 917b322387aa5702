"""Random scripts of links, monitors, exits and traps agree with a small model of the signal table.

A script is a list of moments. A moment is a list of actions of processes, all before any process runs again. So signals
reach processes that are alive, dying, ending by themselves, or dead. After each moment all processes run, and the test
compares reasons, mailboxes, links and monitors.
"""

import functools
from collections.abc import Callable
from typing import Any

import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from actors import (
    KILL,
    KILLED,
    NORMAL,
    SHUTDOWN,
    Crash,
    DeadProcess,
    Down,
    Exit,
    Instrument,
    Pid,
    Ref,
    Runtime,
    Shutdown,
    current_pid,
    demonitor,
    exit,
    link,
    monitor,
    open_runtime,
    receive,
    send,
    send_exit,
    spawn,
    spawn_link,
    trap_exits,
    unlink,
)
from actors._checks import CheckedRuntime
from actors._kernel.runtime import record_of
from actors.errors import ProcessKilled
from tests.properties.signal_model import Model
from tests.virtual_clock import run_on_virtual_clock

GRACE = 5.0


class Leave:
    """A message that makes a process return."""

    def __init__(self, reason: Any) -> None:
        self.reason = reason


class Play(Instrument):
    """A script on the stage: the real processes, and the model beside them."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.model = Model()
        self.pids: list[Pid] = []
        self.numbers: dict[Pid, int] = {}
        self.refs: dict[int, Ref] = {}
        self.leaving: dict[int, Any] = {}
        self.stubborn: set[int] = set()
        self.release = trio.Event()

    # What processes are

    async def life(self) -> None:
        """Wait for the message that ends this process, and keep every other message for the comparison."""
        try:
            leave = await receive(lambda message: isinstance(message, Leave))
        except trio.Cancelled:
            if self.numbers[current_pid()] in self.stubborn:
                with trio.CancelScope(shield=True):
                    await self.release.wait()
            raise
        if isinstance(leave.reason, Crash):
            raise leave.reason.exception
        if leave.reason is not NORMAL:
            exit(leave.reason)

    def process_exited(self, pid: Pid, reason: object) -> None:
        number = self.numbers[pid]
        expected = self.model.ended(number, self.leaving.get(number, "it had no reason to end"))
        assert reason == expected, f"{pid!r} ended with {reason!r}, and not with {expected!r}"

    # What they do

    def act(self, number: int, verb: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Act as a process, without letting other tasks run."""
        process = record_of(self.pids[number])
        assert process is not None
        if process.task is None:
            raise AssertionError("everybody has run before")
        return process.task.context.run(functools.partial(verb, *args, **kwargs))

    def may_act(self, number: int) -> bool:
        process = self.model.processes[number]
        return process.alive and not process.dying

    def enroll(self, pid: Pid) -> None:
        self.pids.append(pid)
        self.numbers[pid] = len(self.pids) - 1

    def do_spawn(self, one: int) -> None:
        self.enroll(self.act(one, spawn, self.life))
        self.model.spawn()

    def do_spawn_link(self, one: int) -> None:
        self.enroll(self.act(one, spawn_link, self.life))
        self.model.spawn(by=one)

    def do_link(self, one: int, other: int) -> None:
        try:
            self.act(one, link, self.pids[other])
            worked = True
        except DeadProcess:
            worked = False
        assert worked is self.model.link(one, other)

    def do_unlink(self, one: int, other: int, flush: bool) -> None:
        self.act(one, unlink, self.pids[other], flush=flush)
        self.model.unlink(one, other, flush=flush)

    def do_monitor(self, one: int, other: int) -> None:
        ref = self.act(one, monitor, self.pids[other])
        self.refs[self.model.monitor(one, other)] = ref

    def do_demonitor(self, one: int, which: int, flush: bool) -> None:
        if self.refs:
            reference = which % len(self.refs) + 1
            removed = self.act(one, demonitor, self.refs[reference], flush=flush)
            assert removed is self.model.demonitor(one, reference, flush=flush)

    def do_trap(self, one: int, flag: bool) -> None:
        assert self.act(one, trap_exits, flag) is self.model.processes[one].trapping
        self.model.processes[one].trapping = flag

    def do_send_exit(self, one: int, other: int, reason: Any) -> None:
        try:
            self.act(one, send_exit, self.pids[other], reason)
        except ProcessKilled:
            assert one == other
        self.model.signal(one, other, reason, linked=False)

    def do_send(self, one: int, other: int, what: int) -> None:
        self.act(one, send, self.pids[other], what)
        self.model.send(other, what)

    def do_leave(self, one: int, reason: Any) -> None:
        if one not in self.leaving:
            self.leaving[one] = reason
            send(self.pids[one], Leave(reason))

    def do_stubborn(self, one: int) -> None:
        self.stubborn.add(one)

    # The comparison

    async def wait(self) -> None:
        """Until the last is a zombie: in a chain of stubborn ones each takes the next along after its own grace."""
        await trio.sleep((len(self.pids) + 1) * GRACE)

    def compare(self, *, waited: bool) -> None:
        for number, (pid, modelled) in enumerate(zip(self.pids, self.model.processes, strict=True)):
            process = record_of(pid)
            assert (process is not None) is modelled.alive
            if process is None:
                continue
            should_be_gone = modelled.dying or number in self.leaving
            assert not should_be_gone or (number in self.stubborn and not waited)
            assert process.trapping is modelled.trapping
            assert process.dying is modelled.dying
            assert self.mailbox(pid) == modelled.mailbox
            links = self.runtime.graph.links_of(pid)
            assert [self.numbers[other] for other in links] == list(modelled.links)
            watchers = self.runtime.graph.watchers_of(pid)
            refs: list[Any] = [self.refs[reference] for reference in modelled.watchers]
            assert list(watchers) == refs

    def mailbox(self, pid: Pid) -> list[Any]:
        process = record_of(pid)
        assert process is not None
        numbers = {ref: number for number, ref in self.refs.items()}
        found: list[Any] = []
        for message in process.mailbox.queue:
            if isinstance(message, Exit):
                found.append(("exit", self.numbers[message.pid], message.reason))
            elif isinstance(message, Down):
                assert message.pid is not None
                number = self.numbers[message.pid]
                found.append(("down", numbers[message.ref], number, message.reason))
            elif not isinstance(message, Leave):
                found.append(("text", message))
        return found


REASONS = st.sampled_from([NORMAL, SHUTDOWN, Shutdown("x"), KILL, KILLED, "a", "b"])
LEAVES = REASONS | st.sampled_from([Crash(ValueError(1)), Crash(ValueError(2))])
WHO = st.integers(0, 7)
STEP = st.one_of(
    st.tuples(st.just("spawn"), WHO),
    st.tuples(st.just("spawn_link"), WHO),
    st.tuples(st.just("link"), WHO, WHO),
    st.tuples(st.just("link"), WHO, WHO),
    st.tuples(st.just("unlink"), WHO, WHO, st.booleans()),
    st.tuples(st.just("monitor"), WHO, WHO),
    st.tuples(st.just("demonitor"), WHO, WHO, st.booleans()),
    st.tuples(st.just("trap"), WHO, st.booleans()),
    st.tuples(st.just("send_exit"), WHO, WHO, REASONS),
    st.tuples(st.just("send"), WHO, WHO, st.integers(0, 3)),
    st.tuples(st.just("leave"), WHO, LEAVES),
    st.tuples(st.just("stubborn"), WHO),
)
# The processes that trap exits, and the first links. Then the steps of each moment, each with a flag that lets the
# kill grace pass after it.
FIRST = st.tuples(
    st.lists(st.booleans(), min_size=4, max_size=4),
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=6),
)
MOMENTS = st.lists(
    st.tuples(st.lists(STEP, min_size=1, max_size=8), st.booleans()), min_size=1, max_size=8
)

# Which of a verb's arguments are processes.
SECOND_IS_A_PROCESS = {"link", "unlink", "monitor", "send_exit", "send"}


First = tuple[list[bool], list[tuple[int, int]]]
Moments = list[tuple[list[tuple[Any, ...]], bool]]


async def perform(first: First, moments: Moments) -> None:
    async with open_runtime(kill_grace=GRACE, log=False, debug=True) as runtime:
        assert isinstance(runtime, CheckedRuntime)
        play = Play(runtime)
        remove = runtime.add_instrument(play)
        try:
            await play_all(play, runtime, first, moments)
            play.release.set()
            await play.wait()
            play.compare(waited=True)
        finally:
            # The script does not contain the effects of the end of the runtime.
            play.release.set()
            remove()


async def play_all(play: Play, runtime: CheckedRuntime, first: First, moments: Moments) -> None:
    for _ in range(4):
        play.enroll(spawn(play.life))
        play.model.spawn()
    await trio.testing.wait_all_tasks_blocked()
    for number, flag in enumerate(first[0]):
        play.do_trap(number, flag)
    for one, other in first[1]:
        play.do_link(one, other)
    for steps, wait in moments:
        # Processes of this moment have not taken a step, so they cannot act.
        acting = len(play.pids)
        for verb, who, *others in steps:
            one, args = who % acting, list(others)
            if verb in SECOND_IS_A_PROCESS:
                args[0] %= len(play.pids)
            if play.may_act(one):
                getattr(play, f"do_{verb}")(one, *args)
            runtime.verify()
        await trio.testing.wait_all_tasks_blocked()
        play.compare(waited=False)
        if wait:
            await play.wait()
            play.compare(waited=True)


@given(FIRST, MOMENTS)
def test_links_monitors_exits_and_traps_follow_the_model(first: First, moments: Moments) -> None:
    run_on_virtual_clock(perform, first, moments)

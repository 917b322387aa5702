"""Processes that use every function of `actors.process`, `links` and `addresses` at random, compared with a model.

Each process acts on its own. It updates the model in the same step as it acts, so the model is exact for every order
of the steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random
from typing import Any

import trio
from attrs import define

from actors import (
    KILL,
    NORMAL,
    SHUTDOWN,
    Alias,
    AlreadyStarted,
    Crash,
    DeadProcess,
    Down,
    Exit,
    InvalidOperation,
    NameTaken,
    NoSuchName,
    Pid,
    ProcessExit,
    ProcessFailed,
    ProcessKilled,
    Ref,
    Shutdown,
    adopt,
    alias,
    ancestors,
    current_pid,
    demonitor,
    exit,
    is_alive,
    kill,
    link,
    monitor,
    on_exit,
    process_dictionary,
    receive,
    register,
    scoped_spawn,
    send,
    send_exit,
    set_label,
    spawn,
    spawn_link,
    spawn_monitor,
    trap_exits,
    unalias,
    unlink,
    unregister,
    wait_exit,
    whereis,
)
from actors.exits import NOPROC, is_normal_exit
from supervision.laboratory.simulation.world.world import World
from tests.laws.scenarios import scenario
from tests.simulation.sweeps.bounds import small_bounds
from tests.simulation.sweeps.model import UNDECIDED, Life, Model

__all__ = ["processes"]

NAMES = ("anna", "bert", "carl", 7)
REASONS: tuple[Any, ...] = (NORMAL, SHUTDOWN, Shutdown("tired"), "odd", ("a", 1), KILL)
MOST = 9
# The number of waiting messages above which the runtime reports a mailbox.
ALARM = 5


class _CancelledReceiveError(Exception):
    """The scope around a receive was cancelled before a message arrived."""


@define(eq=False)
class Post:
    """An alias, with its owner while the alias is valid."""

    address: Alias
    owner: Life | None
    once: bool


class Play:
    """The data that the processes of one world share."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.model = Model(world)
        self.model.watch_all = True
        self.count = 0
        self.posts: list[Post] = []
        self.dead: list[Pid] = []
        self.model.at_end.append(self.ends)
        self.nursery: trio.Nursery
        self.until = world.params.get("seconds", 6.0)
        self.events: dict[str, int] = {"crash": 0, "dead_letter": 0, "cleanup_failed": 0}
        self.failed_cleanups = 0
        # The last reported length of each mailbox.
        self.alarms: dict[Pid, int] = {}
        world.runtime.mailbox_alarm = ALARM
        world.runtime.telemetry.attach(("actors", "mailbox", "alarm"), self.crowded)
        for area, what in (
            ("process", "crash"),
            ("message", "dead_letter"),
            ("process", "cleanup_failed"),
        ):
            world.runtime.telemetry.attach(("actors", area, what), self.told)

    def crowded(self, event: tuple[str, ...], measurements: Any, metadata: Any) -> None:
        """Check one report of a long mailbox. The next report must not come before the length has doubled."""
        pid, length = metadata["pid"], measurements["queue_length"]
        least = 2 * self.alarms[pid] if pid in self.alarms else ALARM
        self.model.expect(
            length > least,
            f"the mailbox of {self.model.who(pid)} was reported with {length} messages, but the next report is due "
            f"above {least}",
        )
        self.alarms[pid] = length
        self.world.sometimes("a mailbox was long")

    def told(self, event: tuple[str, ...], measurements: Any, metadata: Any) -> None:
        self.events[event[-1]] += 1
        if event[-1] == "cleanup_failed":
            self.model.expect(
                all(isinstance(each, OSError) for each in leaves(metadata["exception"])),
                f"{metadata['pid']!r} reports {metadata['exception']!r} as a failed clean-up",
            )

    def ends(self, life: Life) -> None:
        self.dead.append(life.pid)
        for post in self.posts:
            if post.owner is life:
                post.owner = None

    def someone(self, stream: Random) -> Pid | None:
        """Return a living process, or sometimes a process that has ended."""
        if self.dead and stream.random() < 0.12:
            return stream.choice(self.dead[-6:])
        return stream.choice(list(self.model.lives)) if self.model.lives else None

    def resolve(self, address: object) -> Life | None:
        """Return the process that the documented rules for addresses give for an address."""
        if isinstance(address, Alias):
            post = next(each for each in self.posts if each.address is address)
            owner = post.owner
            if post.once:
                post.owner = None
            return owner
        return self.model.resolve(address)

    def an_address(self, stream: Random) -> object:
        chance = stream.random()
        if chance < 0.25 and self.posts:
            return stream.choice(self.posts[-5:]).address
        if chance < 0.5:
            return stream.choice(NAMES)
        return self.someone(stream) or stream.choice(NAMES)

    # Verbs that every task may use

    def send(self, stream: Random) -> None:
        for _ in range(9 if stream.random() < 0.03 else 1):
            self.send_one(stream)

    def send_one(self, stream: Random) -> None:
        self.count += 1
        message, address = ("note", self.count), self.an_address(stream)
        owner = self.resolve(address)
        named = not isinstance(address, Pid | Alias)
        try:
            send(address, message)
        except NoSuchName:
            self.model.expect(
                named and owner is None,
                f"send to {address!r} raised NoSuchName, but it has a process",
            )
            return
        self.model.expect(
            owner is not None or not named, f"send to the free name {address!r} did not raise"
        )
        if owner is None:
            self.model.dead_letters += 1
        else:
            owner.mailbox.append(message)

    def look_up(self, stream: Random) -> None:
        address = self.an_address(stream)
        owner, pid = self.resolve(address), whereis(address)
        self.model.same(f"whereis({address!r})", "the answer", pid, owner and owner.pid)
        someone = self.someone(stream)
        if someone is not None:
            self.model.same(someone, "is_alive", is_alive(someone), someone in self.model.lives)

    def free_name(self, stream: Random) -> None:
        name = stream.choice(NAMES)
        unregister(name)
        self.model.free_name(name)

    def name_another(self, stream: Random) -> None:
        name, pid = stream.choice(NAMES), self.someone(stream)
        if pid is None:
            return
        life = self.model.lives.get(pid)
        try:
            register(name, pid)
        except DeadProcess:
            self.model.expect(life is None, f"register({name!r}) says that {pid!r} has ended")
        except NameTaken as error:
            holder = self.model.names.get(name)
            taken = holder or (life if life is not None and life.name is not None else None)
            self.model.same(
                pid, f"the holder of {name!r} in NameTaken", error.pid, taken and taken.pid
            )
        else:
            free = life is not None and life.name is None and name not in self.model.names
            self.model.expect(free, f"register({name!r}) for {self.model.who(pid)} did not raise")
            if life is not None:
                self.model.give_name(life, name)

    def signal(self, stream: Random) -> None:
        """Send an exit signal from a task that is not a process."""
        pid = self.someone(stream)
        if pid is not None:
            self.model.signal(
                self.world.runtime.pid,
                self.model.lives.get(pid),
                reason := stream.choice(REASONS),
                linked=False,
            )
            send_exit(pid, reason)


class Puppet:
    """The behaviour of one process."""

    def __init__(self, play: Play, label: str) -> None:
        self.play = play
        self.model = play.model
        self.label = label
        self.stream = play.world.random(label)
        self.life: Life
        # An error of an adopted process reaches the code around `adopt`. The runtime does not report the error.
        self.adopted = False
        self.words: dict[str, Any] = {}
        # If a helper task delays the check after a receive: the matching messages at the end of the receive.
        self.missed: list[Any] | None = None
        self.forgets: list[tuple[int, Callable[[], None]]] = []

    async def run(self) -> None:
        life, model = self.life, self.model
        model.same(life, "current_pid()", current_pid(), life.pid)
        model.same(life, "ancestors()", ancestors(), life.ancestors)
        model.expect(not life.doomed, f"{model.who(life)} began to run after {life.doom!r}")
        try:
            while trio.current_time() < self.play.until:
                await self.pause()
                if life.doomed:
                    # If the task was ready when the signal arrived, Trio still runs its next step.
                    await trio.lowlevel.checkpoint()
                    if life.doomed_at < trio.current_time():
                        model.fail(
                            f"{model.who(life)} goes on after the fatal signal {life.doom!r}"
                        )
                self.act()
            life.ending = NORMAL
        except trio.Cancelled:
            right = life.doomed or trio.current_time() >= life.cancelled_at
            model.expect(right, f"{model.who(life)} was cancelled without a fatal signal")
            await self.be_stubborn()
            self.fail_in_the_end()
            raise
        except ProcessKilled as error:
            model.expect(life.doomed, f"{model.who(life)} got ProcessKilled without a fatal signal")
            model.same(life, "the reason of ProcessKilled", error.args, (life.doom,))
            self.fail_in_the_end()
            raise

    def fail_in_the_end(self) -> None:
        """Sometimes raise an error in the clean-up of a killed process. The error must not change the exit reason."""
        if not self.adopted and self.stream.random() < 0.15:
            self.play.failed_cleanups += 1
            error = OSError("a clean-up that fails")
            raise error if self.stream.random() < 0.5 else ExceptionGroup("at the end", [error])

    async def be_stubborn(self) -> None:
        life = self.life
        if not life.stubborn:
            return
        with trio.CancelScope(shield=True):
            await trio.sleep(life.stubborn)
        if not life.alive:
            self.play.world.sometimes("a process became a zombie")
            if not self.model.lives:
                return
            victim = self.stream.choice(list(self.model.lives))
            try:
                send(victim, "from a zombie")
            except ProcessKilled:
                return
            self.model.fail(f"the zombie {self.label} sent a message to {self.model.who(victim)}")

    # Waiting

    async def pause(self) -> None:
        chance = self.stream.random()
        if chance < 0.3:
            await trio.sleep(self.stream.choice([0, 0, 0.01, 0.1, 0.3]))
        elif chance < 0.4:
            await self.await_end()
        else:
            await self.receive()

    async def receive(self) -> None:
        stream, life, model = self.stream, self.life, self.model
        match, words = stream.choice(MATCHES)
        timeout = stream.choice([0, 0, 0.05, 0.2, 0.5])
        began, self.missed = trio.current_time(), None
        try:
            message = await self.receiving(match, timeout)
        except _CancelledReceiveError:
            # If a message came at the same moment, it must still be in the mailbox. Later receives check that.
            return
        except trio.TooSlowError:
            now = trio.current_time()
            waiting = self.matching(match) if self.missed is None else self.missed
            model.expect(
                not waiting, f"{model.who(life)}: receive({words}) overlooked {waiting[:1]}"
            )
            model.expect(
                now >= began + timeout - 1e-9,
                f"{model.who(life)}: receive({words}, timeout={timeout}) timed out after {now - began:g} s",
            )
            model.expect(
                now <= began + timeout + model.slack,
                f"{model.who(life)}: receive({words}, timeout={timeout}) took {now - began:g} s",
            )
            return
        model.expect(
            not life.doomed,
            f"{model.who(life)} got {message!r} after the fatal signal {life.doom!r}",
        )
        for index, waiting_one in enumerate(life.mailbox):
            if match is None or match(waiting_one):
                model.same(life, f"the result of receive({words})", message, waiting_one)
                del life.mailbox[index]
                return
        model.fail(f"{model.who(life)}: receive({words}) returned {message!r}, which nobody sent")

    def matching(self, match: Callable[[Any], bool] | None) -> list[Any]:
        return [message for message in self.life.mailbox if match is None or match(message)]

    async def receiving(self, match: Callable[[Any], bool] | None, timeout: float) -> Any:
        """Receive a message. Sometimes do so in a shielded scope, or while a helper task changes the mailbox."""
        chance = self.stream.random()
        if chance < 0.2:
            with trio.CancelScope(shield=True):
                return await receive(match, timeout=timeout)
        if chance < 0.35:
            return await self.cancelled_receive(match, timeout)
        if chance < 0.75 or not timeout:
            return await receive(match, timeout=timeout)
        late: trio.TooSlowError | None = None
        message = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.flushes)
            try:
                message = await receive(match, timeout=timeout)
            except trio.TooSlowError as error:
                # Look now, because other messages may arrive before the nursery ends.
                late, self.missed = error, self.matching(match)
            except ProcessKilled:
                # Catch ProcessKilled here. Otherwise the nursery would put it into an exception group.
                nursery.cancel_scope.cancel()
            nursery.cancel_scope.cancel()
        if self.life.doomed:
            await trio.lowlevel.checkpoint()
        if late is not None:
            raise late
        return message

    async def cancelled_receive(self, match: Callable[[Any], bool] | None, seconds: float) -> Any:
        """Receive without a time limit, in a scope that ends after some seconds."""
        with trio.move_on_after(seconds):
            return await receive(match)
        if self.life.doomed:
            await trio.lowlevel.checkpoint()
        raise _CancelledReceiveError

    async def flushes(self) -> None:
        """Remove links and monitors, and sometimes their messages. Runs in a helper task."""
        for _ in range(2):
            await trio.sleep(0.02)
            if not self.life.doomed:
                self.stream.choice([self.unlink, self.demonitor])()

    async def await_end(self) -> None:
        pid = self.play.someone(self.stream)
        if pid is None or pid is self.life.pid:
            return
        life = self.model.lives.get(pid)
        with trio.move_on_after(self.stream.choice([0, 0.2, 1])):
            reason = await wait_exit(pid)
            self.model.same(
                pid, "the result of wait_exit", reason, NOPROC if life is None else life.reason
            )
            self.model.expect(
                not self.life.doomed,
                f"{self.model.who(self.life)} returned from wait_exit after a kill",
            )

    # Acting

    def act(self) -> None:
        action = self.stream.choice(ACTIONS)
        action(self)

    def send(self) -> None:
        self.play.send(self.stream)

    def look_up(self) -> None:
        self.play.look_up(self.stream)

    def link(self) -> None:
        pid = self.play.someone(self.stream)
        if pid is None:
            return
        life, other = self.life, self.model.lives.get(pid)
        try:
            link(pid)
        except DeadProcess:
            self.model.expect(
                other is None and not life.trapping,
                f"{self.model.who(life)}: link({pid!r}) raised DeadProcess",
            )
            return
        if other is not None:
            self.model.link(life, other)
        elif life.trapping:
            life.mailbox.append(Exit(pid, NOPROC))
        else:
            self.model.fail(f"{self.model.who(life)} linked to {pid!r}, which has ended")

    def unlink(self) -> None:
        links = list(self.life.links)
        exits = [message.pid for message in self.life.mailbox if type(message) is Exit]
        if exits and self.stream.random() < 0.5:
            links = exits
        pid = self.stream.choice(links) if links else self.play.someone(self.stream)
        if pid is not None:
            flush = self.stream.random() < 0.5
            unlink(pid, flush=flush)
            self.model.unlink(self.life, pid, flush=flush)

    def monitor(self) -> None:
        target = self.play.an_address(self.stream)
        found = self.play.resolve(target)
        self.model.monitor(self.life, monitor(target), target, found)

    def demonitor(self) -> None:
        life, flush = self.life, self.stream.random() < 0.5
        refs: list[Ref] = [*life.watching, *(m.ref for m in life.mailbox if type(m) is Down)]
        if not refs:
            return
        ref = self.stream.choice(refs)
        expected = self.model.demonitor(life, ref, flush=flush)
        self.model.same(
            life, f"demonitor({ref!r}, flush={flush})", demonitor(ref, flush=flush), expected
        )

    def trap(self) -> None:
        flag = self.stream.random() < 0.6
        self.model.same(self.life, "the old trap_exits", trap_exits(flag), self.life.trapping)
        self.life.trapping = flag

    def signal(self) -> None:
        pid = self.play.someone(self.stream)
        if pid is None:
            return
        # Most signals must not be fatal, because links and monitors end with their processes.
        reason = self.stream.choice(REASONS) if self.stream.random() < 0.4 else NORMAL
        life = self.life
        self.model.signal(life.pid, self.model.lives.get(pid), reason, linked=False)
        if reason is KILL and self.stream.random() < 0.5:
            kill(pid)
        else:
            send_exit(pid, reason)
        self.model.expect(not life.doomed, f"{self.model.who(life)} goes on after it ended itself")

    def exit(self) -> None:
        life, how = self.life, self.stream.randrange(9)
        if how > 4:
            return
        if how == 0:
            life.ending = reason = self.stream.choice(REASONS)
            exit(reason)
        if how in (1, 2):
            error = a_group(self.stream, self.label)
            life.ending = reason_in(error)
            raise error
        failure = ValueError(f"{self.label} fails")
        life.ending = Crash(failure)
        raise failure

    def name(self) -> None:
        name, life = self.stream.choice(NAMES), self.life
        free = life.name is None and name not in self.model.names
        try:
            register(name)
        except NameTaken as error:
            holder = self.model.names.get(name, life)
            self.model.same(life, f"the holder of {name!r}", error.pid, holder.pid)
            self.model.expect(
                not free, f"{self.model.who(life)} did not get the free name {name!r}"
            )
        else:
            self.model.expect(free, f"{self.model.who(life)} got the name {name!r}, which is taken")
            self.model.give_name(life, name)

    def free_name(self) -> None:
        self.play.free_name(self.stream)

    def alias(self) -> None:
        once = self.stream.random() < 0.5
        self.play.posts.append(Post(alias(once=once), self.life, once))

    def unalias(self) -> None:
        if not self.play.posts:
            return
        post = self.stream.choice(self.play.posts[-6:])
        expected = post.owner is self.life
        self.model.same(self.life, f"unalias({post.address!r})", unalias(post.address), expected)
        if expected:
            post.owner = None

    def clean_up(self) -> None:
        life, play = self.life, self.play
        play.count += 1
        number, fails = play.count, self.stream.random() < 0.2
        if self.forgets and self.stream.random() < 0.4:
            number, forget = self.forgets.pop()
            forget()
            life.cleanups.remove(number)
            return

        def cleanup() -> None:
            life.cleaned.append(number)
            if fails:
                play.failed_cleanups += 1
                raise OSError("a clean-up that fails")

        self.forgets.append((number, on_exit(cleanup)))
        life.cleanups.append(number)

    def remember(self) -> None:
        self.model.same(self.life, "its process_dictionary", process_dictionary(), self.words)
        word = self.stream.choice("xyz")
        process_dictionary()[word] = self.words[word] = self.stream.random()
        self.life.label = f"{self.label}{word}"
        set_label(self.life.label)

    def spawn(self) -> None:
        if len(self.model.lives) < MOST:
            start(self.play, self.stream, self.life)

    def resist(self) -> None:
        grace = self.play.world.knobs.kill_grace
        self.life.stubborn = self.stream.choice([0, 0, 0, grace / 2, grace * 2])


def a_group(stream: Random, label: str, depth: int = 0) -> BaseExceptionGroup[BaseException]:
    """Return a random exception group, as nurseries raise them: errors, exits, kills and nested groups."""
    parts: list[BaseException] = []
    for number in range(stream.choice((1, 1, 2, 2, 3))):
        kind = stream.choice(("error", "exit", "exit", "kill", "group"))
        if kind == "group" and depth < 2:
            parts.append(a_group(stream, label, depth + 1))
        elif kind == "exit":
            # Use only two reasons, so that some groups contain several exits with the same reason.
            parts.append(ProcessExit(stream.choice((SHUTDOWN, "odd"))))
        elif kind == "kill":
            parts.append(ProcessKilled("another process"))
        else:
            parts.append(ValueError(f"{label} fails, {number}"))
    return BaseExceptionGroup("of a nursery", parts)


def reason_in(group: BaseExceptionGroup[BaseException]) -> Any:
    """Return the documented exit reason for an exception group."""
    left = [each for each in leaves(group) if not isinstance(each, ProcessKilled)]
    reasons = [each.reason for each in left if isinstance(each, ProcessExit)]
    if reasons and len(reasons) == len(left) and len(set(reasons)) == 1:
        return reasons[0]
    return Crash(left[0] if len(left) == 1 else group)


def leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for part in error.exceptions for leaf in leaves(part)]
    return [error]


ACTIONS: tuple[Callable[[Puppet], None], ...] = (
    *(Puppet.send, Puppet.send, Puppet.send, Puppet.send, Puppet.look_up),
    *(Puppet.link, Puppet.link, Puppet.link, Puppet.unlink, Puppet.unlink),
    *(Puppet.monitor, Puppet.monitor, Puppet.monitor, Puppet.demonitor, Puppet.demonitor),
    *(Puppet.trap, Puppet.trap, Puppet.signal, Puppet.exit, Puppet.spawn, Puppet.spawn),
    *(Puppet.name, Puppet.free_name, Puppet.alias, Puppet.unalias, Puppet.clean_up),
    *(Puppet.clean_up, Puppet.remember, Puppet.resist),
)


def _is_note(message: Any) -> bool:
    return isinstance(message, tuple)


MATCHES: tuple[tuple[Callable[[Any], bool] | None, str], ...] = (
    (None, "anything"),
    (None, "anything"),
    (_is_note, "a note"),
    (lambda message: _is_note(message) and message[1] % 3 == 0, "every third note"),
    (lambda message: isinstance(message, Exit), "an Exit"),
    (lambda message: isinstance(message, Down), "a Down"),
)


def start(play: Play, stream: Random, parent: Life | None) -> None:
    """Start a process with a random start function. The caller is a process, or a task if `parent` is None."""
    model = play.model
    play.count += 1
    puppet = Puppet(play, f"puppet{play.count}")
    name = stream.choice(NAMES) if stream.random() < 0.3 else None
    verbs: list[Any] = [spawn] if parent is None else [spawn, spawn_link, spawn_monitor]
    verb, ref = stream.choice(verbs), None
    try:
        made = verb(puppet.run, name=name, label=puppet.label)
    except AlreadyStarted as error:
        holder = model.names.get(name)
        model.same(
            f"{verb.__name__}(name={name!r})", "the holder", error.pid, holder and holder.pid
        )
        return
    pid, ref = made if verb is spawn_monitor else (made, None)
    model.expect(name not in model.names, f"{model.who(pid)} started with the taken name {name!r}")
    puppet.life = model.born(pid, puppet.label, parent=parent, link=verb is spawn_link)
    if name is not None:
        model.give_name(puppet.life, name)
    if ref is not None and parent is not None:
        model.monitor(parent, ref, pid, puppet.life)


async def adopted(play: Play, stream: Random) -> None:
    """Make this task a process for a while."""
    model = play.model
    play.count += 1
    puppet = Puppet(play, f"adopted{play.count}")
    puppet.adopted = True

    seconds = stream.choice([0.5, 1, 3]) if stream.random() < 0.4 else math.inf
    result = None

    async def run() -> str:
        puppet.life = model.born(current_pid(), puppet.label)
        puppet.life.cancelled_at = trio.current_time() + seconds
        await puppet.run()
        return "its result"

    try:
        with trio.move_on_after(seconds) as scope:
            result = await adopt(run, label=puppet.label)
    except ProcessFailed as error:
        life = puppet.life
        model.same(life, "the reason of ProcessFailed", error.reason, life.reason)
        model.expect(not is_normal_exit(life.reason), f"{model.who(life)} failed after a clean end")
    except (ValueError, BaseExceptionGroup):
        model.expect(type(puppet.life.reason) is Crash, f"{model.who(puppet.life)} did not crash")
    else:
        life = puppet.life
        if scope.cancelled_caught:
            # If a fatal signal came at the same moment, the cancellation takes precedence over ProcessFailed.
            play.world.sometimes("an adopted task was cancelled")
            model.expect(not life.alive, f"{model.who(life)} outlived its cancelled task")
            return
        model.expect(
            is_normal_exit(life.reason), f"{model.who(life)} ended with {life.reason!r} silently"
        )
        returned = life.ending is NORMAL and not life.doomed and result is not None
        model.same(life, "the result of adopt", result, "its result" if returned else None)


async def adopted_with_helpers(play: Play, stream: Random) -> None:
    """Cancel an adopted task that has two helper tasks. One helper may fail in its clean-up."""
    model, fails = play.model, stream.random() < 0.6
    play.count += 1
    label = f"adopted{play.count}"
    lives: list[Life] = []
    error = ValueError(f"a helper of {label} fails")

    async def helper() -> None:
        try:
            await trio.sleep_forever()
        finally:
            if fails:
                raise error

    async def run() -> None:
        lives.append(life := model.born(current_pid(), label))
        # The cancellation alone must not count as a crash.
        life.ending = Crash(error) if fails else SHUTDOWN
        async with trio.open_nursery() as nursery:
            nursery.start_soon(helper)
            nursery.start_soon(trio.sleep_forever)

    try:
        with trio.move_on_after(stream.choice([0.1, 1])):
            await adopt(run, label=label)
    except ProcessFailed as failed:
        model.same(label, "the reason of ProcessFailed", failed.reason, lives[0].reason)
    except BaseExceptionGroup as group:
        model.expect(leaves(group) == [error], f"{label} raised {group!r}; expected {error!r}")


async def scoped(play: Play, stream: Random) -> None:
    """Run a process that the runtime stops at the end of a block."""
    model = play.model
    play.count += 1
    label = f"scoped{play.count}"
    kind = stream.choice(["obeys", "ignores", "ends", "crashes", "exits"])
    shutdown, early = stream.choice([0.0, 0.1, 5.0]), stream.random() * 2

    async def run() -> None:
        if kind == "ignores":
            trap_exits()
            life.trapping = True
        if kind in ("obeys", "ignores"):
            await trio.sleep_forever()
        await trio.sleep(early)
        if life.doomed:
            await trio.lowlevel.checkpoint()
        error = ValueError(f"{label} fails")
        life.ending = {"crashes": Crash(error), "exits": "odd"}.get(kind, NORMAL)
        if kind == "exits":
            exit("odd")
        if kind == "crashes":
            raise error

    left_at: float | None = None
    try:
        async with scoped_spawn(run, label=label, shutdown=shutdown) as pid:
            life = model.born(pid, label)
            await trio.sleep(stream.random() * 2)
            model.expect(
                life.alive or is_normal_exit(life.reason),
                f"{model.who(life)} failed with {life.reason!r}, and the body of its block went on",
            )
            if life.alive:
                left_at = trio.current_time()
                model.signal(play.world.runtime.pid, life, SHUTDOWN, linked=False)
                if not life.doomed:
                    # The process traps SHUTDOWN, so the block kills it after the time limit.
                    life.killed_at = left_at + shutdown
                    play.world.sometimes("a block killed its process")
    except ProcessFailed as error:
        model.same(life, "the reason of ProcessFailed", error.reason, life.reason)
        model.expect(
            left_at is None, f"{model.who(life)} ended with its block, and the block failed"
        )
        model.expect(not is_normal_exit(life.reason), f"{model.who(life)} ended cleanly and failed")
    else:
        clean = left_at is not None or is_normal_exit(life.reason)
        model.expect(clean, f"{model.who(life)} failed, and its block did not raise")
    model.expect(not life.alive, f"{model.who(life)} outlived its block")


async def outside(play: Play, stream: Random) -> None:
    """Use the functions that every task may call. Compare the whole model while no process can run."""
    actions = (play.send, play.send, play.look_up, play.free_name, play.name_another, play.signal)
    while trio.current_time() < play.until + 1:
        await trio.sleep(stream.choice([0, 0.02, 0.1, 0.2]))
        if len(play.model.lives) < 4 and trio.current_time() < play.until:
            start(play, stream, None)
        stream.choice(actions)(stream)
        if stream.random() < 0.3:
            await play.world.settle()
            play.model.rest()


async def helper_cannot_receive(play: Play) -> None:
    """Check that a helper task cannot read the mailbox of its process."""

    async def helper() -> None:
        try:
            await receive(timeout=0)
        except InvalidOperation:
            return
        play.model.fail("a helper task read the mailbox of its process")

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(helper)
        life.ending = NORMAL

    life = play.model.born(spawn(run, label="with a helper"), "with a helper")


@scenario()
@small_bounds
async def processes(world: World) -> None:
    """Run some processes that act at random, and compare them with the model."""
    play = Play(world)
    with play.model:
        await run(play)
    world.check(play.model.problem is None, str(play.model.problem))


async def run(play: Play) -> None:
    world, model = play.world, play.model
    stream = world.random("outside")
    async with trio.open_nursery() as nursery:
        play.nursery = nursery
        for _ in range(4):
            start(play, stream, None)
        if stream.random() < 0.2:
            await helper_cannot_receive(play)
        nursery.start_soon(outside, play, stream)
        if stream.random() < 0.5:
            nursery.start_soon(adopted, play, world.random("adopted"))
        if stream.random() < 0.3:
            nursery.start_soon(adopted_with_helpers, play, world.random("adopted with helpers"))
        if stream.random() < 0.5:
            nursery.start_soon(scoped, play, world.random("scoped"))
    await trio.sleep(2 * world.knobs.kill_grace + 1)
    await world.settle()
    play.model.rest()
    model.same("the runtime", "the crash events", play.events["crash"], model.crashes)
    model.same("the runtime", "the dead letters", play.events["dead_letter"], model.dead_letters)
    model.same(
        "the runtime", "failed clean-ups", play.events["cleanup_failed"], play.failed_cleanups
    )
    model.same("the runtime", "the zombies", world.runtime.statistics()["zombies"], 0)
    left = [life for life in model.lives.values() if life.ending is UNDECIDED and not life.doomed]
    model.expect(not left, f"{[model.who(life) for life in left]} did not end")
    world.sometimes("a process crashed", model.crashes)
    world.sometimes("a message was a dead letter", model.dead_letters)

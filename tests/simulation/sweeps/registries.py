"""Registries with unique and duplicate keys, listeners, locks and owners. A model predicts their entries."""

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
    AlreadyStarted,
    InvalidOperation,
    KeyTaken,
    NameTaken,
    NoSuchName,
    NotRegistered,
    Registered,
    Registry,
    RegistryClosed,
    Unregistered,
    receive,
    register,
    send,
    send_exit,
    spawn,
    stop,
    trap_exits,
    unregister,
    whereis,
)
from actors.exits import ExitReason
from supervision.laboratory.simulation.world.world import World
from tests.laws.scenarios import scenario
from tests.simulation.sweeps.bounds import small_bounds
from tests.simulation.sweeps.model import UNDECIDED, Life, Model

__all__ = ["registries"]

# The keys 1, 1.0 and True are equal in a dict, but they are different keys of a registry.
KEYS: tuple[Any, ...] = ("a", "b", 1, 1.0, True, ("a", 1), ("a", 1.0))

LOCKED: tuple[Any, ...] = ("a", 1, 1.0)


@define(eq=False)
class Row:
    """One entry in the model."""

    key: Any
    life: Life
    value: Any

    @property
    def seen(self) -> tuple[Any, Any, Any]:
        return (_strict(self.key), self.life.pid, self.value)


def _strict(key: Any) -> Any:
    if isinstance(key, tuple):
        return tuple(map(_strict, key))
    return type(key).__name__, key


class Book:
    """The model of one registry."""

    def __init__(self, library: Library, kind: Any, stream: Random) -> None:
        self.library = library
        self.model = library.model
        self.unique = kind == "unique"
        self.notifies = stream.random() < 0.5
        self.registry: Registry[Any, Any] = Registry(
            kind,
            name=f"{kind} book",
            partitions=stream.choice([1, 1, 3]),
            listeners=["listener", "nobody"],
            notify_on_exit=self.notifies,
        )
        self.rows: list[Row] = []
        self.meta: dict[Any, Any] = {}
        self.owner: Life | None = None
        self.closed = False
        # True while a new owner starts. The registry opens during the start.
        self.opening = False
        # `locks` lists the holder of each lock, then the waiting processes. `held` has the processes that have a lock.
        self.locks: dict[Any, list[Life]] = {}
        self.held: dict[Any, Life] = {}

    def of(self, key: Any) -> list[Row]:
        return [row for row in self.rows if _strict(row.key) == _strict(key)]

    def tell(self, kind: type, row: Row) -> None:
        listener = self.model.names.get("listener")
        if listener is not None:
            listener.mailbox.append(kind(self.registry, row.key, row.life.pid, row.value))

    def add(self, key: Any, life: Life, value: Any) -> None:
        row = Row(key, life, value)
        self.rows.append(row)
        self.tell(Registered, row)

    def drop(self, rows: list[Row]) -> None:
        for row in rows:
            self.rows.remove(row)
            self.tell(Unregistered, row)

    def ends(self, life: Life) -> None:
        """Remove the entries of a process that has ended. Close the registry if the process was its owner."""
        for row in [each for each in self.rows if each.life is life]:
            self.rows.remove(row)
            if self.notifies:
                self.tell(Unregistered, row)
        if life is self.owner:
            self.owner, self.closed = None, True
            self.meta = {}
            registrants = list(dict.fromkeys(row.life for row in self.rows))
            self.rows = []
            reason = SHUTDOWN if life.reason is NORMAL else life.reason
            for each in registrants:
                self.model.signal(life.pid, each, reason, linked=True)
            self.library.world.sometimes("a registry was closed")

    def rest(self) -> None:
        """Check that no task waits for a free lock. Call this only while all tasks are blocked."""
        for tag, waiting in self.locks.items():
            first = waiting[0] if waiting else None
            self.model.expect(
                first is None or first.doomed or self.held.get(tag) is first or self.closed,
                f"{first and self.model.who(first)} waits for the lock of {tag!r} in {self.registry!r}, which is free",
            )

    # Comparison

    def compare(self, stream: Random) -> None:
        """Call a random function that reads the registry, and compare its result with the model."""
        registry, key, model = self.registry, stream.choice(KEYS), self.model
        rows, who = self.of(key), repr(self.registry)
        someone = (
            stream.choice(list(model.lives)) if model.lives else self.library.world.runtime.pid
        )

        def odd(value: Any) -> bool:
            return bool(value % 2)

        read: dict[str, Callable[[], Any]] = {
            "lookup": lambda: seen(registry.lookup(key)),
            "match": lambda: seen(registry.match(key, odd)),
            "count_match": lambda: registry.count_match(key, odd),
            "select": lambda: sorted(map(repr, seen(registry.select(lambda e: odd(e.value))))),
            "count_select": lambda: registry.count_select(lambda entry: odd(entry.value)),
            "keys": lambda: list(map(_strict, registry.keys(someone))),
            "values": lambda: registry.values(key, someone),
            "count": registry.count,
            "dispatch": lambda: dispatched(registry, key),
            "meta": lambda: dict(registry.meta),
        }
        groups: dict[int, list[Any]] = {}
        for row in rows:
            parts = 1 if self.unique else registry.partitions
            groups.setdefault(row.life.pid.number % parts, []).append(row.seen)
        expected: dict[str, Any] = {
            "lookup": [row.seen for row in rows],
            "match": [row.seen for row in rows if odd(row.value)],
            "count_match": sum(odd(row.value) for row in rows),
            "select": sorted(repr(row.seen) for row in self.rows if odd(row.value)),
            "count_select": sum(odd(row.value) for row in self.rows),
            "keys": [_strict(row.key) for row in self.rows if row.life.pid is someone],
            "values": [row.value for row in rows if row.life.pid is someone],
            "count": len(self.rows),
            "dispatch": [groups[number] for number in sorted(groups)],
            "meta": self.meta,
        }
        if self.unique:
            holder = rows[0].life.pid if rows else None
            read["whereis"] = lambda: registry.whereis(key)
            expected["whereis"] = holder
            model.same(who, f"whereis(via({key!r}))", whereis(registry.via(key)), holder)
        what = stream.choice(list(read))
        try:
            got = read[what]()
        except RegistryClosed:
            model.expect(self.closed, f"{who}: {what} raised RegistryClosed, but it is open")
            return
        opened = self.opening or not self.closed
        model.expect(opened, f"{who}: {what} returned, although the owner has ended")
        model.same(who, f"{what} for {key!r} or {model.who(someone)}", got, expected[what])


def seen(entries: list[Any]) -> list[tuple[Any, Any, Any]]:
    return [(_strict(entry.key), entry.pid, entry.value) for entry in entries]


def dispatched(registry: Registry[Any, Any], key: Any) -> list[Any]:
    groups: list[Any] = []
    registry.dispatch(key, lambda entries: groups.append(seen(entries)))
    return groups


class Library:
    """The registries and processes of one world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.model = Model(world)
        self.count = 0
        self.until = world.params.get("seconds", 6.0)
        stream = world.random("books")
        self.books = [Book(self, "unique", stream), Book(self, "duplicate", stream)]
        self.model.at_end.append(self.ends)

    def ends(self, life: Life) -> None:
        for book in self.books:
            book.ends(life)
            for waiting in book.locks.values():
                if life in waiting:
                    waiting.remove(life)


class Reader:
    """A process that registers itself under keys and takes locks."""

    def __init__(self, library: Library, label: str) -> None:
        self.library = library
        self.model = library.model
        self.label = label
        self.stream = library.world.random(label)
        self.life: Life

    async def run(self) -> None:
        stream, life, library = self.stream, self.life, self.library
        if stream.random() < 0.5:
            trap_exits()
            life.trapping = True
        while trio.current_time() < library.until and stream.random() < 0.97:
            await trio.sleep(stream.choice([0, 0.01, 0.1]))
            if life.doomed:
                await trio.lowlevel.checkpoint()
            await self.reads()
            book, chance = stream.choice(library.books), stream.random()
            if chance < 0.2:
                await self.locks(book)
            elif chance < 0.3:
                book.compare(stream)
            else:
                try:
                    self.act(book)
                except RegistryClosed:
                    self.model.expect(book.closed, f"{book.registry!r} raised RegistryClosed")
        life.ending = NORMAL

    async def reads(self) -> None:
        life = self.life
        while life.mailbox:
            message = await receive(timeout=0)
            known = life.mailbox.pop(0) if life.mailbox else None
            self.model.same(life, "its message", message, known)

    def act(self, book: Book) -> None:
        stream, life, registry, model = self.stream, self.life, book.registry, self.model
        key, chance = stream.choice(KEYS), stream.random()
        mine = [row for row in book.of(key) if row.life is life]
        if mine or chance < 0.45:
            if chance < 0.45:
                self.registers(book, key)
            elif chance < 0.65:
                registry.unregister(key)
                book.drop(mine)
                if any(row.life is life for row in book.rows):
                    self.library.world.sometimes("a process kept its other keys")
            elif chance < 0.8:
                limit = stream.randrange(100)
                registry.unregister_match(key, lambda value: value < limit)
                book.drop([row for row in mine if row.value < limit])
            elif book.unique:
                self.updates(book, key, mine[0])
            return
        if chance < 0.55 and book.unique:
            # Any process may unregister an address, not only the holder.
            unregister(registry.via(key))
            book.drop(book.of(key))
        elif chance < 0.7:
            word = stream.choice("xy")
            registry.meta[word] = book.meta[word] = stream.randrange(9)
        elif chance < 0.8 and book.unique:
            self.sends(book, key)
        else:
            try:
                book.unique and registry.update_value(key, lambda value: value)
            except NotRegistered:
                return
            model.expect(not book.unique, f"{model.who(life)} updated {key!r} without having it")

    def registers(self, book: Book, key: Any) -> None:
        stream, life, registry = self.stream, self.life, book.registry
        value, taken = stream.randrange(100), book.of(key) if book.unique else []
        what = f"{self.model.who(life)}: the key {key!r} of {registry!r}"
        try:
            if book.unique and stream.random() < 0.3:
                register(registry.via(key, value))
            else:
                registry.register(key, value)
        except (KeyTaken, NameTaken) as error:
            holder = taken[0].life.pid if taken else None
            self.model.same(what, "the holder", error.pid, holder)
        else:
            self.model.expect(not taken, f"{what} was given twice")
            book.add(key, life, value)

    def updates(self, book: Book, key: Any, row: Row) -> None:
        value = self.stream.randrange(100)
        got = book.registry.update_value(key, lambda old: value)
        self.model.same(self.life, f"update_value({key!r})", got, (value, row.value))
        row.value = value

    def sends(self, book: Book, key: Any) -> None:
        rows = book.of(key)
        self.library.count += 1
        message = ("note", self.library.count)
        try:
            send(book.registry.via(key), message)
        except NoSuchName:
            self.model.expect(not rows, f"send to {key!r} raised NoSuchName, but it has a process")
        else:
            self.model.expect(rows, f"send to the free key {key!r} did not raise")
            for row in rows:
                row.life.mailbox.append(message)

    async def locks(self, book: Book) -> None:
        """Take a lock, and check that the waiting tasks get it in the order of their requests."""
        stream, life, model = self.stream, self.life, self.model
        # There are few keys, so that several tasks wait for one lock.
        key = stream.choice(LOCKED)
        waiting = book.locks.setdefault(_strict(key), [])
        waiting.append(life)
        if len(waiting) > 1:
            self.library.world.sometimes("a task waited for a lock")
        try:
            # Use the same times as the holder, so that many scopes end exactly when the holder releases the lock.
            with trio.move_on_after(stream.choice([math.inf, math.inf, 0, 0.05, 0.2])):
                async with book.registry.lock(key):
                    first = waiting[0]
                    model.expect(
                        first is life, f"{model.who(life)} got the lock of {key!r} out of turn"
                    )
                    model.expect(
                        not life.doomed, f"{model.who(life)} got a lock after {life.doom!r}"
                    )
                    book.held[_strict(key)] = life
                    await trio.sleep(stream.choice([0, 0.05, 0.2]))
                    if life.doomed:
                        await self.unwind()
                    try:
                        async with book.registry.lock(key):
                            model.fail(f"{model.who(life)} got the lock of {key!r} twice")
                    except InvalidOperation:
                        pass
        except RegistryClosed:
            model.expect(book.closed, f"{book.registry!r}: lock raised RegistryClosed")
        finally:
            if life in waiting:
                waiting.remove(life)
            if book.held.get(_strict(key)) is life:
                del book.held[_strict(key)]

    async def unwind(self) -> None:
        """End after a fatal signal. Sometimes hold the lock longer than the kill grace."""
        try:
            await trio.lowlevel.checkpoint()
        finally:
            if self.stream.random() < 0.5:
                self.life.stubborn = 2 * self.library.world.knobs.kill_grace
                with trio.CancelScope(shield=True):
                    await trio.sleep(self.life.stubborn)


def start(library: Library, stream: Random) -> None:
    """Start a process. Often use a key of a registry as its name."""
    model, book = library.model, library.books[0]
    library.count += 1
    reader = Reader(library, f"reader{library.count}")
    key, value = stream.choice(KEYS), stream.randrange(100)
    named = stream.random() < 0.4 and not book.closed
    name = book.registry.via(key, value) if named else None
    taken = book.of(key)
    try:
        pid = spawn(reader.run, name=name, label=reader.label)
    except AlreadyStarted as error:
        model.same(
            f"spawn at {key!r}", "the holder", error.pid, taken[0].life.pid if taken else None
        )
        return
    model.expect(not (named and taken), f"{model.who(pid)} started at the taken key {key!r}")
    reader.life = model.born(pid, reader.label)
    if named:
        book.add(key, reader.life, value)


async def listener(library: Library, me: Callable[[], Life]) -> None:
    """Receive the messages of the registries, in order."""
    model = library.model
    while True:
        message = await receive()
        # Messages of different registries may arrive in any order.
        waiting = me().mailbox
        of_it = [each for each in waiting if each.registry is message.registry]
        model.same(me(), "the message to a listener", message, of_it[0] if of_it else None)
        if of_it:
            index = next(i for i, each in enumerate(waiting) if each is of_it[0])
            del waiting[index]


async def own(library: Library, book: Book) -> None:
    """Start the owner of a registry that has none."""
    if book.owner is not None:
        return
    book.opening = True
    pid = await book.registry.start_link()
    book.opening = False
    book.owner = library.model.born(pid, f"the owner of {book.registry!r}")
    book.closed = False
    library.model.same(book.registry, "its meta after a new start", book.registry.meta, book.meta)


async def disown(library: Library, book: Book, stream: Random) -> None:
    """End the owner of a registry."""
    life, model = book.owner, library.model
    if life is None:
        return
    reason: ExitReason = stream.choice([KILL, NORMAL, SHUTDOWN, "odd"])
    if reason is KILL:
        model.signal(library.world.runtime.pid, life, reason, linked=False)
        send_exit(life.pid, reason)
        return
    if life.doom is not UNDECIDED:
        # It was killed a moment ago, so it ends with that reason, and `stop` would raise it.
        return
    life.ending = reason
    await stop(life.pid, reason)


async def outside(library: Library) -> None:
    stream, model = library.world.random("outside"), library.model
    while trio.current_time() < library.until:
        await trio.sleep(stream.choice([0, 0.03, 0.1]))
        readers = [life for life in model.lives.values() if life.label.startswith("reader")]
        if len(readers) < 5:
            start(library, stream)
            continue
        chance, book = stream.random(), stream.choice(library.books)
        if chance < 0.15:
            holders = [life for each in library.books for life in each.held.values() if life.alive]
            life = stream.choice(holders if holders and stream.random() < 0.5 else readers)
            reason: ExitReason = stream.choice([KILL, NORMAL, "odd", SHUTDOWN])
            model.signal(library.world.runtime.pid, life, reason, linked=False)
            send_exit(life.pid, reason)
        elif chance < 0.18 or book.closed:
            await own(library, book)
        elif chance < 0.21:
            await disown(library, book, stream)
        elif chance < 0.3:
            await library.world.settle()
            for each in library.books:
                each.rest()
                got = [] if each.closed else seen(each.registry.select())
                expected = [row.seen for row in each.rows]
                model.same(
                    each.registry,
                    "its entries",
                    sorted(map(repr, got)),
                    sorted(map(repr, expected)),
                )
        else:
            book.compare(stream)


async def take_every_lock(library: Library) -> None:
    """Check that no lock is lost. After the end of all readers, a task must get every lock immediately."""
    for book in library.books:
        for key in () if book.closed else LOCKED:
            with trio.move_on_after(1) as scope:
                async with book.registry.lock(key):
                    pass
            library.model.expect(
                not scope.cancelled_caught,
                f"nobody holds the lock of {key!r} in {book.registry!r}, but a task does not get it",
            )


@scenario()
@small_bounds
async def registries(world: World) -> None:
    """Use registries at random, and compare them with the model."""
    library = Library(world)
    model = library.model
    with model:
        lives: list[Life] = []
        pid = spawn(listener, library, lambda: lives[0], name="listener", label="listener")
        lives.append(model.born(pid, "listener"))
        model.give_name(lives[0], "listener")
        await outside(library)
        await trio.sleep(1 + 3 * world.knobs.kill_grace)
        await world.settle()
        await take_every_lock(library)
        model.expect(not lives[0].mailbox, f"the listener did not get {lives[0].mailbox[:1]}")
        left = [row for book in library.books for row in book.rows if not row.life.alive]
        model.expect(not left, f"{left} are entries of processes that have ended")
    world.check(model.problem is None, str(model.problem))

"""An observer with pages, in a random program. Each page must show exactly the processes that live.

    ashtree simulate tests.simulation.sweeps.channels.observing:observer_rows --seeds 1-1000

The sweep takes each tick as the script of the page does: it sets the changed rows and removes the rows that have gone.
Then it compares the rows with the table of the runtime: the processes, their labels, their mailboxes and their places
in the tree. It also drives the bounded memory of an observer. Most runs scale the limits of rows and events down.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from random import Random
from typing import Any

import trio

from actors import (
    Pid,
    is_alive,
    kill,
    receive,
    send,
    set_label,
    spawn,
    whereis,
)
from channels import Endpoint, JoinRefused, Socket
from channels.observer import Observer
from channels.observer import memory as memory_module
from channels.observer import model as model_module
from channels.observer.memory import Memory
from channels.observer.model import Changes, Entry, Model, View, changes
from channels.testing import ChannelTest, TestChannel, open_channel_test
from supervision import Supervisor
from supervision.laboratory.simulation.world.world import World
from tests.laws.scenarios import scenario

__all__ = ["observed_program", "observer_rows"]

_PATH = "/_ashtree/observer/socket"

SORTS = ("Worker", "Room", "Job")
INTERNAL = "Ashtree's own processes"


@contextmanager
def _small(random: Random) -> Iterator[dict[str, int]]:
    """Scale the limits down in most runs. Yield the limits."""
    names = {
        (model_module, "CROWD"): (2, 3, 12),
        (model_module, "PAGE"): (2, 4, 40),
        (model_module, "MAX_ROWS"): (5, 12, 400, 400),
        (model_module, "MAX_FOUND"): (1, 3, 100),
        (memory_module, "MAX_EVENTS"): (3, 10, 500),
        (memory_module, "MAX_CRASHES"): (1, 3, 100),
    }
    before = {key: getattr(*key) for key in names}
    limits = {}
    for (module, name), values in names.items():
        limits[name] = random.choice(values)
        setattr(module, name, limits[name])
    try:
        yield limits
    finally:
        for (module, name), value in before.items():
            setattr(module, name, value)


class Tree:
    """Living processes as the sweep knows them: parent, label and mailbox. Some are internal to an endpoint."""

    def __init__(self) -> None:
        self.parents: dict[int, tuple[int, ...]] = {}
        self.labels: dict[int, str] = {}
        self.internal: set[int] = set()
        self.mailboxes: dict[int, int] = {}

    def parent_of(self, number: int) -> int | None:
        """Return the nearest living ancestor."""
        return next((each for each in self.parents[number] if each in self.labels), None)

    def siblings(self, number: int) -> list[int]:
        """Return the processes with the same parent and sort."""
        parent, sort = self.parent_of(number), self.sort(number)
        return [
            each
            for each in self.labels
            if self.parent_of(each) == parent and self.sort(each) == sort
        ]

    def sort(self, number: int) -> str:
        return INTERNAL if number in self.internal else self.labels[number].split()[0]

    def mail_within(self, members: list[int]) -> int:
        """Return the number of messages that wait for some processes and for all processes below them."""
        within = set(members)
        return sum(
            length
            for number, length in self.mailboxes.items()
            if number in within or not within.isdisjoint(self.parents[number])
        )


class Rows:
    """A model of processes under test, and a page that follows it by changes."""

    def __init__(self, world: World, limits: dict[str, int]) -> None:
        self.world = world
        self.random = world.random("rows")
        self.limits = limits
        self.model = Model()
        self.tree = Tree()
        self.view = View()
        self.page: dict[str, dict[str, Any]] = {}
        self.sent: dict[str, dict[str, Any]] = {}
        self.number = 0

    def check(self, holds: object, problem: str) -> None:
        self.world.check(holds, f"with {self.limits} and {self.view}: {problem}")

    def step(self) -> None:
        random, tree = self.random, self.tree
        living = list(tree.labels)
        kinds = ("add", "remove", "label", "internal", "mail", "view")
        what = random.choices(kinds, (6, 3, 2, 1, 3, 2))[0]
        if what == "add" or not living:
            self.add(random.choice(living) if living and random.random() < 0.6 else None)
        elif what == "remove":
            number = random.choice(living)
            self.model.remove(number)
            del tree.labels[number]
            tree.mailboxes.pop(number, None)
            tree.internal.discard(number)
        elif what == "label":
            number = random.choice(living)
            tree.labels[number] = f"{random.choice(SORTS)} {number}"
            self.model.describe(self.model.entries[number], tree.labels[number], None)
        elif what == "internal":
            number = random.choice(living)
            tree.internal ^= {number}
            is_internal = number in tree.internal
            self.model.set_internal(self.model.entries[number], is_internal=is_internal)
        elif what == "mail":
            tree.mailboxes = {
                each: random.randint(1, 9) for each in living if random.random() < 0.3
            }
            self.model.set_mailboxes(tree.mailboxes)
        else:
            keys = [row["key"] for row in self.page.values()]
            self.view.update(
                {
                    "open": [key for key in keys if key[0] == "g" and random.random() < 0.7],
                    "folded": [key for key in keys if random.random() < 0.1],
                    "search": random.choice(("", "", "", "Room", "1", "nobody")),
                }
            )

    def add(self, parent: int | None) -> None:
        self.number += 1
        number, tree = self.number, self.tree
        ancestors = () if parent is None else (parent, *tree.parents[parent])
        tree.parents[number] = ancestors
        tree.labels[number] = f"{self.random.choice(SORTS)} {number}"
        entry = Entry(number=number, ancestors=ancestors, label=tree.labels[number], born=1.0)
        self.model.add(entry)

    def compare(self) -> None:
        """Send the changes to the page, and compare the page with the tree."""
        after = self.model.rows(self.view, lambda number: f"status {number}")
        difference: Changes = changes(self.sent, after)
        self.sent = after
        for row in difference.set:
            self.page[row["key"]] = row
        for key in difference.gone:
            self.page.pop(key, None)
        self.check(self.page == after, "the page shows other rows than the model")
        self.check(
            len(self.page) <= self.limits["MAX_ROWS"] + 1, f"there are {len(self.page)} rows"
        )
        if "more" in self.page:
            self.world.sometimes("a page has more rows than it shows")
        for row in self.page.values():
            self.compare_row(row)
        if not self.view.search and "more" not in self.page:
            self.compare_all()
        elif self.view.search and "more" not in self.page:
            self.compare_found()

    def compare_row(self, row: dict[str, Any]) -> None:
        tree, kind = self.tree, row["type"]
        parent = row["parent"]
        self.check(parent is None or parent in self.page, f"{row} is below a row that is not there")
        if kind == "process":
            number = row["pid"]
            self.check(number in tree.labels, f"{row} shows a process that has ended")
            self.check(row["title"] == tree.labels[number], f"{row} has an old label")
            wanted = tree.mailboxes.get(number, 0)
            self.check(row["mailbox"] == wanted, f"{row} has {wanted} messages")
            self.check(row["status"] == f"status {number}", f"{row} has the status of another")
            above = tree.parent_of(number)
            key = None if above is None else f"p{above}"
            while parent is not None and self.page[parent]["type"] == "group":
                parent = self.page[parent]["parent"]
            self.check(parent == key, f"{row} should be below {key}")
            below = any(tree.parent_of(each) == number for each in tree.labels)
            self.check(row["children"] == below, f"{row} has children: {below}")
        elif kind == "group":
            above = 0 if row["parent"] is None else self.page[row["parent"]]["pid"]
            members = [
                each
                for each in tree.labels
                if (tree.parent_of(each) or 0) == above and tree.sort(each) == row["title"]
            ]
            self.check(row["count"] == len(members), f"{row} has {len(members)} members")
            # A closed group hides the processes below its members, so it counts their messages, too.
            mail = tree.mail_within(members)
            self.check(row["mailbox"] == mail, f"{row} has {mail} messages")
            if mail > sum(tree.mailboxes.get(each, 0) for each in members):
                self.world.sometimes("messages wait below a group")
            if row["title"] == INTERNAL:
                self.world.sometimes("internal processes are a group")
            self.check(self.is_group(members), f"{row} is too small for a group")

    def is_group(self, siblings: list[int]) -> bool:
        """Return True if siblings of one sort are a group: if they are many, or internal."""
        return len(siblings) > self.limits["CROWD"] or self.tree.sort(siblings[0]) == INTERNAL

    def compare_all(self) -> None:
        """Check that each process is shown, or belongs to a closed group or below a folded or hidden process."""
        tree = self.tree
        for number in tree.labels:
            siblings = tree.siblings(number)
            above = tree.parent_of(number)
            shown = above is None or (
                f"p{above}" in self.page and f"p{above}" not in self.view.folded
            )
            group = f"g{above or 0}:{tree.sort(number)}"
            is_group = self.is_group(siblings)
            self.check((group in self.page) == (shown and is_group), f"the group {group} is wrong")
            if shown and not is_group:
                self.check(f"p{number}" in self.page, f"the process {number} is not shown")
            if is_group and group not in self.view.open:
                self.check(f"p{number}" not in self.page, f"{number} is in a closed group")
            if shown and is_group and group in self.view.open:
                self.compare_members(group, siblings)

    def compare_members(self, group: str, members: list[int]) -> None:
        most = self.limits["PAGE"]
        shown = [each for each in members if f"p{each}" in self.page]
        self.check(len(shown) == min(most, len(members)), f"{group} shows {shown} of {members}")
        is_cut = f"{group}:more" in self.page
        self.check(is_cut == (len(members) > most), f"{group} shows {shown} of {members}")
        longest = sorted((self.tree.mailboxes.get(each, 0) for each in members), reverse=True)
        top = [each for each in longest[: most // 2] if each]
        got = sorted((self.tree.mailboxes.get(each, 0) for each in shown), reverse=True)
        self.check(got[: len(top)] == top, f"{group} does not show its longest mailboxes {top}")

    def compare_found(self) -> None:
        search = self.view.search
        matches = [
            each
            for each, label in self.tree.labels.items()
            if search in label.lower() or search == f"{each}" or search in f"<pid {each}>"
        ]
        found = [row["pid"] for row in self.page.values() if row.get("found")]
        wanted = min(len(matches), self.limits["MAX_FOUND"])
        self.check(set(found) <= set(matches), f"the search found {found}; only {matches} match")
        # A match that was already shown as an ancestor of another match has no mark of its own.
        shown = [each for each in matches if f"p{each}" in self.page]
        self.check(len(shown) >= wanted, f"the search shows {shown} of {matches}")


class Events:
    """The bounded memory of an observer, and pages that read it since their last event."""

    def __init__(self, world: World, limits: dict[str, int]) -> None:
        self.world = world
        self.random = world.random("events")
        self.limits = limits
        self.memory = Memory()
        self.all: list[int] = []
        self.crashes: list[int] = []
        self.last = 0

    def step(self) -> None:
        random = self.random
        for _ in range(random.choice((1, 1, 3))):
            record = self.memory.add(trio.current_time(), "started", first=not self.all)
            self.all.append(record["n"])
        if random.random() < 0.5:
            pid = random.randint(1, 6)
            self.memory.add_crash(pid, {"at": len(self.all)})
            self.crashes = [*(each for each in self.crashes if each != pid), pid]
        if random.random() < 0.5:
            got = [event["n"] for event in self.memory.since(self.last)]
            kept = self.all[-self.limits["MAX_EVENTS"] :]
            wanted = [each for each in kept if each > self.last]
            self.world.check(got == wanted, f"since {self.last}, a page got {got}, not {wanted}")
            self.last = self.memory.last
        wanted = self.crashes[-self.limits["MAX_CRASHES"] :]
        self.world.check(
            list(self.memory.crashes) == wanted,
            f"the crashes of {list(self.memory.crashes)} are kept, not {wanted}",
        )
        numbers = list(range(1, len(self.all) + 1))
        self.world.check(self.all == numbers, f"the events have the numbers {self.all}")


@scenario(params={"operations": 80}, invariants=())
async def observer_rows(world: World) -> None:
    """Change a tree of processes at random, and compare the rows of a page with the tree."""
    with _small(world.random("limits")) as limits:
        rows, events = Rows(world, limits), Events(world, limits)
        for _ in range(world.params["operations"]):
            rows.step()
            if rows.random.random() < 0.4:
                rows.compare()
            events.step()
        rows.compare()


# The whole observer


class Watched:
    """An endpoint with an observer, a random program, and the pages that watch it."""

    def __init__(self, world: World, endpoint: Endpoint, case: ChannelTest) -> None:
        self.world = world
        self.random = world.random("program")
        self.endpoint = endpoint
        self.case = case
        self.changed_at = 0.0
        self.runtime = world.runtime
        self.number = 0
        self.own: list[Pid] = []
        # The supervisor of the endpoint, which is the parent of the watcher.
        watcher = whereis((endpoint, "observer"))
        about = None if watcher is None else self.runtime.process_info(watcher)
        assert about is not None  # the endpoint has just started it
        self.supervisor: Pid = about["parent"]
        self.pages: list[Page] = []
        self.crashes: list[int] = []
        world.runtime.telemetry.attach(("actors", "process", "crash"), self.crashed)

    def crashed(self, event: Any, measurements: Any, about: Any) -> None:
        self.crashes.append(about["pid"].number)

    async def puppet(self) -> None:
        while True:
            message = await receive()
            self.changed_at = trio.current_time()
            match message:
                case "crash":
                    raise LookupError("a crash of the sweep")
                case "end":
                    return
                case "label":
                    self.number += 1
                    set_label(f"Job {self.number}")
                case "child":
                    self.start()
                case "sleep":
                    await trio.sleep(2.37)

    def start(self) -> None:
        self.number += 1
        self.own.append(spawn(self.puppet, label=f"Worker {self.number}"))

    @property
    def group(self) -> str:
        """The key of the row of the endpoint's internal processes."""
        return f"g{self.supervisor.number}:{INTERNAL}"

    async def connect(self, observer: Observer) -> None:
        opens = self.random.random() < 0.5
        try:
            client = await self.case.connect(_PATH, {"ticket": observer.access.ticket()})
            view = {"open": [self.group]} if opens else {}
            first, channel = await client.subscribe_and_join("observer", view)
        except (JoinRefused, AssertionError):
            # The watcher is restarting.
            return
        self.pages.append(Page(channel, first, opens=opens))

    async def act(self, observer: Observer) -> None:
        random = self.random
        living = [pid for pid in self.own if is_alive(pid)]
        what = random.choices(
            ("start", "order", "kill", "page", "leave", "watcher", "wait"), (3, 7, 1, 1, 1, 0.2, 3)
        )[0]
        if what == "start" or not living:
            self.start()
        elif what == "order":
            orders = ("crash", "end", "label", "child", "sleep", "sleep", "note")
            send(random.choice(living), random.choice(orders))
        elif what == "kill":
            kill(random.choice(living))
        elif what == "page" and len(self.pages) < 3:
            await self.connect(observer)
        elif what == "leave" and self.pages:
            page = self.pages.pop(random.randrange(len(self.pages)))
            page.channel.leave()
        elif what == "watcher":
            watcher = whereis((self.endpoint, "observer"))
            if watcher is not None:
                kill(watcher)
                self.world.sometimes("the watcher was killed")
        else:
            await trio.sleep(random.choice((0, 0.2, 0.7)))

    async def compare(self) -> None:
        """Wait until nothing has happened for two ticks. Then compare the rows of each page with the runtime."""
        self.changed_at = trio.current_time()
        for _ in range(100):
            due = self.changed_at + 1.3
            if trio.current_time() >= due:
                break
            await trio.sleep_until(due)
            # A process may wake at this very time.
            await self.world.settle()
        children = await Supervisor.which_children(self.supervisor)
        # All children of the endpoint are internal, but for those that run code of the application.
        internal = {
            child.pid.number
            for child in children
            if isinstance(child.pid, Pid)
            and child.id not in ("children", f"{UserSocket.__name__} channels")
        }
        for page in self.pages:
            await page.take_all()
        living = {pid.number: self.runtime.process_info(pid) for pid in self.runtime.processes()}
        folded = {
            number
            for number, info in living.items()
            if number in internal
            or (info is not None and any(each.number in internal for each in info["ancestors"]))
        }
        for page in self.pages:
            shown = {row["pid"]: row for row in page.rows.values() if row["type"] == "process"}
            wanted = living.keys() if page.opens else living.keys() - folded
            self.world.check(
                shown.keys() == wanted,
                f"a page shows {sorted(shown)} in place of {sorted(wanted)}, and {sorted(living)} live",
            )
            name = "open" if page.opens else "closed"
            self.world.sometimes(f"a page with {name} internal processes was compared")
            group = page.rows.get(self.group)
            self.world.check(
                group is not None and group["count"] == len(internal),
                f"the row of the internal processes {sorted(internal)} is {group}",
            )
            for pid in self.own:
                row, info = shown.get(pid.number), living.get(pid.number)
                if row is not None and info is not None:
                    got = row["title"], row["mailbox"]
                    known = info["label"], info["queue_length"]
                    self.world.check(got == known, f"a page shows {got} of {pid!r}, not {known}")
            numbers = [event["n"] for event in page.events]
            self.world.check(
                numbers == list(range(1, len(numbers) + 1)), f"a page has the events {numbers}"
            )
            crashes = [event["pid"] for event in page.events if event["kind"] == "crash"]
            self.world.check(
                crashes == self.crashes,
                f"a page shows the crashes of {crashes}, not {self.crashes}",
            )
            totals = page.point.get("crashes")
            self.world.check(
                totals == len(self.crashes),
                f"a page counts {totals} of {len(self.crashes)} crashes",
            )


class Page:
    """A page. It takes the messages of its channel in the same way as the script in a browser.

    Attributes:
        opens: True if the page opens the row of the endpoint's internal processes, which is closed at first.
    """

    def __init__(self, channel: TestChannel, first: dict[str, Any], *, opens: bool) -> None:
        self.channel = channel
        self.opens = opens
        self.rows: dict[str, dict[str, Any]] = {}
        self.events: list[dict[str, Any]] = list(first["events"])
        self.point: dict[str, Any] = {}

    async def take_all(self) -> None:
        """Take all ticks that have arrived."""
        while True:
            try:
                self.take(await self.channel.assert_push("tick", timeout=0))
            except AssertionError:
                return

    def take(self, tick: dict[str, Any]) -> None:
        if tick.get("all"):
            self.rows.clear()
        for key in tick.get("gone", ()):
            del self.rows[key]
        self.rows.update({row["key"]: row for row in tick.get("set", ())})
        self.events += tick.get("events", ())
        self.point = tick.get("point", self.point)


class UserSocket(Socket):
    channels = {}


@scenario(params={"operations": 30}, invariants=())
async def observed_program(world: World) -> None:
    """Watch a random program with some pages, and compare each page with the runtime."""
    observer = Observer(phoenix_js=Path(__file__), record=False, token="a token of the sweep")
    endpoint = Endpoint(sockets={"/socket": UserSocket}, observer=observer)
    # An observer prints its address.
    with _wide_page(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        async with open_channel_test(endpoint) as case:
            program = Watched(world, endpoint, case)
            await program.connect(observer)
            for _ in range(world.params["operations"]):
                await program.act(observer)
                if program.random.random() < 0.1:
                    await program.compare()
            await program.compare()


@contextmanager
def _wide_page() -> Iterator[None]:
    """Show each process in a row of its own."""
    before = model_module.CROWD
    model_module.CROWD = 1000  # type: ignore[misc]
    try:
        yield
    finally:
        model_module.CROWD = before  # type: ignore[misc]

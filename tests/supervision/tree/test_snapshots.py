"""Snapshots of the processes of a runtime."""

from __future__ import annotations

import json

import pytest
import trio

from actors import (
    GenServer,
    Pid,
    Reply,
    Runtime,
    call,
    cast,
    kill,
    link,
    monitor,
    receive,
    send,
    spawn,
    sys,
)
from actors.text import printable
from supervision import DynamicSupervisor, Supervisor, child_spec
from supervision.tree import ProcessView, snapshot
from supervision.tree.snapshots import MAX_ASKED, SLICE
from tests.supervision.workers import settle


class Room(GenServer[None]):
    async def handle_cast(self, message: object) -> None:
        await trio.sleep(60)

    async def handle_call(self, request: object, sender: object) -> Reply:
        return Reply(request)


async def view_of(pid: Pid) -> ProcessView:
    view = (await snapshot()).find(pid)
    assert view is not None
    return view


async def test_a_snapshot_has_each_child_below_its_supervisor(runtime: Runtime) -> None:
    top = await Supervisor.start(
        [
            child_spec(Room, id="store", kwargs={"name": "store"}),
            DynamicSupervisor.child_spec(name="rooms"),
        ],
        label="top",
    )
    for _ in range(2):
        await DynamicSupervisor.start_child("rooms", child_spec(Room, restart="temporary"))
    taken = await snapshot()
    (root,) = taken.roots
    assert root.pid is top
    assert root.kind == "one_for_one"
    assert [(child.title, child.names, child.kind) for child in root.children] == [
        ("store", ("store",), None),
        ("rooms", ("rooms",), "dynamic"),
    ]
    assert [child.label for child in root.children[1].children] == ["Room", "Room"]
    assert [view.health for view in taken.walk()] == ["idle"] * 5


async def test_a_snapshot_has_age_mailbox_links_and_monitors(
    runtime: Runtime, autojump_clock: trio.testing.MockClock
) -> None:
    peer = spawn(receive)
    watched = spawn(receive)

    async def busy() -> None:
        link(peer)
        monitor(watched)
        await trio.sleep(1000)

    pid = spawn(busy)
    await trio.sleep(3)
    send(pid, "one")
    send(pid, "two")
    view = await view_of(pid)
    assert (view.age, view.mailbox, view.health) == (3, 2, "busy")
    assert (view.links, view.monitors) == ((peer,), (watched,))
    assert (await view_of(peer)).links == (pid,)


async def test_the_current_function_is_the_innermost_one_of_the_application(
    runtime: Runtime, autojump_clock: trio.testing.MockClock
) -> None:
    async def slow_query() -> None:
        await trio.sleep(1000)

    async def work() -> None:
        await slow_query()

    working, room = spawn(work), await Room.start()
    await settle()
    function = (await view_of(working)).function
    assert function is not None
    assert function.startswith(f"{__name__}.")
    assert ".slow_query:" in function
    idle = (await view_of(room)).function
    assert idle is not None
    assert idle.startswith("actors.servers._loop.Loop.")


async def test_restarts_are_counted_for_each_child(runtime: Runtime) -> None:
    top = await Supervisor.start(
        [child_spec(Room, id="a"), child_spec(Room, id="b")],
        strategy="rest_for_one",
        max_restarts=5,
    )
    for id in ("a", "b"):
        children = {child.id: child.pid for child in await Supervisor.which_children(top)}
        child = children[id]
        assert isinstance(child, Pid)
        kill(child)
        await settle()
    view = await view_of(top)
    assert [(child.id, child.restarts) for child in view.children] == [("a", 1), ("b", 2)]


async def test_a_child_that_waits_for_its_restart_is_in_the_tree(runtime: Runtime) -> None:
    top = await Supervisor.start(
        [child_spec(Room, id="a", restart="temporary"), child_spec(Room, id="b")]
    )
    await Supervisor.terminate_child(top, "b")
    (a, b) = (await view_of(top)).children
    assert (a.id, a.health) == ("a", "idle")
    assert (b.id, b.health, b.pid, b.age) == ("b", "stopped", None, None)


async def test_a_process_without_a_living_parent_is_below_its_nearest_ancestor(
    runtime: Runtime,
) -> None:
    found: list[Pid] = []

    async def child() -> None:
        await receive()

    async def parent() -> None:
        found.append(spawn(child))

    async def top() -> None:
        spawn(parent)
        await receive()

    pid = spawn(top)
    await settle()
    assert [view.pid for view in (await view_of(pid)).children] == found


async def test_a_busy_server_that_does_not_answer_is_silent(
    runtime: Runtime, autojump_clock: trio.testing.MockClock
) -> None:
    room, quiet = await Room.start(), await Room.start()
    room_is_busy = trio.current_time()

    cast(room, "work")
    await settle()
    taken = await snapshot(deadline=2)
    assert trio.current_time() - room_is_busy == 2
    assert (taken.asked, taken.silent, taken.not_asked) == (1, (room,), 0)
    found = {view.pid: view.health for view in taken.walk()}
    assert found == {room: "silent", quiet: "idle"}
    assert "no answer in time from <pid" in taken.to_text()
    assert (await snapshot(ask=False)).silent == ()


async def test_a_snapshot_asks_a_bounded_number_of_servers(
    runtime: Runtime, autojump_clock: trio.testing.MockClock
) -> None:

    rooms = [await Room.start() for _ in range(MAX_ASKED + 3)]
    for room in rooms:
        cast(room, "work")
    await settle()
    taken = await snapshot(deadline=0.1)
    assert (taken.asked, len(taken.silent), taken.not_asked) == (MAX_ASKED, MAX_ASKED, 3)
    assert taken.remark.endswith("; 3 busy servers were not asked")


async def test_a_suspended_server_is_suspended_until_it_resumes(runtime: Runtime) -> None:
    room = await Room.start()
    await sys.suspend(room)
    assert (await view_of(room)).health == "suspended"
    await sys.resume(room)
    assert (await view_of(room)).health == "idle"
    assert await call(room, "hello") == "hello"


async def test_other_tasks_run_between_two_slices(runtime: Runtime) -> None:
    processes = 20 * SLICE
    for _ in range(processes):
        spawn(receive)
    await settle()
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count)
        taken = await snapshot()
        nursery.cancel_scope.cancel()
    assert len(taken.roots) == processes
    # Two passes over the processes.
    assert turns >= 2 * processes // SLICE - 2


async def test_a_process_that_ends_during_a_snapshot_does_no_harm(runtime: Runtime) -> None:
    pids = [spawn(receive) for _ in range(3 * SLICE)]
    await settle()

    async def end_all() -> None:
        for pid in reversed(pids):
            kill(pid)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(end_all)
        taken = await snapshot()
    assert {view.pid for view in taken.walk()} <= set(pids)


@pytest.fixture
async def example(runtime: Runtime) -> Pid:
    top = await Supervisor.start(
        [
            child_spec(Room, id='the "store"'),
            child_spec(Room, id="gone", restart="temporary"),
            DynamicSupervisor.child_spec(name="<rooms>"),
        ],
        label="top",
    )
    for _ in range(4):
        await DynamicSupervisor.start_child("<rooms>", child_spec(Room, restart="temporary"))
    return top


async def test_the_text_is_a_tree_with_a_limit(example: Pid) -> None:
    text = (await snapshot()).to_text(limit=3)
    pid = example.number
    assert text.splitlines() == [
        f"top (one_for_one) <pid {pid}>",
        f'├── the "store" <pid {pid + 1}>',
        f"├── gone <pid {pid + 2}>",
        f"└── <rooms> (dynamic) <pid {pid + 3}>",
        f"    ├── Room <pid {pid + 4}>",
        f"    ├── Room <pid {pid + 5}>",
        f"    ├── Room <pid {pid + 6}>",
        "    └── … 1 more",
    ]


async def test_the_json_has_every_field(example: Pid) -> None:
    found = json.loads((await snapshot()).to_json())
    (root,) = found["roots"]
    assert found["silent"] == []
    assert root["children"][0]["id"] == 'the "store"'
    assert set(root) == {
        *("pid", "id", "label", "names", "kind", "mailbox", "restarts", "age", "health"),
        *("function", "links", "monitors", "children"),
    }


async def test_the_pictures_escape_the_names(example: Pid) -> None:
    taken = await snapshot()
    graphviz, mermaid = taken.to_graphviz(limit=2), taken.to_mermaid(limit=2)
    assert r'p2 [label="the \"store\" <pid' in graphviz
    assert "  p1 -> p2" in graphviz
    assert 'p2["the &quot;store&quot; &lt;pid' in mermaid
    assert "1 more" in graphviz
    assert "1 more" in mermaid
    bundle = taken._repr_mimebundle_()
    assert "&lt;rooms&gt; (dynamic)" in bundle["text/html"]
    assert bundle["text/plain"] == taken.to_text()


async def test_a_name_whose_repr_raises_is_shown(runtime: Runtime) -> None:
    class Bad:
        def __repr__(self) -> str:
            raise ValueError

    await Supervisor.start([child_spec(Room, id=Bad())], label="top")
    assert "<Bad, whose repr raised ValueError>" in (await snapshot()).to_text()


async def test_a_crash_of_a_dynamic_child_counts_as_its_restart(runtime: Runtime) -> None:
    pool = await DynamicSupervisor.start(name="pool")
    pid = await DynamicSupervisor.start_child(pool, child_spec(Room))
    kill(pid)
    await settle()
    (child,) = (await view_of(pool)).children
    assert child.restarts == 1
    assert child.pid is not pid


async def test_the_text_has_no_control_characters_of_labels(runtime: Runtime) -> None:
    spawn(receive, label="room \x1b[2J\n\x9b31m\u202e")
    text = (await snapshot()).to_text()
    assert r"room \x1b[2J \x9b31m\u202e" in text
    assert printable(text, lines=True) == text

"""Paths and incarnations: where in its tree a process is."""

from typing import Any

import pytest

from actors import (
    KILL,
    Agent,
    GenServer,
    Pid,
    Registry,
    Runtime,
    is_alive,
    kill,
    send_exit,
    spawn,
    wait_exit,
)
from supervision import DynamicSupervisor, PartitionSupervisor, Supervisor, child_spec
from supervision.errors import ChildStartFailed
from supervision.recording.places import REMEMBERED, Places, component_of, fits
from tests.supervision.workers import settle


class Worker(GenServer[None]):
    pass


async def tree(**options: object) -> tuple[Pid, Pid]:
    """/top with a, b and /top/rooms; answers the pids of /top and of the room supervisor."""
    top = await Supervisor.start(
        [
            child_spec(Worker, id="a"),
            child_spec(Worker, id="b", kwargs={"name": "bee"}),
            DynamicSupervisor.child_spec(id="rooms"),
        ],
        name="top",
        max_restarts=10,
    )
    children = {child.id: child.pid for child in await Supervisor.which_children(top)}
    rooms = children["rooms"]
    assert isinstance(rooms, Pid)
    return top, rooms


def paths(places: Places) -> list[str]:
    return [str(place) for place in places.living.values()]


async def test_a_path_consists_of_child_ids_names_and_labels(
    runtime: Runtime,
) -> None:
    places = Places(runtime)
    _, rooms = await tree()
    await DynamicSupervisor.start_child(rooms, child_spec(Worker, id="not looked at"))
    await DynamicSupervisor.start_child(
        rooms, child_spec(Worker, id=0, kwargs={"label": "room:lobby"})
    )
    assert paths(places) == [
        "/top#1",
        "/top/a#1",
        "/top/b#1",
        "/top/rooms#1",
        "/top/rooms/Worker#1",
        "/top/rooms/room:lobby#1",
    ]


async def test_siblings_of_one_class_have_paths_of_their_own_if_they_have_ids(
    runtime: Runtime,
) -> None:
    places = Places(runtime)
    await tree()
    assert places.find("/top/a") is not places.find("/top/b")


async def test_each_restart_is_the_next_incarnation_of_the_same_path(runtime: Runtime) -> None:
    places = Places(runtime)
    await tree()
    for incarnation in (1, 2, 3):
        pid = places.find("/top/a")
        assert pid is not None
        place = places.place_of(pid)
        assert place is not None
        assert (place.path, place.incarnation) == ("/top/a", incarnation)
        kill(pid)
        await settle()
        assert places.place_of(pid) is None
        assert places.was_at(pid) is place


async def test_an_id_that_is_not_text_is_described(runtime: Runtime) -> None:
    places = Places(runtime)
    await Supervisor.start([child_spec(Worker, id=("shard", 3))], name="top")
    assert paths(places) == ["/top#1", "/top/('shard', 3)#1"]


async def test_a_failed_start_names_no_other_process(runtime: Runtime) -> None:
    places = Places(runtime)

    async def refuse() -> Pid:
        raise RuntimeError

    top = await Supervisor.start([child_spec(Worker, id="a")], name="top")
    spec = child_spec(Worker, id="x", start=refuse)
    with pytest.raises(ChildStartFailed):
        await Supervisor.start_child(top, spec)
    await Supervisor.start_child(top, child_spec(Worker, id="b"))
    assert paths(places) == ["/top#1", "/top/a#1", "/top/b#1"]


def matching(places: Places, pattern: str) -> list[Pid]:
    return [pid for pid, place in places.each() if fits(place.path, pattern)]


async def test_patterns_find_the_newest_and_match_in_the_order_of_spawning(
    runtime: Runtime,
) -> None:
    places = Places(runtime)
    _, rooms = await tree()
    spec = child_spec(Worker)
    one = await DynamicSupervisor.start_child(rooms, spec)
    two = await DynamicSupervisor.start_child(rooms, spec)
    assert places.find("/top/rooms/*") is two
    assert matching(places, "/top/rooms/*") == [one, two]
    assert matching(places, "/top/?") == [places.find("/top/a"), places.find("/top/b")]
    assert matching(places, "/top/[b-z]*") == [places.find("/top/b"), rooms, one, two]
    assert places.find("/nobody/*") is None
    assert matching(places, "/nobody") == []


async def test_a_path_that_looks_like_a_pattern_matches_itself(runtime: Runtime) -> None:
    places = Places(runtime)
    await Supervisor.start([child_spec(Worker, id="x[1]")], name="top")
    assert places.find("/top/x[1]") is not None


async def test_processes_that_live_already_have_their_labels(runtime: Runtime) -> None:
    await tree()
    places = Places(runtime)
    assert paths(places) == ["/top#1", "/top/Worker#1", "/top/bee#1", "/top/DynamicSupervisor#1"]
    places.close()
    await Agent.start(lambda: 0)
    assert len(places.living) == 4


async def test_the_number_of_remembered_places_is_bounded(runtime: Runtime) -> None:
    places = Places(runtime)
    pid = await Worker.start()
    place = places.place_of(pid)
    send_exit(pid, KILL)
    await wait_exit(pid)
    assert not is_alive(pid)
    assert places.was_at(pid) is place

    async def nothing() -> None:
        pass

    for _ in range(REMEMBERED):
        spawn(nothing)
    await settle()
    assert places.was_at(pid) is None
    assert places.living == {}


async def test_a_replacement_may_come_back_in_another_partition_unless_it_has_an_id(
    runtime: Runtime,
) -> None:
    places = Places(runtime)
    rooms = DynamicSupervisor.child_spec(id="rooms")
    await PartitionSupervisor.start(rooms, name="pool", partitions=2)
    pid = places.find("/pool/1")
    assert pid is not None
    await DynamicSupervisor.start_child(pid, child_spec(Worker))
    assert {place.path: place.role for place in places.living.values()} == {
        "/pool": "/pool",
        "/pool/0": "/pool/0",
        "/pool/1": "/pool/1",
        "/pool/1/Worker": "/pool/*/Worker",
    }


async def test_a_name_with_quotes_keeps_them_in_the_path(runtime: Runtime) -> None:
    places = Places(runtime)
    await Worker.start(name="'quoted'")
    await Worker.start(name=("a", 1))
    assert paths(places) == ["/'quoted'#1", "/('a', 1)#1"]


async def test_a_child_with_an_address_as_its_id_has_its_class_and_key_in_its_path(
    runtime: Runtime,
) -> None:
    registry = Registry[Any, None]("unique", name="shops")
    places = Places(runtime)
    await Supervisor.start_link([child_spec(Worker, kwargs={"name": registry.via(42)})], name="top")
    assert places.find("/top/Worker 42") == registry.whereis(42)
    assert component_of(registry.via(42)) == "42"
    assert component_of(registry.via("lobby")) == "lobby"

"""Trees of all kinds of supervisors: requests, values, drawings."""

import pytest
import trio

from actors import GenServer, NoProcess, Pid, Runtime, call, receive, spawn
from supervision import (
    Backoff,
    ChildCounts,
    ChildSpec,
    DynamicSupervisor,
    PartitionSupervisor,
    Supervisor,
    TaskSupervisor,
    UnknownRequest,
    child_spec,
    process_spec,
    render,
    tree_of,
)
from tests.supervision.workers import Log, Worker, crash, running, settle, worker

ASKERS = [Supervisor, DynamicSupervisor, TaskSupervisor, PartitionSupervisor]


async def forever() -> None:
    await receive()


class Quiet(GenServer[None]):
    """A server that does nothing."""


async def one_of_each() -> dict[str, Pid]:
    """A supervisor of each class, with one child each."""
    static = await Supervisor.start([a_worker()])
    pool = await DynamicSupervisor.start()
    await DynamicSupervisor.start_child(pool, a_worker())
    tasks = await TaskSupervisor.start()
    await TaskSupervisor.start_child(tasks, forever)
    parts = await PartitionSupervisor.start(process_spec(forever), name="parts", partitions=1)
    return {"static": static, "pool": pool, "tasks": tasks, "parts": parts}


def a_worker() -> ChildSpec:
    return child_spec(Worker, "a")


@pytest.mark.parametrize("asker", ASKERS)
async def test_every_kind_of_supervisor_answers_the_common_functions(
    runtime: Runtime, asker: type[Supervisor] | type[DynamicSupervisor]
) -> None:
    for supervisor in (await one_of_each()).values():
        (info,) = await asker.which_children(supervisor)
        assert isinstance(info.pid, Pid)
        assert await asker.count_children(supervisor) == ChildCounts(
            specs=1, active=1, supervisors=0, workers=1
        )


async def test_a_request_for_another_kind_of_supervisor_is_refused_with_its_name(
    runtime: Runtime,
) -> None:
    kinds = await one_of_each()
    with trio.fail_after(1):
        with pytest.raises(
            UnknownRequest, match=r"a Supervisor does not handle .* DynamicSupervisor\.start_child"
        ):
            await DynamicSupervisor.start_child(kinds["static"], a_worker())
        with pytest.raises(UnknownRequest) as caught:
            await Supervisor.get_childspec(kinds["pool"], "a")
        assert caught.value.supervisor == "DynamicSupervisor"
        assert caught.value.verb == "Supervisor.get_childspec"
        with pytest.raises(UnknownRequest):
            await Supervisor.delete_child(kinds["tasks"], "a")
        with pytest.raises(UnknownRequest):
            await DynamicSupervisor.terminate_child(kinds["parts"], kinds["pool"])


async def test_an_unknown_request_is_answered_with_the_error(runtime: Runtime) -> None:
    for supervisor in (await one_of_each()).values():
        answer = await call(supervisor, "how are you", timeout=1)
        assert isinstance(answer, UnknownRequest)
        assert "'how are you'" in str(answer)


async def test_a_tree_is_drawn_with_ids_names_labels_strategies_and_pids(runtime: Runtime) -> None:
    class Room(GenServer[None]):
        pass

    top = await Supervisor.start(
        [
            child_spec(Worker, "a", id="store"),
            DynamicSupervisor.child_spec(name="rooms"),
            Supervisor.child_spec([Room], id="rest", strategy="one_for_all"),
            PartitionSupervisor.child_spec(process_spec(forever), name="parts", partitions=2),
        ],
        name="top",
        strategy="rest_for_one",
    )
    await DynamicSupervisor.start_child("rooms", Room)
    await DynamicSupervisor.start_child("rooms", child_spec(Room, kwargs={"name": "lobby"}))
    assert render(top, pids=False) == (
        "top (rest_for_one)\n"
        "├── store\n"
        "├── rooms (dynamic)\n"
        "│   ├── Room\n"
        "│   └── lobby\n"
        "├── rest (one_for_all)\n"
        "│   └── Room\n"
        "└── parts (one_for_one)\n"
        "    ├── 0\n"
        "    └── 1"
    )
    store = await running(top, "store")
    assert render("top").splitlines()[:2] == [f"top (rest_for_one) {top!r}", f"├── store {store!r}"]


async def test_children_that_are_not_running_are_shown_with_their_state(
    runtime: Runtime, log: Log
) -> None:
    top = await Supervisor.start(
        [worker(name, log) for name in "abc"], label="top", backoff=Backoff(1.0, 1.0)
    )
    await crash(top, "a")
    await Supervisor.terminate_child(top, "b")
    tree = tree_of(top)
    assert [(node.id, node.status, node.pid is None) for node in tree.children] == [
        ("a", "restarting", True),
        ("b", "stopped", True),
        ("c", "running", False),
    ]
    assert render(top, pids=False).splitlines() == [
        "top (one_for_one)",
        "├── a restarting",
        "├── b stopped",
        "└── c",
    ]
    assert [node.title for node in tree.walk()] == ["top", "a", "b", "c"]
    assert [node.type for node in tree.walk()] == ["supervisor", "worker", "worker", "worker"]


async def test_a_busy_supervisor_is_shown_without_a_wait(runtime: Runtime) -> None:
    async def slow() -> Pid:
        await trio.sleep(60)
        raise AssertionError("not reached")

    top = await Supervisor.start([a_worker()], label="top")

    async def add() -> None:
        await Supervisor.start_child(top, ChildSpec("slow", slow))

    spawn(add)
    await settle()
    began = trio.current_time()
    assert render(top, pids=False) == "top (one_for_one)\n└── Worker"
    assert trio.current_time() == began


async def test_a_plain_process_of_type_supervisor_is_shown_without_children(
    runtime: Runtime,
) -> None:
    top = await Supervisor.start([process_spec(forever, type="supervisor")], label="top")
    assert render(top, pids=False) == "top (one_for_one)\n└── forever (supervisor)"


async def test_a_process_is_a_tree_of_one_node_and_an_unknown_name_raises(runtime: Runtime) -> None:
    assert render(spawn(forever), pids=False) == "forever"
    with pytest.raises(NoProcess):
        render("nobody")


async def test_a_drawing_has_no_control_characters_of_labels(runtime: Runtime) -> None:
    pool = await DynamicSupervisor.start()
    label = "room \x1b[2J\n\x9b31m\u202e"
    await DynamicSupervisor.start_child(pool, child_spec(Quiet, kwargs={"label": label}))
    _, line = render(pool).split("\n")
    assert line.isprintable()
    assert r"room \x1b[2J\n\x9b31m\u202e" in line

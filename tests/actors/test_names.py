"""Names beyond the OTP cases."""

import pytest

from actors import (
    KILLED,
    NameTaken,
    Runtime,
    current_pid,
    current_runtime,
    kill,
    monitor,
    register,
    send,
    spawn,
    unregister,
    wait_exit,
    whereis,
)
from tests.actors.helpers import down, idle, in_process, reason_of


@in_process()
async def test_a_name_can_move_to_another_process() -> None:
    pid = spawn(idle)
    register("name", pid)
    assert whereis("name") is pid
    unregister("name")
    unregister("name")
    assert whereis("name") is None
    register("other name", pid)
    register("name")
    assert whereis("name") is current_pid()


@pytest.mark.parametrize("name", ["text", ("a", 1), 7, frozenset({1}), False], ids=repr)
@in_process()
async def test_any_hashable_value_but_none_is_a_name(name: object) -> None:
    register(name)
    assert whereis(name) is current_pid()
    with pytest.raises(TypeError, match="None is not a name"):
        register(None)


@in_process()
async def test_a_refused_registration_names_the_owner_or_the_other_name() -> None:
    pid = spawn(idle, name="a")
    with pytest.raises(NameTaken, match=f"'a' is the name of {pid!r} already"):
        register("a")
    with pytest.raises(NameTaken, match=f"{pid!r} is registered as 'a' already; unregister that"):
        register("b", pid)
    assert whereis("b") is None


@in_process()
async def test_the_end_of_a_former_owner_does_not_free_its_old_name() -> None:
    first = spawn(idle, name="name")
    unregister("name")
    second = spawn(idle, name="name")
    kill(first)
    assert await reason_of(first) is KILLED
    assert whereis("name") is second


@in_process()
async def test_a_name_is_looked_up_at_each_use() -> None:
    first = spawn(idle, name="name")
    ref = monitor(first)
    kill(first)
    await down(ref)
    second = spawn(idle, name="name")
    send("name", "hello")
    info = current_runtime().process_info(second)
    assert info is not None
    assert info["queue_length"] == 1


async def test_names_work_outside_processes(runtime: Runtime) -> None:
    pid = spawn(idle)
    register("name", pid)
    assert whereis("name") is pid
    kill(pid)
    await wait_exit(pid)
    assert whereis("name") is None

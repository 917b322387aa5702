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
async def test_a_name_can_be_given_to_another_and_taken_away() -> None:
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
async def test_a_refusal_says_who_has_the_name_or_which_name_the_process_has() -> None:
    pid = spawn(idle, name="a")
    with pytest.raises(NameTaken, match=f"'a' is the name of {pid!r} already"):
        register("a")
    with pytest.raises(NameTaken, match=f"{pid!r} is registered as 'a' already; unregister that"):
        register("b", pid)
    assert whereis("b") is None


@in_process()
async def test_a_name_that_was_taken_away_does_not_free_that_of_another_at_the_end() -> None:
    first = spawn(idle, name="name")
    unregister("name")
    second = spawn(idle, name="name")
    kill(first)
    assert await reason_of(first) is KILLED
    assert whereis("name") is second


@in_process()
async def test_a_name_reaches_the_process_that_has_it_when_it_is_used() -> None:
    first = spawn(idle, name="name")
    ref = monitor(first)
    kill(first)
    await down(ref)
    second = spawn(idle, name="name")
    send("name", "hello")
    info = current_runtime().process_info(second)
    assert info is not None
    assert info["queue_length"] == 1


async def test_names_work_outside_of_processes(runtime: Runtime) -> None:
    pid = spawn(idle)
    register("name", pid)
    assert whereis("name") is pid
    kill(pid)
    await wait_exit(pid)
    assert whereis("name") is None

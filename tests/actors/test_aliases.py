"""Aliases: addresses that a process can revoke."""

from __future__ import annotations

import pytest
import trio

from actors import (
    Alias,
    NoProcess,
    alias,
    call,
    open_runtime,
    receive,
    send,
    spawn,
    unalias,
    wait_exit,
)
from actors.adoption import as_process


async def _nothing_arrives() -> None:
    for _ in range(3):
        await trio.lowlevel.checkpoint()
    with pytest.raises(trio.TooSlowError):
        await receive(timeout=0)


async def test_an_alias_leads_to_its_process_until_it_is_revoked() -> None:
    async with open_runtime() as runtime, as_process():
        address = alias()
        send(address, 1)
        send(address, 2)
        assert unalias(address)
        send(address, 3)
        # An earlier message stays in the mailbox. A later one is a dead letter and not an error.
        assert [await receive(), await receive()] == [1, 2]
        await _nothing_arrives()
        assert runtime.statistics()["dead_letters"] == 1
        assert not unalias(address)


async def test_a_once_alias_accepts_only_one_message() -> None:
    async with open_runtime(), as_process():
        address = alias(once=True)
        send(address, "first")
        send(address, "second")
        assert await receive() == "first"
        await _nothing_arrives()
        assert not unalias(address)


async def test_an_alias_ends_with_its_process_and_later_messages_are_dropped() -> None:
    made: list[Alias] = []

    async def process() -> None:
        made.append(alias())

    async with open_runtime() as runtime:
        await wait_exit(spawn(process))
        send(made[0], "late")
        assert runtime.statistics()["dead_letters"] == 1


async def test_only_its_own_process_can_revoke_an_alias() -> None:
    made: list[Alias] = []

    async def owner() -> None:
        made.append(alias())
        await receive()

    async with open_runtime():
        pid = spawn(owner)
        await trio.testing.wait_all_tasks_blocked()
        async with as_process():
            assert not unalias(made[0])
        send(made[0], "still there")
        await wait_exit(pid)


async def test_a_call_through_a_revoked_alias_names_the_alias_as_the_cause() -> None:
    async with open_runtime(), as_process():
        address = alias()
        unalias(address)
        with pytest.raises(NoProcess, match=r": this alias is no longer active$"):
            await call(address, "question")

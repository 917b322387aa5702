"""Reports of messages that change after the send, with the sender and the change."""

from collections import deque
from typing import Any

import pytest
import trio
from attrs import define, frozen

from actors import (
    CallTimeout,
    GenServer,
    Pid,
    Reply,
    Runtime,
    Sender,
    TooManyCalls,
    call,
    cast,
    current_pid,
    kill,
    open_runtime,
    receive,
    send,
    spawn,
)
from actors.asyncio_loop import AsyncioLoop, asyncio_call
from actors.blocking_pool import BlockingPool, blocking_call
from actors.testing import MessageChanged, SharedMessages, replace_calls
from tests.actors.helpers import idle, listen, settle


@define
class Order:
    items: list[str]
    note: str = ""


@frozen
class Wrapped:
    order: Order


class Store(GenServer[None]):
    async def handle_call(self, request: Any, sender: Sender) -> Reply:
        return Reply(None)

    async def handle_cast(self, message: Any) -> None:
        return None


async def changes_of(runtime: Runtime, message: Any, change: Any) -> list[str]:
    """Return the log lines after `change(message)` between the send and the receive."""
    shared = SharedMessages()
    remove = runtime.add_instrument(shared)
    send(spawn(listen, []), message)
    change(message)
    await settle()
    remove()
    return [line for changed in shared.changed for line in changed.changes]


async def test_a_changed_message_is_reported_with_sender_receiver_and_place(
    runtime: Runtime,
) -> None:
    async def careless(to: Pid) -> None:
        order = {"count": 1, "items": ["tea"]}
        send(to, order)
        order["count"] = 2
        order["note"] = "late"
        await receive()

    heard: list[Any] = []
    to = spawn(listen, heard, label="store")
    with pytest.raises(MessageChanged) as caught, SharedMessages.watch(runtime):
        sender = spawn(careless, to, label="shop")
        await settle()
    (found,) = caught.value.messages
    assert found.sender == f"shop {sender!r}"
    assert found.receiver == f"store {to!r}"
    assert found.message is heard[0]
    assert found.changes == ("message['count'] was 1, is 2", "message['note'] is new, 'late'")
    assert "Send a copy" in str(caught.value)
    assert not runtime.instruments


@pytest.mark.parametrize(
    ("message", "change", "said"),
    [
        (["a"], lambda it: it.append("b"), ["message[1] is new, 'b'"]),
        (["a"], lambda it: it.clear(), ["message[0] was 'a', is gone"]),
        ({1, 2}, lambda it: it.discard(1), ["message was {1, 2}, is {2}"]),
        (
            bytearray(b"x"),
            lambda it: it.extend(b"y"),
            ["message was bytearray(b'x'), is bytearray(b'xy')"],
        ),
        (deque([1]), lambda it: it.append(2), ["message[1] is new, 2"]),
        (("order", [1]), lambda it: it[1].append(2), ["message[1][1] is new, 2"]),
        (
            Wrapped(Order([], "a")),
            lambda it: setattr(it.order, "note", "b"),
            ["message.order.note was 'a', is 'b'"],
        ),
    ],
)
async def test_changes_are_found_at_every_depth_and_in_every_container(
    runtime: Runtime, message: Any, change: Any, said: list[str]
) -> None:
    assert await changes_of(runtime, message, change) == said


async def test_unchanged_messages_are_not_reported(runtime: Runtime) -> None:
    with SharedMessages.watch(runtime):
        to = spawn(listen, [])
        circle: list[Any] = [1]
        circle.append(circle)
        for message in ("text", 1, None, ["a"], Order(["tea"]), circle, deque([1]), to, idle):
            send(to, message)
        await settle()


async def test_changes_in_casts_and_calls_are_found(runtime: Runtime) -> None:
    shared = SharedMessages()
    runtime.add_instrument(shared)
    store = await Store.start()
    order, request = ["a"], ["b"]

    async def asks() -> None:
        await call(store, request)

    cast(store, order)
    order.append("c")
    spawn(asks)
    await settle()
    assert [found.message for found in shared.changed] == [["a", "c"]]
    assert shared.changed[0].sender == "no process"
    with pytest.raises(MessageChanged):
        shared.check()


async def test_one_object_may_be_sent_several_times(runtime: Runtime) -> None:
    shared = SharedMessages()
    runtime.add_instrument(shared)
    one, other = spawn(listen, []), spawn(listen, [])
    order = ["a"]
    send(one, order)
    send(other, order)
    order.append("b")
    send(one, order)
    await settle()
    assert sorted(found.receiver for found in shared.changed) == sorted(
        [f"listen {one!r}", f"listen {other!r}"]
    )


async def test_a_receiver_may_change_what_it_has_received(runtime: Runtime) -> None:
    async def takes() -> None:
        (await receive()).append(current_pid())

    with SharedMessages.watch(runtime):
        send(spawn(takes), [])
        await settle()


async def test_messages_that_are_never_received_are_dropped(runtime: Runtime) -> None:
    shared = SharedMessages()
    runtime.add_instrument(shared)
    pid = spawn(idle)
    send(pid, ["a"])
    kill(pid)
    await settle()
    assert shared._sent == {}


async def never() -> None:
    raise AssertionError


async def test_replaced_calls_keep_their_limit_their_timeout_and_their_cancellation() -> None:
    async def stand_in(function: object, *args: object) -> object:
        assert function in (never, len)
        await trio.sleep(10)
        return args

    loop = AsyncioLoop(max_calls=1)
    with replace_calls(stand_in):
        async with open_runtime():
            await loop.start_link()
            await BlockingPool().start_link()
            began = trio.current_time()
            answer: object = await blocking_call(len, "four")
            assert answer == ("four",)
            assert trio.current_time() == began + 10
            async with trio.open_nursery() as nursery:
                nursery.start_soon(asyncio_call, never)
                await settle()
                with pytest.raises(TooManyCalls):
                    await asyncio_call(never)
                nursery.cancel_scope.cancel()
            with pytest.raises(CallTimeout, match="within 3 s"):
                await asyncio_call(never, timeout=3)
            assert trio.current_time() == began + 13
            assert loop.statistics()["calls"] == 0

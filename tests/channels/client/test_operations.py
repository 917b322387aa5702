"""A history records what a client knows about its joins, pushes, leaves and messages."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import trio

from channels import Channel, Endpoint, JoinRefused, PushReply, Socket, handle_in
from channels.client import ChannelClosed, PushTimeout, Refused, open_socket
from supervision import Supervisor
from supervision.histories import (
    ClientRequest,
    Fate,
    Operation,
    OperationHistory,
    describe_request,
)
from supervision.simulation import World, simulate


class Room(Channel):
    async def join(self, topic: str, payload: Any) -> None:
        if topic == "room:closed":
            raise JoinRefused({"reason": "closed"})

    @handle_in("echo")
    async def echo(self, payload: Any) -> PushReply:
        return PushReply(payload)

    @handle_in("refuse")
    async def refuse(self, payload: Any) -> PushReply:
        return PushReply({"reason": "no"}, status="error")

    @handle_in("shout")
    async def shout(self, payload: Any) -> None:
        self.broadcast("shouted", payload)

    @handle_in("crash")
    async def crash(self, payload: Any) -> None:
        raise RuntimeError


class User(Socket):
    channels = {"room:*": Room}


def everything(topic: str, request: ClientRequest) -> tuple[str, tuple[Any, ...], str]:
    return f"{request.kind} {request.event}", (request.payload,), topic


def record(
    program: Any, *, describe: Any = everything, targets: tuple[str, ...] = ("room:*",)
) -> list[Operation]:
    """Run a program with a connected socket in a world, and return its operations."""
    history = OperationHistory()

    async def main(world: World) -> None:
        endpoint = Endpoint(sockets={"/socket": User}, listen=world.listen)
        await Supervisor.start_link([endpoint.child_spec(host="server", port=4000)], label="top")
        connect = partial(world.connect, source="ann")
        with history.recording(*targets, describe=describe):
            async with open_socket("ws://server:4000/socket", connect=connect) as socket:
                await program(socket)

    simulate(main, 1).check()
    return list(history)


def test_joins_pushes_messages_and_leaves_are_operations_of_the_host_of_the_client() -> None:
    async def program(socket: Any) -> None:
        async with socket.channel("room:a", {"name": "ann"}) as room:
            with room.on("shouted") as shouted:
                await room.push("echo", {"x": 1, "y": 2})
                with pytest.raises(Refused):
                    await room.push("refuse")
                room.push_nowait("shout", {"z": 3})
                await anext(shouted)

    assert [(e.client, e.name, e.arguments, e.result, e.fate) for e in record(program)] == [
        ("ann", "join phx_join", ({"name": "ann"},), None, Fate.DONE),
        ("ann", "push echo", ({"x": 1, "y": 2},), {"x": 1, "y": 2}, Fate.DONE),
        ("ann", "push refuse", (None,), ("error", "no"), Fate.DONE),
        ("ann", "push shout", ({"z": 3},), None, Fate.OPEN),
        ("ann (messages)", "message shouted", ({"z": 3},), None, Fate.DONE),
        (("ann", 1), "leave phx_leave", (None,), None, Fate.DONE),
    ]


def test_a_push_without_an_answer_is_open_and_one_that_was_never_sent_has_failed() -> None:
    async def program(socket: Any) -> None:
        async with socket.channel("room:a") as room:
            with pytest.raises(PushTimeout):
                await room.push("shout", {"number": 1}, timeout=1)
            with trio.move_on_after(1):
                await room.push("shout", {"number": 2})
            with pytest.raises(PushTimeout):
                await room.push("crash", timeout=1)
            # The channel is out of its topic now, and waits before it joins again.
            await room.wait_joined()
            room.push_nowait("crash")
            await trio.sleep(0.1)
            with pytest.raises(PushTimeout):
                await room.push("echo", {"number": 3}, timeout=0.1)
            with trio.move_on_after(0.1):
                await room.push("echo", {"number": 4})
            unsent = room.push_nowait("echo", {"number": 5})
        with pytest.raises(ChannelClosed):
            await unsent.wait()

    pushes = [each for each in record(program) if each.name.startswith("push")]
    assert [(each.name, each.fate) for each in sorted(pushes, key=lambda each: each.start)] == [
        ("push shout", Fate.OPEN),
        ("push shout", Fate.OPEN),
        ("push crash", Fate.OPEN),
        ("push crash", Fate.OPEN),
        ("push echo", Fate.FAILED),
        ("push echo", Fate.FAILED),
        ("push echo", Fate.FAILED),
    ]


def test_a_push_that_reaches_a_topic_without_its_channel_has_failed() -> None:
    refused = []

    async def program(socket: Any) -> None:
        async with socket.channel("room:a") as room:
            for number in range(20):
                await room.wait_joined()
                room.push_nowait("crash")
                # The channel has ended, and the client does not know it yet.
                await trio.sleep(number * 0.001)
                try:
                    await room.push("echo", {"number": number}, timeout=0.5)
                except Refused as error:
                    refused.append((error.payload, number))
                except PushTimeout:
                    pass

    pushes = {
        each.arguments[0]["number"]: each for each in record(program) if each.name == "push echo"
    }
    assert refused
    for payload, number in refused:
        assert payload == {"reason": "unmatched topic"}
        assert pushes[number].fate is Fate.FAILED


def test_each_attempt_to_join_is_an_operation() -> None:
    async def program(socket: Any) -> None:
        async with socket.channel("room:closed", wait=False):
            await trio.sleep(1.5)
        async with socket.channel("room:a") as room:
            room.push_nowait("crash")
            await trio.sleep(3)

    joins = [each for each in record(program) if each.name == "join phx_join"]
    assert [(each.key, each.result, each.fate) for each in joins] == [
        ("room:closed", ("error", "closed"), Fate.DONE),
        ("room:closed", ("error", "closed"), Fate.DONE),
        ("room:closed", None, Fate.OPEN),
        ("room:a", None, Fate.DONE),
        ("room:a", None, Fate.DONE),
    ]


def test_by_default_only_pushes_are_recorded_and_only_those_of_the_chosen_topics() -> None:
    async def program(socket: Any) -> None:
        async with socket.channel("room:a") as one, socket.channel("room:b") as other:
            await one.push("echo", {"value": 1})
            await other.push("echo", {"value": 2})

    operations = record(program, describe=describe_request)
    assert [str(each) for each in operations] == [
        "ann: echo['room:a'](1) -> 1",
        "ann: echo['room:b'](2) -> 2",
    ]
    assert {each.key for each in record(program, targets=("room:b",))} == {"room:b"}


def test_an_exception_of_describe_leaves_the_block_of_the_recording() -> None:
    async def program(socket: Any) -> None:
        async with socket.channel("room:a"):
            pass

    def wrong(topic: str, request: ClientRequest) -> Any:
        raise KeyError("key")

    with pytest.raises(Exception, match="KeyError: 'key'") as caught:
        record(program, describe=wrong)
    cause = caught.value.__cause__
    assert cause is not None
    assert cause.__notes__ == [
        "describe got 'room:a' and ClientRequest(kind='join', event='phx_join', payload=None)"
    ]

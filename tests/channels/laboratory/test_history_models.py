"""The models of channels accept what real channels do, and refuse lost, doubled and wrong messages."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import pytest
import trio
from msgspec import structs

from channels import Channel, Endpoint, PushReply, Socket, handle_in
from channels.client import PushTimeout, open_socket
from channels.durable import DurableChannel, History
from channels.testing import DurableTopic, KeyedPush, Presences
from supervision import Supervisor
from supervision.chaos import Storm
from supervision.histories import (
    ClientRequest,
    Counter,
    Fate,
    Model,
    NotExplained,
    Operation,
    OperationHistory,
    check_linearizable,
)
from supervision.simulation import World, scenario, simulate


def _sequence(*steps: tuple[str, tuple[Any, ...], Any]) -> list[Operation]:
    return [
        Operation(
            client="a", name=name, arguments=arguments, result=result, start=2 * n, end=2 * n + 1
        )
        for n, (name, arguments, result) in enumerate(steps)
    ]


GOOD: list[tuple[Model[Any], list[Operation]]] = [
    (
        DurableTopic(),
        _sequence(
            ("append", ({"text": "x"},), "e:1"),
            ("append", ({"text": "y"},), 2),
            ("append", ({"text": "z"},), 3),
            ("read", (1,), [{"text": "y"}, {"text": "z"}]),
            ("receive", ("e:2", {"text": "y"}), None),
            ("receive", ("e:3", {"text": "z"}), None),
        ),
    ),
    (
        KeyedPush(Counter()),
        _sequence(
            ("increment", ("k",), 1),
            ("increment", ("k",), 1),
            ("increment", ("l",), 2),
            ("read", (), 2),
        ),
    ),
    (
        Presences(),
        _sequence(
            ("join", ("ann",), None),
            ("join", ("ann",), None),
            ("join", ("ben",), None),
            ("leave", ("ann",), None),
            ("list", (), {"ann": {"metas": [{}]}, "ben": {"metas": [{}]}}),
            ("leave", ("ann",), None),
            ("list", (), ["ben"]),
        ),
    ),
]

WRONG: list[tuple[str, Model[Any], int, dict[str, Any]]] = [
    ("a position given twice", DurableTopic(), 1, {"result": 1}),
    ("a gap in the positions", DurableTopic(), 2, {"result": 4}),
    ("a read with a gap", DurableTopic(), 3, {"result": [{"text": "z"}]}),
    ("a read that lost the end", DurableTopic(), 3, {"result": [{"text": "y"}]}),
    ("a message received twice", DurableTopic(), 5, {"arguments": ("e:2", {"text": "y"})}),
    ("a gap in what a client got", DurableTopic(), 4, {"arguments": ("e:1", {"text": "x"})}),
    ("another message", DurableTopic(), 5, {"arguments": ("e:3", {"text": "w"})}),
    ("a repeated push that counted again", KeyedPush(Counter()), 1, {"result": 2}),
    ("a lost push", KeyedPush(Counter()), 3, {"result": 1}),
    ("a presence that stays", Presences(), 6, {"result": ["ann", "ben"]}),
    ("a presence that is missing", Presences(), 6, {"result": []}),
    (
        "a meta that is counted twice",
        Presences(),
        4,
        {"result": {"ann": {"metas": [1, 2]}, "ben": {"metas": [1]}}},
    ),
]


@pytest.mark.parametrize(("model", "history"), GOOD, ids=lambda each: type(each).__name__)
def test_a_model_accepts_a_correct_history(model: Model[Any], history: list[Operation]) -> None:
    check_linearizable(history, model).require()


@pytest.mark.parametrize(("what", "model", "number", "change"), WRONG, ids=[w[0] for w in WRONG])
def test_a_model_refuses_a_wrong_history(
    what: str, model: Model[Any], number: int, change: dict[str, Any]
) -> None:
    history = list(next(good for known, good in GOOD if type(known) is type(model)))
    history[number] = structs.replace(history[number], **change)
    assert check_linearizable(history, model).ok is False


def test_a_push_that_is_repeated_after_a_timeout_may_have_run_before_or_not() -> None:
    lost = Operation(client="a", name="increment", arguments=("k",), start=1, fate=Fate.OPEN)
    again = Operation(client="b", name="increment", arguments=("k",), result=1, start=2, end=3)
    read = Operation(client="c", name="read", result=1, start=4, end=5)
    assert check_linearizable([lost, again, read], KeyedPush(Counter())).ok
    twice = structs.replace(read, result=2)
    assert not check_linearizable([lost, again, twice], KeyedPush(Counter())).ok


class Log(DurableChannel):
    """Keeps each message."""

    @handle_in("say")
    async def say(self, payload: Any) -> PushReply:
        return PushReply({"position": str(await self.append("say", payload))})


class KeepsTwice(Log):
    @handle_in("say")
    async def say(self, payload: Any) -> PushReply:
        await self.append("say", payload)
        return await super().say(payload)


class KeepsLater(Log):
    """Answers with the position of an earlier message, and keeps only every second message."""

    last = "e:1"

    @handle_in("say")
    async def say(self, payload: Any) -> PushReply:
        if payload["number"] % 2 == 0:
            self.last = str(await self.append("say", payload))
        return PushReply({"position": self.last})


class KeepsAnother(Log):
    @handle_in("say")
    async def say(self, payload: Any) -> PushReply:
        return await super().say({**payload, "by": "somebody"})


def describe_durable(topic: str, request: ClientRequest) -> Any:
    match request:
        case ClientRequest(kind="push", event="say", payload=payload):
            return "append", ([payload["number"], payload["by"]],), topic
        case ClientRequest(kind="message", event="say", payload=payload):
            message = [payload["number"], payload["by"]]
            return "receive", (payload["_position"], message), topic
    return None


async def run(world: World, channel: type[Log]) -> None:
    channel.history = History()

    class LogSocket(Socket):
        channels = {"log:*": channel}

    endpoint = Endpoint(
        sockets={"/socket": LogSocket}, listen=world.network.open, histories=[channel.history]
    )
    await Supervisor.start_link([endpoint.child_spec(host="server", port=4000)], label="server")
    history = OperationHistory()

    async def talk(name: str) -> None:
        stream = world.random(name)
        connect = partial(world.network.connect, source=name)
        async with (
            open_socket("ws://server:4000/socket", connect=connect) as socket,
            socket.channel("log:1", durable=True, wait=False) as log,
        ):
            for number in range(5):
                await trio.sleep(stream.random() * 0.2)
                try:
                    await log.push("say", {"number": number, "by": name}, timeout=5)
                except PushTimeout:
                    world.sometimes("a push has no answer", True)
            await trio.sleep(5)

    with history.recording("log:*", describe=describe_durable):
        async with trio.open_nursery() as nursery:
            for name in ("ann", "ben", "cat"):
                nursery.start_soon(talk, name)
    received = [each for each in history if each.name == "receive"]
    world.sometimes("each message reached each client", len(received) >= 45)
    check_linearizable(history, DurableTopic()).require()


@scenario(
    faults=Storm(connections=["*->server*"], count=4, within=2.0, kinds=["reset_connection"]),
    params={"channel": "Log"},
)
async def durable_log(world: World) -> None:
    await run(world, globals()[world.params["channel"]])


@pytest.mark.parametrize("seed", range(1, 6))
def test_clients_of_a_durable_topic_receive_it_without_gaps_although_connections_break(
    seed: int,
) -> None:
    outcome = simulate(durable_log, seed).check()
    assert outcome.sometimes["each message reached each client"]
    assert [each.status for each in outcome.fault_reports].count("applied") > 1


@pytest.mark.parametrize("channel", [KeepsTwice, KeepsLater, KeepsAnother])
def test_a_durable_channel_that_keeps_something_else_is_found(channel: type[Log]) -> None:
    outcome = simulate(durable_log, 1, params={"channel": channel.__name__})
    assert isinstance(outcome.error, NotExplained)
    assert outcome.error.verdict.ok is False


class Tally(DurableChannel):
    """Counts. Every second time it takes longer than its clients wait."""

    total: ClassVar[int]

    @handle_in("increment")
    async def increment(self, payload: Any) -> PushReply:
        return await counted(type(self))


class PlainTally(Channel):
    total: ClassVar[int]

    @handle_in("increment")
    async def increment(self, payload: Any) -> PushReply:
        return await counted(type(self))


async def counted(channel: Any) -> PushReply:
    channel.total += 1
    total = channel.total
    await trio.sleep(0.3 if total % 2 else 0)
    return PushReply({"total": total})


def describe_keyed(topic: str, request: ClientRequest) -> Any:
    if request.kind == "push":
        return request.event, (request.payload["_key"],), topic
    return None


async def count(world: World, channel: Any) -> None:
    channel.total = 0
    histories = []
    if issubclass(channel, DurableChannel):
        channel.history = History()
        histories.append(channel.history)

    class TallySocket(Socket):
        channels = {"tally": channel}

    endpoint = Endpoint(
        sockets={"/socket": TallySocket}, listen=world.network.open, histories=histories
    )
    await Supervisor.start_link([endpoint.child_spec(host="server", port=4000)], label="server")
    history = OperationHistory()

    async def use(name: str) -> None:
        connect = partial(world.network.connect, source=name)
        async with (
            open_socket("ws://server:4000/socket", connect=connect) as socket,
            socket.channel("tally") as tally,
        ):
            for number in range(3):
                key = f"{name} {number}"
                with trio.move_on_after(10) as waiting:
                    while not waiting.cancelled_caught:
                        try:
                            await tally.push("increment", {"_key": key}, timeout=0.2)
                            break
                        except PushTimeout:
                            world.sometimes("a push was repeated", True)

    with history.recording("tally", describe=describe_keyed):
        async with trio.open_nursery() as nursery:
            for name in ("ann", "ben"):
                nursery.start_soon(use, name)
    check_linearizable(history, KeyedPush(Counter())).require()


@pytest.mark.parametrize(("channel", "is_correct"), [(Tally, True), (PlainTally, False)])
def test_a_push_that_a_client_repeats_with_its_key_counts_once(
    channel: type[Channel], *, is_correct: bool
) -> None:
    async def main(world: World) -> None:
        await count(world, channel)

    outcome = simulate(main, 1)
    assert outcome.passed is is_correct
    assert outcome.sometimes["a push was repeated"]
    if not is_correct:
        assert isinstance(outcome.error, NotExplained)

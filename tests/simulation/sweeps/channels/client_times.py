"""The protocol of the client and all its time-outs, against a model, without a network.

    ashtree simulate tests.simulation.sweeps.channels.client_times:client_times --seeds 1-1000

The protocol gets its time from the caller. So this sweep lets exact spans of time pass, which end just before or just
after a time-out, or at the time-out itself. Silence and outages are therefore as long as each time-out that exists: of
joins, pushes, leaves and heartbeats, and each wait of the tables. Each step compares everything that the client does.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import trio
from attrs import asdict

from channels.client import RetryTable
from channels.client.errors import BufferFull
from channels.client.protocol import Protocol
from channels.client.records import (
    Arrived,
    ChannelRecord,
    ClientSettings,
    Close,
    Effect,
    Ended,
    Left,
    Open,
    Pong,
    PushRecord,
    Send,
    Settled,
)
from supervision.simulation import World
from tests.laws.scenarios import scenario
from tests.simulation.sweeps.bounds import small_bounds
from tests.simulation.sweeps.channels.client_model import ChannelModel, ClientModel, PushModel

TOPICS = ("a", "a", "b", "c")
FINAL = 4001

# The fields of each lifecycle event that the model knows.
_FIELDS = {
    "Connected": ("count", "seconds"),
    "ConnectFailed": (),
    "Retrying": ("delay", "attempt"),
    "Lost": ("code",),
    "Disconnected": ("code",),
    "Joined": ("topic", "seconds"),
    "Rejoined": ("topic", "seconds"),
    "Rejoining": ("topic", "delay", "attempt"),
    "JoinTimedOut": ("topic",),
    "JoinRejected": ("topic", "status"),
    "ChannelLost": ("topic", "is_crash"),
    "ChannelEnded": ("topic",),
}


class ClientTimes:
    """The state of one run."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.random = world.random("operations")

        def seconds(most: float) -> float:
            # A fraction of its own, so that no two time-outs fall into the same moment.
            return self.random.choice((0.1, 1.0, most)) * (0.5 + self.random.random())

        self.seconds = seconds
        self.settings = ClientSettings(
            timeout=seconds(5.0),
            heartbeat_interval=seconds(8.0),
            reconnect=RetryTable(tuple(seconds(1.0) for _ in range(3)), seconds(3.0)),
            rejoin=RetryTable(tuple(seconds(1.0) for _ in range(2)), seconds(4.0)),
            final_close_codes=(FINAL,),
            max_buffered=self.random.choice((1, 2, 1000)),
        )
        self.protocol = Protocol(self.settings, lambda: 0.0)
        self.model = ClientModel(self.settings)
        # A server that ends most connections within moments.
        self.flaps = world.random("server").random() < 0.2
        self.now = 0.0
        self.channels: list[tuple[ChannelRecord, ChannelModel]] = []
        self.pushes: list[tuple[PushRecord, ChannelModel, PushModel]] = []
        self.numbers: dict[ChannelRecord, int] = {}
        self.serial = 0
        self.did: list[Any] = []
        self.refs: list[str] = []
        self.steps: list[str] = []

    def run(self) -> None:
        self.act("connect", self.protocol.connect(self.now), self.model.connect)
        for _ in range(self.world.params["operations"]):
            name, weights = zip(*OPERATIONS, strict=True)
            operation = self.random.choices(name, weights)[0]
            operation(self)
            if self.flaps:
                self.connection()
            # No two steps happen at the same moment, so no two time-outs do. Their order would be open.
            self.pass_time(self.random.random() * 1e-4)
            if self.model.state == "ended":
                return
        self.pass_time(100.0)
        self.act("disconnect", self.protocol.disconnect(self.now), self.model.disconnect)

    def act(self, what: str, effects: list[Effect], predict: Callable[[], Any]) -> None:
        """Compare the effects of one step with the model's."""
        self.steps.append(f"{self.now:.3f}: {what}")
        predict()
        self.did += [shown for each in effects for shown in self.shown(each)]
        wanted, got = self.model.take(), self.did
        self.did = []
        self.world.check(
            got == wanted,
            f"after {what} at {self.now:.3f} s the client did {got}, not {wanted}; before: {self.steps[-12:]}; "
            f"{self.settings}",
        )
        self.refs += [each[1][1] for each in got if each[0] == "send"]
        if not self.protocol.has_ended:
            state = "closed" if self.model.state == "ended" else self.model.state
            self.world.check(
                self.protocol.state == state,
                f"the client is {self.protocol.state}, not {state}, after {self.steps[-12:]}",
            )
        for record, model in self.channels:
            buffered = len(model.waiting)
            self.world.check(
                record.buffered == buffered,
                f"{record.buffered} pushes of {record.topic} wait, not {buffered}, after {self.steps[-12:]}",
            )

    def shown(self, effect: Effect) -> list[Any]:
        """Return an effect in the notation of the model."""
        match effect:
            case Send():
                assert isinstance(effect.frame, str)
                return [("send", json.loads(effect.frame))]
            case Settled():
                response = None if effect.status in ("timeout", "closed") else effect.response
                return [("settled", effect.push.waiter, effect.status, response)]
            case Open():
                return [("open",)]
            case Close():
                return [("close",)]
            case Ended():
                return [("ended", self.numbers[effect.channel])]
            case Left():
                return [("left", self.numbers[effect.channel])]
            case Pong():
                return [("pong", None if effect.seconds is None else round(effect.seconds, 6))]
            case Arrived():
                return [("arrived", self.numbers[effect.channel], effect.message.payload)]
        return [("told", *self.told(effect.event))]

    def told(self, event: Any) -> list[Any]:
        fields, name = asdict(event, recurse=False), type(event).__name__
        values = (fields[each] for each in _FIELDS[name])
        return [name, *(round(each, 6) if type(each) is float else each for each in values)]

    # Time

    def wait(self) -> None:
        """Let time pass until just before, at or just after the next time-out, or for some other time."""
        due = self.model.due
        margin = self.random.choice((-0.001, 0.0, 0.001))
        until = due + margin if due < math.inf else self.now + 1.0
        if self.random.random() < 0.3:
            until = self.now + self.seconds(1.0)
        self.pass_time(max(0.0, until - self.now))

    def pass_time(self, seconds: float) -> None:
        end = self.now + seconds
        while self.protocol.deadline <= end:
            self.now = self.protocol.deadline
            effects = self.protocol.tick(self.now)
            self.did += [shown for each in effects for shown in self.shown(each)]
        self.now = end
        self.act(f"{seconds:.3f} s", [], lambda: self.model.advance(end))

    # The transport

    def connection(self) -> None:
        """Open the connection, or let it fail, or lose it."""
        if self.model.state == "connecting":
            if self.random.random() < 0.6:
                self.act("opened", self.protocol.opened(self.now), self.model.opened)
            else:
                effects = self.protocol.failed("refused", None, self.now)
                self.act("failed", effects, self.model.failed)
        elif self.model.state == "open" and self.random.random() < 0.5:
            code = self.random.choice((1006, 1000, 1012, *([FINAL] if self.serial > 150 else [])))
            effects = self.protocol.lost(code, "", self.now)
            self.act(f"lost with {code}", effects, lambda: self.model.lost(code))

    def receive(self, join_ref: Any, ref: Any, topic: str, event: str, payload: Any) -> None:
        message = [join_ref, ref, topic, event, payload]
        effects = self.protocol.received(json.dumps(message), self.now)
        self.act(f"received {message}", effects, lambda: self.model.received(*message))

    def answer(self) -> None:
        """Answer one of the latest frames of the client, or an old one."""
        if self.model.state != "open" or not self.refs:
            return
        ref = self.random.choice(self.refs[-4:] if self.random.random() < 0.9 else self.refs)
        found = self.random.choice(self.channels)[1] if self.channels else None
        for _, model in self.channels:
            if ref == model.join_ref or any(push.ref == ref for push in model.sent):
                found = model
        if self.model.beat_ref is not None and self.random.random() < 0.5:
            ref, found = self.model.beat_ref, None
        status = self.random.choice(("ok", "ok", "ok", "error"))
        payload = {"status": status, "response": {"n": self.serial}}
        if found is None:
            self.receive(None, ref, "phoenix", "phx_reply", payload)
        else:
            join_ref = found.join_ref if self.random.random() < 0.9 else "0"
            self.receive(join_ref, ref, found.topic, "phx_reply", payload)

    def frame(self) -> None:
        """Send an event, a crash or the end of a channel, of its current membership or of an earlier one."""
        if self.model.state != "open" or not self.channels:
            return
        model = self.random.choice(self.channels)[1]
        event = self.random.choices(("said", "phx_error", "phx_close"), (5, 4, 0.5))[0]
        join_ref = self.random.choices((model.join_ref, "0", None), (6, 1, 1))[0]
        self.serial += 1
        self.receive(join_ref, None, model.topic, event, {"n": self.serial})

    # The program

    def join(self) -> None:
        if len(self.model.channels) >= 4:
            return
        topic, timeout = self.random.choice(TOPICS), self.seconds(4.0)
        self.serial += 1
        number = self.serial
        record = self.protocol.channel(topic, {"n": number}, timeout)
        model = ChannelModel(number, topic, timeout)
        self.numbers[record] = number
        self.channels.append((record, model))
        self.model.channels.append(model)
        effects = self.protocol.join(record, self.now)
        self.act(f"join {number} of {topic}", effects, lambda: self.model.join(model))
        self.channels = [each for each in self.channels if each[1].state != "closed"]

    def leave(self) -> None:
        living = [each for each in self.channels if each[1].state != "closed"]
        if living:
            record, model = self.random.choice(living)
            effects = self.protocol.leave(record, self.now)
            self.act(f"leave of {model.number}", effects, lambda: self.model.leave(model))

    def push(self) -> None:
        living = [each for each in self.channels if each[1].state != "closed"]
        if not living:
            return
        record, model = self.random.choice(living)
        self.serial += 1
        repeats, timeout = self.random.random() < 0.3, self.seconds(3.0)
        push = PushModel(self.serial, timeout, repeats, self.now + timeout)
        pushed: PushRecord | None = None
        effects: list[Effect] = []
        try:
            pushed, effects = self.protocol.push(
                record,
                "do",
                {"n": push.number},
                now=self.now,
                timeout=timeout,
                is_repeatable=repeats,
            )
            pushed.waiter = push.number
        except BufferFull:
            pass
        is_taken: list[bool] = []
        self.act(
            f"push {push.number} of {model.number}",
            effects,
            lambda: is_taken.append(self.model.push(model, push)),
        )
        self.world.check(
            is_taken == [pushed is not None],
            f"push {push.number} was {'taken' if pushed else 'refused'}, after {self.steps[-12:]}",
        )
        if pushed is not None:
            self.pushes.append((pushed, model, push))

    def cancel(self) -> None:
        if self.pushes:
            record, channel, push = self.random.choice(self.pushes[-5:])
            self.protocol.cancel(record)
            self.act(f"cancel {push.number}", [], lambda: self.model.cancel(channel, push))

    def ping(self) -> None:
        if self.model.state == "open":
            _, effects = self.protocol.ping(self.now)
            self.act("ping", effects, self.model.ping)


OPERATIONS: list[tuple[Any, float]] = [
    (ClientTimes.wait, 6),
    (ClientTimes.connection, 4),
    (ClientTimes.answer, 7),
    (ClientTimes.frame, 2),
    (ClientTimes.join, 2),
    (ClientTimes.leave, 0.6),
    (ClientTimes.push, 4),
    (ClientTimes.cancel, 0.5),
    (ClientTimes.ping, 0.4),
]


@scenario(params={"operations": 150})
@small_bounds
async def client_times(world: World) -> None:
    """Run random steps of one client, and compare all its effects with the model."""
    await trio.lowlevel.checkpoint()
    ClientTimes(world).run()

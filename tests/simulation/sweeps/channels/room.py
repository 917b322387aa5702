"""The application of the sweeps: channels that carry out the actions of their clients, and a ledger of the results.

A client sends a list of actions as the payload of a join or of the event `do`. Each action is a list: its name and its
arguments. `Acts` documents the actions. The model of a sweep reads the same actions, and predicts their effects.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import trio
from attrs import define, field

from actors import (
    NORMAL,
    SHUTDOWN,
    Continue,
    Exit,
    NoReply,
    Pid,
    Reply,
    Shutdown,
    Stop,
    Timeout,
    Within,
    current_pid,
    exit,
    is_alive,
    send,
    spawn,
    trap_exits,
)
from channels import (
    Binary,
    Broadcast,
    Channel,
    ConnectRefused,
    JoinRefused,
    PushReply,
    Route,
    Socket,
    handle_in,
    handle_out,
    reply_to,
)
from channels.testing import JoinsAnswered
from tests.laws.memberships import MembershipsEnd
from tests.laws.subscriptions import SubscriptionsEnd

__all__ = [
    "CHECKED",
    "REASONS",
    "Acts",
    "Ledger",
    "Life",
    "Planned",
    "Room",
    "Strict",
    "UserSocket",
]

CHECKED = (JoinsAnswered, MembershipsEnd, SubscriptionsEnd)
"""The invariants of channels that the sweeps check in addition to the built-in invariants."""

Acts: TypeAlias = Sequence[Sequence[Any]]
"""Actions of a channel:

| action | what the channel does |
|---|---|
| `sleep`, seconds | sleeps |
| `push`, event, payload | pushes |
| `bin`, event, text | pushes the text as bytes |
| `bin_broadcast`, event, text | broadcasts the text as bytes |
| `broadcast`, event, payload | broadcasts, also to itself |
| `broadcast_from`, event, payload | broadcasts to all others |
| `endpoint`, topic, event, payload | broadcasts through the endpoint |
| `plain`, topic, text | broadcasts a plain message, which only processes get |
| `subscribe`, topic / `unsubscribe`, topic | changes its subscriptions |
| `reply`, status, response | replies when it returns |
| `late`, seconds, status, response, times | another process replies later |
| `info`, acts | sends itself actions |
| `continue`, acts | continues with actions |
| `within`, seconds, acts | does the actions if no message comes in time |
| `at_end`, acts | does the actions in `terminate` |
| `trap` | traps exits |
| `stop`, reason | stops, with the reply if there was one |
| `wrong` | returns a value that no callback may return |
| `crash` | raises |
| `exit`, reason | ends its process |
| `refuse`, payload | refuses the join |
| `answer`, value | answers the join with a value |
"""

REASONS: dict[str, Any] = {
    "normal": NORMAL,
    "shutdown": SHUTDOWN,
    "shutdown x": Shutdown("x"),
    "bad": "bad",
}


class Planned(Exception):
    """The crash that a client asked for."""


@define(eq=False)
class Life:
    """The record of one channel process."""

    client: str
    topic: str
    pid: Pid
    did: list[str] = field(factory=list)
    terminated: list[Any] = field(factory=list)
    assigns: dict[str, Any] = field(factory=dict)

    @property
    def is_alive(self) -> bool:
        return is_alive(self.pid)


@define(eq=False)
class Ledger:
    """The records of all channel processes of one world. A channel finds the ledger in the assigns of its socket."""

    lives: list[Life] = field(factory=list)
    connects: list[dict[str, Any]] = field(factory=list)
    broadcasts: list[Any] = field(factory=list)

    def of(self, client: str, topic: str) -> list[Life]:
        """Return the processes of a client's channels of a topic, the oldest first."""
        return [life for life in self.lives if (life.client, life.topic) == (client, topic)]

    def alive(self) -> list[Life]:
        return [life for life in self.lives if life.is_alive]


def text(payload: Any) -> Any:
    """Return a payload as JSON."""
    return payload.data.decode() if isinstance(payload, Binary) else payload


class Room(Channel):
    """A channel that carries out the actions of its client."""

    log_join = None
    log_handle_in = None

    def __init__(self) -> None:
        ledger: Ledger = self.assigns["ledger"]
        self.life = Life(self.assigns["client"], self.topic, current_pid())
        self.life.assigns = {k: v for k, v in self.assigns.items() if k != "ledger"}
        self.at_end: Acts = ()
        self.when_late: Acts = ()
        self.answer: Any = None
        ledger.lives.append(self.life)

    async def join(self, topic: str, payload: Any) -> Any:
        self.life.did.append("join")
        # No other channel shares these assigns, so the value must always be 1.
        self.assigns["mine"] = self.assigns.get("mine", 0) + 1
        self.life.assigns["mine"] = self.assigns["mine"]
        if isinstance(payload, Binary):
            return {"size": len(payload.data)}
        if isinstance(payload, dict):
            await self.act(payload.get("acts", ()))
        return self.answer

    @handle_in("do")
    async def do(self, payload: Any) -> Any:
        self.life.did.append("do")
        return await self.act(payload["acts"])

    @handle_in("echo", "echo2")
    async def echo(self, payload: Any) -> PushReply:
        self.life.did.append("echo")
        return PushReply(payload)

    async def handle_in(self, event: str, payload: Any) -> Any:
        if event == "anything":
            self.life.did.append("anything")
            return PushReply({"event": event, "payload": payload}, status="weird")
        return await super().handle_in(event, payload)

    @handle_out("seen")
    async def seen(self, payload: Any) -> Any:
        self.life.did.append("seen")
        if payload.get("boom") == self.life.client:
            raise Planned
        if payload.get("stop") == self.life.client:
            return Stop(NORMAL)
        self.push("seen", {**payload, "via": "handle_out"})
        return None

    @handle_out("hidden")
    async def hidden(self, payload: Any) -> None:
        self.life.did.append("hidden")

    async def handle_info(self, message: Any) -> Any:
        if isinstance(message, Broadcast):
            self.life.did.append("heard")
            self.push(
                "heard",
                {"topic": message.topic, "event": message.event, "payload": text(message.payload)},
            )
            return None
        if isinstance(message, Exit):
            self.life.did.append("exit")
            return None
        if isinstance(message, Timeout):
            self.life.did.append("timeout")
            return await self.act(self.when_late)
        if isinstance(message, str):
            self.life.did.append("plain")
            self.push("plain", {"text": message})
            return None
        self.life.did.append("info")
        return await self.act(message)

    async def handle_continue(self, argument: Any) -> Any:
        self.life.did.append("continue")
        return await self.act(argument)

    async def handle_call(self, request: Any, sender: Any) -> Any:
        self.life.did.append("call")
        result = await self.act(request)
        if isinstance(result, Stop):
            return Stop(result.reason, reply="stopped")
        return Reply("called")

    async def handle_cast(self, message: Any) -> Any:
        self.life.did.append("cast")
        return await self.act(message)

    async def terminate(self, reason: Any) -> None:
        self.life.terminated.append(reason)
        await self.act(self.at_end)

    # Actions

    async def act(self, acts: Acts) -> Any:
        """Do the actions, and return the result of the callback."""
        result: Any = None
        for name, *arguments in acts:
            if name in _ENDS:
                return _ENDS[name](self, result, *arguments)
            if name == "sleep":
                await trio.sleep(*arguments)
            elif name == "reply":
                result = PushReply(arguments[1], status=arguments[0])
            elif name == "answer":
                self.answer = arguments[0]
            else:
                getattr(self, f"act_{name}")(*arguments)
        return result

    def act_push(self, event: str, payload: Any) -> None:
        self.push(event, payload)

    def act_bin(self, event: str, payload: str) -> None:
        self.push(event, Binary(payload.encode()))

    def act_bin_broadcast(self, event: str, payload: str) -> None:
        self.broadcast(event, Binary(payload.encode()))

    def act_broadcast(self, event: str, payload: Any) -> None:
        self.broadcast(event, payload)

    def act_broadcast_from(self, event: str, payload: Any) -> None:
        self.broadcast_from(event, payload)

    def act_endpoint(self, topic: str, event: str, payload: Any) -> None:
        self.endpoint.broadcast(topic, event, payload)

    def act_plain(self, topic: str, message: str) -> None:
        self.endpoint.pubsub.broadcast(topic, message)

    def act_subscribe(self, topic: str) -> None:
        self.endpoint.pubsub.subscribe(topic)

    def act_unsubscribe(self, topic: str) -> None:
        self.endpoint.pubsub.unsubscribe(topic)

    def act_late(self, seconds: float, status: str, response: Any, times: int) -> None:
        where = self.socket_ref()

        async def later() -> None:
            await trio.sleep(seconds)
            for _ in range(times):
                reply_to(where, PushReply(response, status=status))

        spawn(later)

    def act_info(self, acts: Acts) -> None:
        send(current_pid(), acts)

    def act_at_end(self, acts: Acts) -> None:
        self.at_end = acts

    def act_trap(self) -> None:
        trap_exits()


def _stop(channel: Room, result: Any, reason: str) -> Stop:
    return Stop(REASONS[reason]) if result is None else Stop(REASONS[reason], reply=result)


def _within(channel: Room, result: Any, seconds: float, acts: Acts) -> Within:
    channel.when_late = acts
    return Within(seconds)


def _crash(channel: Room, result: Any) -> None:
    raise Planned("as planned")


def _refuse(channel: Room, result: Any, payload: Any) -> None:
    raise JoinRefused(payload)


_ENDS: dict[str, Any] = {
    "stop": _stop,
    "within": _within,
    "crash": _crash,
    "refuse": _refuse,
    "exit": lambda channel, result, reason: exit(REASONS[reason]),
    "continue": lambda channel, result, acts: Continue(acts),
    "wrong": lambda channel, result: ["no", "result"],
    "no_reply": lambda channel, result: NoReply(),
}


class Strict(Channel):
    """A channel without any handler."""

    log_join = None

    async def join(self, topic: str, payload: Any) -> Any:
        ledger: Ledger = self.assigns["ledger"]
        life = Life(self.assigns["client"], topic, current_pid())
        life.assigns = {k: v for k, v in self.assigns.items() if k != "ledger"}
        ledger.lives.append(life)
        self.life = life
        return {"strict": True}

    async def terminate(self, reason: Any) -> None:
        self.life.terminated.append(reason)


class UserSocket(Socket):
    """A socket whose clients choose their names. Its routes overlap, and the first route that matches counts."""

    log = None
    max_channels = 3
    channels = {
        "room:fixed": Route("room:fixed", Strict, {"route": "fixed", "color": "red"}),
        "room:*": Route("room:*", Room, {"route": "room"}),
        "rooms": Strict,
        "any:*": Route("any:*", Strict, {"route": "rest"}),
        "any:room": Room,
        # These routes match topics for messages between nodes. No client may join these topics.
        "phx_*": Strict,
        "ash*": Strict,
    }

    async def connect(self, params: dict[str, Any], connect_info: Any) -> None:
        self.assigns["ledger"] = self.endpoint.ledger  # type: ignore[attr-defined] # the sweep sets it
        self.assigns["client"] = params.get("name", "?")
        self.assigns["color"] = "blue"
        self.user = params.get("user")
        self.endpoint.ledger.connects.append(dict(params))  # type: ignore[attr-defined]
        how = params.get("connect")
        if how == "refuse":
            raise ConnectRefused("no")
        if how == "crash":
            raise Planned
        if how == "slow":
            await trio.sleep(2)

    def id(self) -> str | None:
        return None if self.user is None else f"user:{self.user}"

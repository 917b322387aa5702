"""A model of the channels protocol: the frames for each client and the callbacks of each channel, after each message.

The model follows the rules of Phoenix and docs/topics/differences.md. It handles one message after the other, because
the lockstep sweep waits for all effects of each message.
"""

from __future__ import annotations

from collections import defaultdict, deque
from typing import Any, Literal

from attrs import define, field

from actors import NORMAL, SHUTDOWN, Shutdown
from tests.simulation.sweeps.channels.clients import ABSENT, Client, Frame
from tests.simulation.sweeps.channels.room import REASONS, Acts

__all__ = ["CRASHED", "Member", "Model", "Seat"]

CRASHED = "crashed"
"""The exit reason of a channel whose callback raised."""

INTERCEPTED = ("seen", "hidden")

Outcome = tuple[Any, ...]


@define(eq=False)
class Member:
    """One membership of a client in a topic.

    Attributes:
        joined: True after the server accepted the join.
        did: the callbacks that the channel's process must have run.
        terminated: the reason that `terminate` must have got. Empty if `terminate` did not run.
    """

    seat: Seat
    topic: str
    is_room: bool
    join_ref: Any
    ref: Any
    joined: bool = False
    alive: bool = True
    trap: bool = False
    at_end: Acts = ()
    within: Acts | None = None
    has_life: bool = False
    did: list[str] = field(factory=list)
    terminated: list[Any] = field(factory=list)

    @property
    def channel_ref(self) -> Any:
        return self.ref if self.join_ref is None else self.join_ref

    def __str__(self) -> str:
        return f"the channel {self.topic!r} of {self.seat.client}"


@define(eq=False)
class Seat:
    """A connected client, and its memberships."""

    client: Client
    user: str | None
    members: dict[Any, Member] = field(factory=dict)
    history: dict[str, list[Member]] = field(factory=lambda: defaultdict(list))
    open: bool = True


class Model:
    """The part of the server's state that its clients can observe."""

    def __init__(self) -> None:
        self.seats: list[Seat] = []
        # The subscriptions of each topic: a member, and True if the subscription has a fastlane.
        self.subscriptions: dict[str, list[tuple[Member, bool]]] = defaultdict(list)
        self.expected: dict[Seat, list[Frame]] = defaultdict(list)
        self.mail: deque[tuple[Member, str, Any]] = deque()
        self.late: list[tuple[Member, Any, Any, Any, int]] = []

    # Frames

    def emit(  # noqa: PLR0917 - a frame has five fields
        self, seat: Seat, join_ref: Any, ref: Any, topic: Any, event: str, payload: Any
    ) -> None:
        """Record that a client must get a frame."""
        if seat.open:
            join_ref = ABSENT if seat.client.vsn == "1" else join_ref
            self.expected[seat].append(Frame(join_ref, ref, topic, event, payload))

    def emit_reply(  # noqa: PLR0917 - a reply has five fields
        self, seat: Seat, join_ref: Any, ref: Any, topic: Any, status: str, response: Any
    ) -> None:
        payload = {"status": status, "response": response}
        if isinstance(response, bytes):
            join_ref, ref = _in_binary(join_ref), _in_binary(ref)
        self.emit(seat, join_ref, ref, topic, "phx_reply", payload)

    def emit_close(self, member: Member) -> None:
        self.emit(member.seat, member.join_ref, member.join_ref, member.topic, "phx_close", {})

    def emit_error(self, member: Member) -> None:
        payload = {"reason": "channel_crash"}
        self.emit(member.seat, member.join_ref, member.join_ref, member.topic, "phx_error", payload)

    # Broadcasts

    def broadcast(
        self, topic: str, event: str, payload: Any, *, sender: Member | None = None
    ) -> bool:
        """Deliver a broadcast. Return False if the serializer of a client cannot express the payload."""
        is_fine = True
        for member, fastlane in list(self.subscriptions[topic]):
            if member is sender:
                continue
            if not fastlane or (event in INTERCEPTED and member.is_room):
                self.mail.append((member, "broadcast", (topic, event, payload)))
            elif isinstance(payload, bytes) and member.seat.client.vsn == "1":
                is_fine = False
            else:
                self.emit(member.seat, None, None, topic, event, payload)
        return is_fine

    def plain(self, topic: str, text: str) -> None:
        """Deliver a message that is no `Broadcast`. Processes get it, but clients do not."""
        for member, _ in list(self.subscriptions[topic]):
            self.mail.append((member, "plain", text))

    # Actions of a room

    def act(self, member: Member, acts: Acts, ref: Any = None) -> Outcome:
        """Do the actions of a callback. Return the kind and the arguments of the callback's result."""
        result: Outcome = ("none",)
        for name, *arguments in acts:
            if name in ("crash", "exit", "refuse", "continue", "wrong", "within"):
                return (name, *arguments)
            if name == "stop":
                return ("stop", arguments[0], result)
            if name == "reply":
                result = ("reply", *arguments)
            elif name == "answer":
                result = ("answer", *arguments)
            elif name == "no_reply":
                return ("none",)
            elif not getattr(self, f"_{name}")(member, ref, *arguments):
                return ("crash",)
        return result

    def _sleep(self, member: Member, ref: Any, seconds: float) -> bool:
        # While this process sleeps, all other processes handle their messages.
        own = [each for each in self.mail if each[0] is member]
        self.mail = deque(each for each in self.mail if each[0] is not member)
        self.deliver()
        self.mail.extend(own)
        return True

    def _push(self, member: Member, ref: Any, event: str, payload: Any) -> bool:
        if member.joined:
            self.emit(member.seat, member.channel_ref, None, member.topic, event, payload)
        return member.joined

    def _bin(self, member: Member, ref: Any, event: str, payload: str) -> bool:
        if not member.joined or member.seat.client.vsn == "1":
            return False
        join_ref = _in_binary(member.channel_ref)
        self.emit(member.seat, join_ref, None, member.topic, event, payload.encode())
        return True

    def _bin_broadcast(self, member: Member, ref: Any, event: str, payload: str) -> bool:
        return member.joined and self.broadcast(member.topic, event, payload.encode())

    def _broadcast(self, member: Member, ref: Any, event: str, payload: Any) -> bool:
        return member.joined and self.broadcast(member.topic, event, payload)

    def _broadcast_from(self, member: Member, ref: Any, event: str, payload: Any) -> bool:
        return member.joined and self.broadcast(member.topic, event, payload, sender=member)

    def _endpoint(self, member: Member, ref: Any, topic: str, event: str, payload: Any) -> bool:
        return self.broadcast(topic, event, payload)

    def _plain(self, member: Member, ref: Any, topic: str, text: str) -> bool:
        self.plain(topic, text)
        return True

    def _subscribe(self, member: Member, ref: Any, topic: str) -> bool:
        self.subscriptions[topic].append((member, False))
        return True

    def _unsubscribe(self, member: Member, ref: Any, topic: str) -> bool:
        self._drop(member, topic)
        return True

    def _late(  # noqa: PLR0917 - the arguments of the action
        self, member: Member, ref: Any, seconds: float, status: str, response: Any, times: int
    ) -> bool:
        if ref is None:
            return False
        self.late.append((member, ref, status, response, times))
        return True

    def _info(self, member: Member, ref: Any, acts: Acts) -> bool:
        self.mail.append((member, "info", acts))
        return True

    def _at_end(self, member: Member, ref: Any, acts: Acts) -> bool:
        member.at_end = acts
        return True

    def _trap(self, member: Member, ref: Any) -> bool:
        member.trap = True
        return True

    def _drop(self, member: Member, topic: str | None = None) -> None:
        for name, subscriptions in self.subscriptions.items():
            if topic is None or name == topic:
                subscriptions[:] = [each for each in subscriptions if each[0] is not member]

    # The mailboxes

    def settle(self) -> None:
        """Handle all messages, then send the late replies, and then run the timeouts."""
        self.deliver()
        for member, ref, status, response, times in self.late:
            for _ in range(times):
                self.emit_reply(
                    member.seat, member.channel_ref, ref, member.topic, status, response
                )
        self.late = []
        for seat in self.seats:
            for member in list(seat.members.values()):
                if member.within is not None and member.alive:
                    acts, member.within = member.within, None
                    member.did.append("timeout")
                    self.result(member, self.act(member, acts))
                    self.deliver()

    def deliver(self) -> None:
        """Handle the messages of all processes, in the order of arrival."""
        while self.mail:
            member, kind, content = self.mail.popleft()
            if member.alive:
                member.within = None
                self._handle(member, kind, content)

    def _handle(self, member: Member, kind: str, content: Any) -> None:
        if not member.is_room:
            # The default handle_info drops every message.
            return
        outcome: Outcome = ("none",)
        if kind == "broadcast":
            topic, event, payload = content
            if topic == member.topic and event in INTERCEPTED:
                member.did.append(event)
                outcome = self._intercept(member, event, payload)
            else:
                member.did.append("heard")
                if isinstance(payload, bytes):
                    payload = payload.decode()
                self._push(
                    member, None, "heard", {"topic": topic, "event": event, "payload": payload}
                )
        elif kind == "plain":
            member.did.append("plain")
            self._push(member, None, "plain", {"text": content})
        elif kind == "exit":
            member.did.append("exit")
        else:
            member.did.append(kind)
            outcome = self.act(member, content)
        self.result(member, outcome)

    def _intercept(self, member: Member, event: str, payload: Any) -> Outcome:
        if event == "hidden":
            return ("none",)
        name = member.seat.client.name
        if payload.get("boom") == name:
            return ("crash",)
        if payload.get("stop") == name:
            return ("stop", "normal", ("none",))
        self._push(member, None, "seen", {**payload, "via": "handle_out"})
        return ("none",)

    def result(self, member: Member, outcome: Outcome, push: tuple[Any, ...] | None = None) -> None:
        """Apply the result of a callback. `push` is the ref of the push that the callback handled, if any."""
        kind = outcome[0]
        if kind == "none":
            return
        if kind == "reply":
            if push is None:
                # Only a push can have a reply.
                self.end(member, CRASHED)
                return
            _, status, response = outcome
            if isinstance(response, bytes) and member.seat.client.vsn == "1":
                self.end(member, CRASHED)
                return
            self.emit_reply(
                member.seat, member.channel_ref, push[0], member.topic, status, response
            )
        elif kind == "continue":
            member.did.append("continue")
            self.result(member, self.act(member, outcome[1]))
        elif kind == "within":
            member.within = outcome[2]
        elif kind == "stop":
            self._stop(member, outcome, push)
        elif kind == "exit":
            self.end(member, REASONS[outcome[1]])
        else:
            self.end(member, CRASHED)

    def _stop(self, member: Member, outcome: Outcome, push: tuple[Any, ...] | None) -> None:
        _, name, inner = outcome
        reason = REASONS[name]
        if inner[0] == "reply":
            if push is None:
                self.end(member, CRASHED)
                return
            _, status, response = inner
            self.emit_reply(
                member.seat, member.channel_ref, push[0], member.topic, status, response
            )
        is_clean = reason in (NORMAL, SHUTDOWN) or isinstance(reason, Shutdown)
        self.end(member, reason, how="close" if is_clean else "error")

    def end(
        self,
        member: Member,
        reason: Any,
        *,
        how: Literal["close", "error", "silent"] = "error",
        terminates: bool = True,
    ) -> None:
        """End a joined channel. `how` is the kind of its last frame."""
        if not member.alive:
            return
        if how == "close":
            self.emit_close(member)
        if terminates:
            member.terminated.append(reason)
            if member.is_room:
                self.act(member, member.at_end)
        if how == "error":
            self.emit_error(member)
        self.gone(member)

    def gone(self, member: Member) -> None:
        """Forget a channel whose process has ended."""
        member.alive = False
        self._drop(member)
        if member.seat.members.get(member.topic) is member:
            del member.seat.members[member.topic]

    # Messages of clients

    def join(self, seat: Seat, member: Member, acts: Acts, closes: list[Member]) -> str:
        """Run the `join` callback of a channel. Return "ok", "error" or "crash"."""
        member.has_life = True
        seat.history[member.topic].append(member)
        if not member.is_room:
            return self.accept(member, {"strict": True}, closes)
        member.did.append("join")
        outcome = self.act(member, acts)
        if outcome[0] == "refuse":
            self.emit_reply(
                seat, member.join_ref, member.ref, member.topic, "error", outcome[1] or {}
            )
            self._emit_closes(closes)
            member.terminated.append(SHUTDOWN)
            self.act(member, member.at_end)
            self.gone(member)
            return "error"
        if outcome[0] in ("none", "answer"):
            answer = outcome[1] if outcome[0] == "answer" else None
            if answer is None or isinstance(answer, dict):
                return self.accept(member, {} if answer is None else answer, closes)
        self.crashed_join(member, closes)
        return "crash"

    def accept(self, member: Member, answer: Any, closes: list[Member]) -> str:
        """Accept a join."""
        self.emit_reply(member.seat, member.join_ref, member.ref, member.topic, "ok", answer)
        self._emit_closes(closes)
        member.joined = True
        self.subscriptions[member.topic].append((member, True))
        return "ok"

    def crashed_join(self, member: Member, closes: list[Member]) -> None:
        """Answer a join whose channel crashed. The channel's terminate does not run."""
        crashed = {"reason": "join crashed"}
        self.emit_reply(member.seat, member.join_ref, member.ref, member.topic, "error", crashed)
        self.gone(member)
        self._emit_closes(closes)

    def _emit_closes(self, closes: list[Member]) -> None:
        for each in closes:
            self.emit_close(each)

    def push(self, member: Member, ref: Any, event: Any, payload: Any) -> None:
        """Run the callback of a channel for a push."""
        if not member.alive:
            return
        member.within = None
        if event == "phx_leave":
            self.emit_reply(member.seat, member.channel_ref, ref, member.topic, "ok", {})
            self.end(member, Shutdown("left"), how="close")
            return
        if member.is_room and event in ("echo", "echo2"):
            member.did.append("echo")
            self.result(member, ("reply", "ok", payload), (ref,))
        elif member.is_room and event == "anything":
            member.did.append("anything")
            response = {"event": event, "payload": payload}
            self.result(member, ("reply", "weird", response), (ref,))
        elif member.is_room and event == "do" and isinstance(payload, dict):
            member.did.append("do")
            self.result(member, self.act(member, payload["acts"], ref), (ref,))
        else:
            if member.is_room and event == "do":
                member.did.append("do")
            self.end(member, CRASHED)

    # The end of a connection

    def disconnect(self, seat: Seat, reason: Any) -> None:
        """End a connection, and all its channels."""
        seat.open = False
        for member in list(seat.members.values()):
            self.end(member, reason, how="silent")

    # Figures

    def subscribers(self) -> dict[str, int]:
        """Return the number of subscriptions of each topic."""
        return {topic: len(each) for topic, each in self.subscriptions.items() if each}

    def living(self) -> int:
        return sum(member.alive for seat in self.seats for member in seat.members.values())


def _in_binary(ref: Any) -> str:
    """Return a ref as a string, because a binary frame has no other refs."""
    return "" if ref is None else str(ref)

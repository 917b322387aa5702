"""What a session knows of a joined topic, and what it asks its connection to do.

*pure*. `Membership` is shared between the session, the connection's process and the process of the
channel; the effects are what `Session` returns, to be carried out in order.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec

from channels.excerpts import brief
from channels.messages import Message
from channels.topics import Route

__all__ = ["Close", "Deliver", "Effect", "Membership", "Send", "Start", "Status"]

Status: TypeAlias = Literal["joining", "superseded", "joined", "leaving", "gone"]
"""The way of a membership. It is only ever `gone` in the end, from any of the others."""


class Membership:
    """One client's hold on one topic, from the moment it asks to join until its channel is gone.

    Memberships are compared by identity: after a second join of the same topic there are two with
    equal fields, and only one of them is current.

    - `topic`, `route`: what was joined, and the line of the routing table that matched;
    - `join_ref`: as the client sent it, None included. Later messages have to carry it (or None),
      and the frames that end the membership carry it;
    - `ref`: that of the join message, for the reply to it;
    - `channel_ref`: what the channel's own pushes and replies carry as their join_ref: the
      `join_ref`, or where that is None or False the `ref`;
    - `status`: `joining`; `superseded` (its topic was joined again before its own join was
      answered: the answer is still to be written, and nothing else); `joined`; `leaving` (a leave
      was handed to the channel); or `gone` (the session has forgotten it, and has said or arranged
      what the client has to know: neither an answer to its join nor a phx_close may be written any
      more). The session's to change, but for `accepted`;
    - `process`: whatever the connection needs to find the channel's process again; None until it
      has one. The connection's to change;
    - `ended`: that the last frame of the membership (the refusal of its join, or its phx_close)
      is written. To be set by whoever writes that frame, in the same step, since a client may join
      again before the session hears of it.
    - `waiting`: messages that were handed to the channel and that it has not begun to handle. Counted up by the
      connection and down by the channel, so that the one can stop reading when the other cannot keep up. Long
      messages count several times: see `load`.
    """

    __slots__ = (
        "_close",
        "_closes",
        "_loads",
        "_successor",
        "channel_ref",
        "ended",
        "join_ref",
        "process",
        "ref",
        "route",
        "status",
        "topic",
        "waiting",
    )

    def __init__(self, message: Message, route: Route) -> None:
        self.topic: str = message.topic
        self.join_ref = message.join_ref
        self.ref = message.ref
        # `join_ref || ref` in Elixir, where false counts as nil does.
        absent = message.join_ref is None or message.join_ref is False
        self.channel_ref = message.ref if absent else message.join_ref
        self.route = route
        self.status: Status = "joining"
        self.process: Any = None
        self.ended = False
        self.waiting = 0
        self._loads: dict[int, int] = {}
        self._closes: list[bytes] | None = None
        self._successor: Membership | None = None
        self._close = b""

    def __repr__(self) -> str:
        return f"<membership of {brief(self.topic)} join_ref={brief(self.join_ref)} {self.status}>"

    def join_message(self, payload: Any) -> Message:
        """The message that asked for this membership, with the payload that it had."""
        return Message(self.join_ref, self.ref, self.topic, "phx_join", payload)

    def load(self, message: Message, weight: int) -> None:
        """Count a message that waits `weight` times."""
        self.waiting += weight
        # By identity: two of the same words are two messages. It is kept alive by the mailbox that it waits in.
        self._loads[id(message)] = weight

    def unload(self, message: Message) -> int:
        """Count a message that waits no longer, and return what waited before."""
        before = self.waiting
        self.waiting -= self._loads.pop(id(message), 1) if self._loads else 1
        return before

    def supersede(self, successor: Membership, close: bytes) -> None:
        """Note that the topic was joined again before this join was answered.

        Args:
            successor: the membership of the later join.
            close: the phx_close of this one, which is written if its join is answered with ok.
        """
        self.status = "superseded"
        self._successor = successor
        self._close = close

    def accepted(self) -> None:
        """Note that the ok to the join is written. To be called by whoever writes it, in the same step.

        If it is superseded, it is over with that: its phx_close is written behind the answer to the latest join of the
        topic, or behind this answer if the latest has ended already.
        """
        if self.status == "joining":
            self.status = "joined"
        elif self.status == "superseded":
            self.status = "gone"
            latest = self
            while latest._successor is not None:
                latest = latest._successor
            (self if latest.status == "gone" else latest).add_closes([self._close])

    @property
    def closes(self) -> tuple[bytes, ...]:
        """The frames that `take_closes` would return now."""
        return tuple(self._closes or ())

    def take_closes(self) -> list[bytes]:
        """Hand over the phx_close frames of the memberships that this one replaced.

        Whoever writes the answer to the join (ok, refused or crashed) writes these right behind
        it: clients get the new answer first and the old close after it, as with Phoenix. Each
        frame is handed over once.
        """
        closes = self._closes
        if closes is None:
            return []
        self._closes = None
        return closes

    def add_closes(self, frames: list[bytes]) -> None:
        """Put frames behind those that wait already."""
        if frames:
            self._closes = [*(self._closes or ()), *frames]


# Effects are made for every frame that arrives: structs are built in C, in a third of the time
# that a class with slots takes. They live for as long as it takes to carry them out, so the
# garbage collector need not know them.


class Start(msgspec.Struct, gc=False):
    """Start the channel of a membership, and have it answer the join.

    - `membership`: new, current, and `joining`;
    - `message`: the join, with the payload for the channel's `join`;
    - `replaced`: the membership that had the topic before and whose channel has to go, with the
      reason `Shutdown("duplicate_join")`: now, or if it is superseded when it has answered its
      join. None where there is none, or where its channel has written its last frame already and
      is about to end by itself.
    """

    membership: Membership
    message: Message
    replaced: Membership | None = None


class Deliver(msgspec.Struct, gc=False):
    """Hand a message, a leave included, to the channel of a membership."""

    membership: Membership
    message: Message


class Send(msgspec.Struct, gc=False):
    """Write a ready-made frame to the client.

    `cause` tells a log why, where the frame says no to something: `unmatched topic` or
    `too many channels joined` (of a join) or `join crashed`; None for all else.
    """

    frame: bytes
    cause: str | None = None


class Close(msgspec.Struct, gc=False):
    """Close the connection, and do not feed its session again.

    - `code`, `reason`: for the WebSocket close frame. The reason is empty as in Phoenix: details
      are nothing for whoever sent the frame;
    - `cause`: one sentence for the log.
    """

    code: int
    reason: str
    cause: str


Effect: TypeAlias = Start | Deliver | Send | Close
"""What a session may ask for."""

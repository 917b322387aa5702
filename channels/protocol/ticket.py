"""The ticket of a membership, through which the process of a channel reads and reports the membership's state.

*pure*: no I/O, no clock, no tasks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from actors.text import brief
from channels.messages import Message
from channels.protocol.session import Membership

__all__ = ["Ticket"]


class Ticket:
    """One client's membership in one topic, as its channel holds it, from the join message until the channel has ended.

    The channel reports to the session in the step that writes a frame (`accept`, `end`). The connection counts the
    messages that it passes to the channel (`load`), and the channel counts them off (`unload`).

    Attributes:
        membership: the record of the session. The channel reads it, and does not change it. It does not refer to the
            ticket, because a cycle of references would live until the next garbage collection.
        topic: the topic.
        route: the matching route.
        join_ref: the join_ref of the join message, which may be None.
        ref: the ref of the join message, for its reply.
        channel_ref: the join_ref of the channel's pushes and replies.
        waiting: messages of the connection that the channel has not begun to handle. The connection stops reading if
            there are too many. A long message counts several times: see `load`.
        loads: the weights of the waiting long messages, by the id of the message; None before the first.
    """

    __slots__ = (
        "channel_ref",
        "join_ref",
        "loads",
        "membership",
        "ref",
        "route",
        "topic",
        "waiting",
    )

    def __init__(self, membership: Membership) -> None:
        self.membership = membership
        self.topic = membership.topic
        self.route = membership.route
        self.join_ref = membership.join_ref
        self.ref = membership.ref
        self.channel_ref = membership.channel_ref
        self.waiting = 0
        self.loads: dict[int, int] | None = None  # made on first use, to save memory

    def __repr__(self) -> str:
        return f"<ticket for {brief(self.topic)} join_ref={brief(self.join_ref)}>"

    def join_message(self, payload: Any) -> Message:
        """Return the join message of this membership, with the given payload."""
        return Message(self.join_ref, self.ref, self.topic, "phx_join", payload)

    def accept(self, put: Callable[[bytes], object], reply: bytes) -> None:
        """Report that the channel has accepted the join, and write the answer in the same step.

        The report is no message to the connection, because a client may join again right after the answer. It would
        also cost every join two messages.

        Args:
            put: a function that writes a frame.
            reply: the encoded answer.
        """
        self.membership.accepted()
        self.answer(put, reply)

    def answer(self, put: Callable[[bytes], object], reply: bytes) -> None:
        """Write the answer to the join, and after it the phx_close of each membership that this one replaced."""
        put(reply)
        for close in self.membership.take_closes():
            put(close)

    def end(self) -> None:
        """Report that the channel has refused the join or has written phx_close, in the step of that frame."""
        self.membership.end()

    def load(self, message: Message, weight: int) -> None:
        """Count a waiting message `weight` times."""
        self.waiting += weight
        # By id, because equal messages count separately. The mailbox keeps the message alive, so its id stays unique.
        if self.loads is None:
            self.loads = {}
        self.loads[id(message)] = weight

    def unload(self, message: Message) -> None:
        """Stop counting a message as waiting."""
        self.waiting -= self.loads.pop(id(message), 1) if self.loads else 1

"""The invariant that memberships end once."""

from __future__ import annotations

from collections.abc import Hashable
from typing import ClassVar

from attrs import define, field

from actors import ExitReason, Pid, is_alive
from channels.laboratory.invariants import Client, Frames, Meaning
from channels.messages import Message
from channels.protocol.session import Membership
from supervision.laboratory.chaos.invariants.base import Feed, Invariant


class MembershipsEnd(Invariant):
    """Every accepted membership ends with exactly one `phx_close` or `phx_error`.

    If the process of a joined channel ends, its client must get one of these frames before the clock advances. If the
    client has joined the topic again, the `phx_close` follows the answer to the next join. A client that has
    disconnected needs neither frame.
    """

    name: ClassVar[str] = "memberships_end"
    feed: ClassVar[type[Feed] | None] = Frames

    def __init__(self) -> None:
        super().__init__()
        self._clients: dict[Pid, _Memberships] = {}

    def process_exited(self, pid: Pid, reason: ExitReason) -> None:
        self._clients.pop(pid, None)

    def started(self, client: Client) -> None:
        self._clients[client.pid] = _Memberships(client)

    def asked(self, client: Client, message: Message) -> None:
        """Ignore the message. A membership begins with the start of its channel."""

    def starting(self, client: Client, membership: Membership) -> None:
        memberships = self._clients.get(client.pid)
        if memberships is not None:
            memberships.joining.append(membership)

    def written(self, client: Client, meaning: Meaning) -> None:
        memberships = self._clients.get(client.pid)
        if memberships is not None and not memberships.written(meaning):
            self.violated(
                f"{self.who(client.pid)}: {meaning.kind} ends the membership in {meaning.topic!r} (join_ref "
                f"{meaning.join_ref!r}), which was not accepted or has ended before"
            )

    def at_rest(self) -> str | None:
        late: dict[Hashable, str] = {}
        for pid, memberships in self._clients.items():
            ended = memberships.silently_ended()
            if ended is not None and not memberships.client.is_busy_or_gone():
                late[ended] = (
                    f"{self.who(pid)}: the channel of {ended.topic!r} (join_ref {ended.join_ref!r}) has ended, and "
                    "its client got neither phx_close nor phx_error"
                )
        return self.late_twice(late)


@define(eq=False)
class _Memberships:
    """The memberships of one client, oldest first: `joining` without a reply to the join, and `accepted`."""

    client: Client
    joining: list[Membership] = field(factory=list)
    accepted: list[Membership] = field(factory=list)

    def written(self, meaning: Meaning) -> bool:
        """Note a frame for the client. Return False if it ends a membership that was not accepted or has ended."""
        if meaning.kind == "reply":
            for membership in self.joining:
                if (membership.topic, membership.ref) == (meaning.topic, meaning.ref):
                    self.joining.remove(membership)
                    if meaning.status == "ok":
                        self.accepted.append(membership)
                    break
            return True
        for membership in self.accepted:
            if (membership.topic, membership.join_ref) == (meaning.topic, meaning.join_ref):
                self.accepted.remove(membership)
                return True
        return False

    def silently_ended(self) -> Membership | None:
        """Return an accepted membership whose process has ended, although the client got no frame about the end."""
        for membership in self.accepted:
            waits = any(each.topic == membership.topic for each in self.joining)
            process = membership.process
            if process is not None and not is_alive(process) and not waits:
                return membership
        return None

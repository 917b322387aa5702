"""The process of one channel of supabase's clients.

A private topic with a history is durable: its stored messages pass through this process, so a client gets each of them
once, either replayed after the join or live. All other broadcasts bypass the process.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

import msgspec

from actors.servers.results import Continue, NoReply, Stop, Within
from channels.connection.channel_server import ChannelServer
from channels.durable.server import DurableChannelServer
from channels.durable.stream import Cursor, Entry, Position
from channels.messages import Message
from channels.supabase.changes import CHANGES, Change
from channels.supabase.serializers import PRIVATE

__all__ = ["JOINED", "Expired", "SupabaseServer"]

JOINED = object()
"""A channel's message to itself: its join was accepted."""


class Expired:
    """The message of the timer for the end of a token."""

    __slots__ = ("token",)

    def __init__(self, token: str) -> None:
        self.token = token


class SupabaseServer(DurableChannelServer):
    """The process of one `SupabaseChannel`."""

    is_durable = False

    def _accept(self, response: Any) -> Awaitable[None] | None:  # type: ignore[override] # only some channels wait
        channel: Any = self.channel
        if channel.private:
            channel.topic = PRIVATE + self.ticket.topic
            if channel.messages is not None:
                return self._accept_durably(response)
        return ChannelServer._accept(self, response)

    async def _accept_durably(self, response: Any) -> None:
        channel: Any = self.channel
        history = self.history = channel.messages
        self.lane, self.is_durable = history.lane(channel.topic), True
        history.follow(channel.topic)
        found = await history.read(channel.topic)
        self.cursor = Cursor(found.end, history.limits.mode)
        ChannelServer._accept(self, response)
        if not self.ticket.membership.is_gone:
            for message in channel.replayed(found.entries):
                await self.link.budget.take(1)
                channel.push("broadcast", message)

    async def handle_info(self, message: Any) -> Stop | NoReply | Continue | Within | None:
        channel: Any = self.channel
        if type(message) is Message:
            return await ChannelServer.handle_info(self, message)
        if message is JOINED:
            await channel.on_joined()
        elif type(message) is Expired:
            return self._checked(channel.on_expired(message.token), "handle_info")
        elif type(message) is list and message[:1] == [CHANGES]:
            channel.on_change(msgspec.convert(message[1], Change))
        elif self.is_durable:
            return await super().handle_info(message)
        else:
            return await ChannelServer.handle_info(self, message)
        return None

    async def _pass_on(self, entry: Entry) -> None:
        self.cursor.move(Position(entry.epoch, entry.offset))
        channel: Any = self.channel
        channel.on_stored(entry)

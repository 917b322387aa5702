"""Bugs in PubSub, presence, durable topics, and the client."""

from __future__ import annotations

from tests.simulation.mutants.mutant import Mutant

__all__ = ["IN_TOPICS"]

_PUBSUB = ("tests/channels/pubsub", "tests/contracts", "tests/channels/test_channel.py")
_PRESENCE = ("tests/channels/presence", "tests/properties/test_presence_state.py")
_DURABLE = ("tests/channels/durable", "tests/contracts")
_CLIENT = ("tests/channels/client",)

IN_TOPICS = (
    # PubSub
    Mutant(
        name="broadcast_from reaches its sender if there are other nodes",
        file="channels/pubsub/pubsub.py",
        old="            dispatch(subscribers, sender, message, encoded=encoded)\n",
        new="            dispatch(subscribers, None, message, encoded=encoded)\n",
        promise="PubSub.broadcast: leaves out `sender`",
        seen="A client of a server with several nodes gets its own messages.",
        tests=_PUBSUB,
    ),
    Mutant(
        name="a broadcast to clients of two wire formats uses the wrong frame",
        file="channels/pubsub/local.py",
        old="""\
                except EncodeError as error:
                    if not is_checked:
                        raise
                    known[codec], failed = None, error
            frame = known[codec]
""",
        new="""\
                except EncodeError as error:
                    if not is_checked:
                        raise
                    known[codec], failed = None, error
                frame = known[codec]
""",
        promise="local.dispatch: encodes a broadcast once for each wire format",
        seen="V1 clients get V2 frames when clients of both versions have joined in turn.",
        tests=_PUBSUB,
        found_by_tests=False,
    ),
    Mutant(
        name="a message that is too large looks like a loss to other nodes",
        file="channels/pubsub/exchange.py",
        old="""\
        if len(data) > self._max_bytes:
            self._numbers.take_back(lane)
            raise""",
        new="""\
        if len(data) > self._max_bytes:
            raise""",
        promise="Exchange.message: the next envelope gets the number of a refused one",
        seen="Other nodes count and log lost messages that were never sent.",
        tests=_PUBSUB,
    ),
    Mutant(
        name="a worker forgets how many bytes wait after a partial write",
        file="channels/pubsub/workers/adapter.py",
        old="            self._waiting_bytes -= sent\n",
        new="            self._waiting_bytes -= size\n",
        promise="WorkersAdapter: max_waiting_bytes limits the bytes that wait",
        seen="A worker whose hub is slow uses more and more memory, and its statistics are negative.",
        tests=_PUBSUB,
    ),
    # Presence
    Mutant(
        name="two reads of a topic between two announcements count as one",
        file="channels/presence/diff.py",
        old="            pending.reads += 1\n",
        new="            pending.reads = 1\n",
        promise="DiffBuffer: after a read, the next message has the last change of the entry",
        seen="A client that joined at that moment shows a user who has left.",
        tests=_PRESENCE,
        found_by_tests=False,
    ),
    Mutant(
        name="other nodes keep the latest presence of the last message after it has left",
        file="channels/presence/state.py",
        old="        if tag <= self._start:\n",
        new="        if tag < self._start:\n",
        promise="State: after the exchange all nodes have the same presences",
        seen="Users who have left stay present on other nodes.",
        tests=_PRESENCE,
    ),
    Mutant(
        name="a presence stays if its owner ends while no tracker runs",
        file="channels/presence/tracker.py",
        old="""\
        self._owners.pop(owner, None)
        self.roster.owner_ended(owner, trio.current_time())
""",
        new="""\
        self._owners.pop(owner, None)
        if self.tracker is None or not is_alive(self.tracker):
            return
        self.roster.owner_ended(owner, trio.current_time())
""",
        promise="docs/topics/presence.md: removes the presences of processes that ended in the meantime",
        seen="Users whose channel ends during a crash of the tracker never leave.",
        tests=_PRESENCE,
    ),
    # Durable topics
    Mutant(
        name="a second forgotten topic lowers the offset of new topics",
        file="channels/durable/memory.py",
        old="            self._floor = max(self._floor, stream.last)\n",
        new="            self._floor = stream.last\n",
        promise="docs/reference/durable.md: a position names one place in the history of a topic",
        seen="A client of a forgotten topic reconnects, and misses new messages without an error.",
        tests=_DURABLE,
    ),
    Mutant(
        name="three equal pushes at once are handled twice",
        file="channels/durable/history.py",
        old="        while (end := self._handled.get(push.name)) is not None:\n",
        new="        if (end := self._handled.get(push.name)) is not None:\n",
        promise="History.begin: waits while another channel handles a push with the key",
        seen="A push that a client repeats over several connections has two results.",
        tests=_DURABLE,
        found_by_tests=False,
    ),
    Mutant(
        name="a client that missed all kept messages counts as too old",
        file="channels/durable/stream.py",
        old="    elif position.offset + 1 < found.first:\n",
        new="    elif position.offset < found.first:\n",
        promise="recover: a client gets every message after its position if the storage has them",
        seen="A client that could recover reloads everything.",
        tests=_DURABLE,
    ),
    Mutant(
        name="a check tells the channels of one message less than the storage has",
        file="channels/durable/history.py",
        old="                end = End(Position(ends.epoch, ends.offsets.get(topic, 0)))\n",
        new="                end = End(Position(ends.epoch, ends.offsets.get(topic, 0) - 1))\n",
        promise="History(check_interval=): the joined topics are checked for messages that did not arrive",
        seen="If the last message of a topic is lost between nodes, clients miss it until the next message.",
        tests=_DURABLE,
    ),
    Mutant(
        name="the storage in Redis tells the channels of one message less than it has",
        file="channels/durable/redis.py",
        old="            offsets.update((each, last) for each, last in zip(some, lasts, strict=True) if last)\n",
        new="            offsets.update((each, last - 1) for each, last in zip(some, lasts, strict=True) if last)\n",
        promise="RedisStorage.ends: the last offset of each kept topic",
        seen="A node that was cut off while the last message of a topic was kept never sends it.",
        tests=_DURABLE,
    ),
    Mutant(
        name="a history does not repeat a failed check",
        file="channels/durable/history.py",
        old="""\
                    await trio.sleep(min(_RETRY, self.check_interval))
                    self._doubt.set()
""",
        new="""\
                    await trio.sleep(min(_RETRY, self.check_interval))
""",
        promise="history._RETRY: seconds until the history repeats a failed check",
        seen="After a failure of the storage, clients lack messages for up to half a minute.",
        tests=_DURABLE,
    ),
    Mutant(
        name="a channel reads its history before it follows the topic",
        file="channels/durable/server.py",
        old="""\
        history.follow(topic)
        recovery = await history.recover(topic, self.position)
""",
        new="""\
        recovery = await history.recover(topic, self.position)
        history.follow(topic)
""",
        promise="DurableChannel: a client gets each message after its position once, in order",
        seen="A client misses a message that was kept while it joined, until the next message.",
        tests=_DURABLE,
    ),
    # The client
    Mutant(
        name="the client folds the presence changes before a state again after the next state",
        file="channels/client/presence_fold.py",
        old="""\
            changes += more
        self.pending.clear()
""",
        new="""\
            changes += more
""",
        promise="PresenceFold: a diff applies once",
        seen="After a second presence_state the client shows users who left long ago.",
        tests=_CLIENT,
    ),
    Mutant(
        name="a push that still waits does not fail when its channel closes",
        file="channels/client/protocol.py",
        old="        for push in (*channel.pending.values(), *channel.buffer):\n",
        new="        for push in tuple(channel.pending.values()):\n",
        promise="ClientChannel.push: raises ChannelClosed; a push fails as soon as its channel closes",
        seen="A program waits for the whole timeout of a push to a channel that it has left.",
        tests=_CLIENT,
        found_by_tests=False,
    ),
    Mutant(
        name="a channel of the client counts sent pushes as buffered",
        file="channels/client/protocol.py",
        old="""\
        waiting, channel.buffer = channel.buffer, []
        channel.buffered = 0
        for push""",
        new="""\
        waiting, channel.buffer = channel.buffer, []
        for push""",
        promise="open_socket: max_buffered limits the pushes that wait",
        seen="After some lost connections every push raises BufferFull.",
        tests=_CLIENT,
        found_by_tests=False,
    ),
    Mutant(
        name="a client does not come back after a heartbeat without an answer",
        file="channels/client/protocol.py",
        old="""\
        self._drop_connection(events.Lost(cause), "heartbeat_timeout")
        self._schedule_reconnect()
""",
        new="""\
        self._drop_connection(events.Lost(cause), "heartbeat_timeout")
""",
        promise="docs/reference/client.md: the client keeps the connection open",
        seen="A client whose network went silent never connects again.",
        tests=_CLIENT,
    ),
)

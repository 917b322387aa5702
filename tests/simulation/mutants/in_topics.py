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
        module="channels.pubsub.pubsub",
        function="PubSub._carry_out",
        shape="dispatch(S, P, M, encoded=E)",
        replacement="dispatch(S, None, M, encoded=E)",
        promise="PubSub.broadcast: leaves out `sender`",
        seen="A client of a server with several nodes gets its own messages.",
        tests=_PUBSUB,
    ),
    Mutant(
        name="a broadcast to clients of two wire formats uses the wrong frame",
        module="channels.pubsub.local",
        function="_fan_out",
        shape="""\
if C not in K:
    AA
F = K[C]
""",
        replacement="""\
if C not in K:
    AA
    F = K[C]
""",
        promise="local.dispatch: encodes a broadcast once for each wire format",
        seen="V1 clients get V2 frames when clients of both versions have joined in turn.",
        tests=_PUBSUB,
        found_by_tests=False,
    ),
    Mutant(
        name="a message that is too large looks like a loss to other nodes",
        module="channels.pubsub.exchange",
        function="Exchange._message",
        shape="self._numbers.take_back(L)",
        replacement="",
        promise="Exchange.message: the next envelope gets the number of a refused one",
        seen="Other nodes count and log lost messages that were never sent.",
        tests=_PUBSUB,
    ),
    Mutant(
        name="a worker forgets how many bytes wait after a partial write",
        module="channels.pubsub.workers.links",
        function="Link.flush",
        shape="self.waiting_bytes -= sent",
        replacement="self.waiting_bytes -= size",
        promise="WorkersAdapter: max_waiting_bytes limits the bytes that wait",
        seen="A worker beside a slow one uses more and more memory, and its statistics are negative.",
        tests=_PUBSUB,
    ),
    # Presence
    Mutant(
        name="two reads of a topic between two announcements count as one",
        module="channels.presence.diff",
        function="DiffBuffer.note_read",
        shape="P.reads += 1",
        replacement="P.reads = 1",
        promise="DiffBuffer: after a read, the next message has the last change of the entry",
        seen="A client that joined at that moment shows a user who has left.",
        tests=_PRESENCE,
        found_by_tests=False,
    ),
    Mutant(
        name="other nodes keep the latest presence of the last message after it has left",
        module="channels.presence.state",
        function="State._drop",
        shape="T <= self._start",
        replacement="T < self._start",
        promise="State: after the exchange all nodes have the same presences",
        seen="Users who have left stay present on other nodes.",
        tests=_PRESENCE,
    ),
    Mutant(
        name="a presence stays if its owner ends while no tracker runs",
        module="channels.presence.tracker",
        function="Tracking._owner_ended",
        shape="self.roster.owner_ended(AA)",
        replacement="""\
if self.tracker is None or not is_alive(self.tracker):
    return
self.roster.owner_ended(AA)
""",
        promise="docs/reference/presence.md: removes the presences of processes that ended in the meantime",
        seen="Users whose channel ends during a crash of the tracker never leave.",
        tests=_PRESENCE,
    ),
    # Durable topics
    Mutant(
        name="a second forgotten topic lowers the offset of new topics",
        module="channels.durable.memory",
        function="MemoryStorage._evict",
        shape="max(self._floor, L)",
        replacement="L",
        promise="docs/reference/durable.md: a position names one place in the history of a topic",
        seen="A client of a forgotten topic reconnects, and misses new messages without an error.",
        tests=_DURABLE,
    ),
    Mutant(
        name="a storage accepts an append with a fence above the claimed one",
        module="channels.durable.sqlite",
        function="_refused",
        shape="C != M.fence",
        replacement="(C or 0) > (M.fence or 0)",
        promise="Storage.append: the fence of each message must equal the claimed fence of its topic",
        seen="A process that never claimed its topic writes over the state of the owner.",
        tests=_DURABLE,
    ),
    Mutant(
        name="a second owner can claim an equal fence",
        module="channels.durable.memory",
        function="MemoryStorage.claim",
        shape="F <= C",
        replacement="F < C",
        promise="Storage.claim: an equal fence is refused",
        seen="After a failover of the arbiter, two owners write to one topic in turn.",
        tests=_DURABLE,
    ),
    Mutant(
        name="three equal pushes at once are handled twice",
        module="channels.durable.history",
        function="History.begin",
        shape="""\
while (E := self._handled.get(K)) is not None:
    AA
""",
        replacement="""\
if (E := self._handled.get(K)) is not None:
    AA
""",
        promise="History.begin: waits while another channel handles a push with the key",
        seen="A push that a client repeats over several connections has two results.",
        tests=_DURABLE,
        found_by_tests=False,
    ),
    Mutant(
        name="a client that missed all kept messages counts as too old",
        module="channels.durable.stream",
        function="recover",
        shape="P.offset + 1 < F.first",
        replacement="P.offset < F.first",
        promise="recover: a client gets every message after its position if the storage has them",
        seen="A client that could recover reloads everything.",
        tests=_DURABLE,
    ),
    Mutant(
        name="a check tells the channels of one message less than the storage has",
        module="channels.durable.history",
        function="History._check",
        shape="E.offsets.get(T, 0)",
        replacement="E.offsets.get(T, 0) - 1",
        promise="History(check_interval=): the joined topics are checked for messages that did not arrive",
        seen="If the last message of a topic is lost between nodes, clients miss it until the next message.",
        tests=_DURABLE,
    ),
    Mutant(
        name="the storage in Redis tells the channels of one message less than it has",
        module="channels.durable.redis",
        function="RedisStorage.ends",
        shape="((E, L) for E, L in zip(S, M, strict=True) if L)",
        replacement="((E, L - 1) for E, L in zip(S, M, strict=True) if L)",
        promise="RedisStorage.ends: the last offset of each kept topic",
        seen="A node that was cut off while the last message of a topic was kept never sends it.",
        tests=_DURABLE,
    ),
    Mutant(
        name="a history does not repeat a failed check",
        module="channels.durable.history",
        function="History._check",
        shape="self._doubt.set()",
        replacement="",
        promise="history._RETRY: seconds until the history repeats a failed check",
        seen="After a failure of the storage, clients lack messages for up to half a minute.",
        tests=_DURABLE,
    ),
    Mutant(
        name="a channel reads its history before it follows the topic",
        module="channels.durable.server",
        function="DurableChannelServer._accept",
        shape="H.follow(T)\nR = await H.recover(AA)",
        replacement="R = await H.recover(AA)\nH.follow(T)",
        promise="DurableChannel: a client gets each message after its position once, in order",
        seen="A client misses a message that was kept while it joined, until the next message.",
        tests=_DURABLE,
    ),
    # The client
    Mutant(
        name="the client folds the presence changes before a state again after the next state",
        module="channels.client.presence_fold",
        function="PresenceFold.apply_state",
        shape="self.pending.clear()",
        replacement="",
        promise="PresenceFold: a diff applies once",
        seen="After a second presence_state the client shows users who left long ago.",
        tests=_CLIENT,
    ),
    Mutant(
        name="a push that still waits does not fail when its channel closes",
        module="channels.client.protocol",
        function="Protocol._end",
        shape="(*P, *B)",
        replacement="tuple(P)",
        promise="ClientChannel.push: raises ChannelClosed; a push fails as soon as its channel closes",
        seen="A program waits for the whole timeout of a push to a channel that it has left.",
        tests=_CLIENT,
        found_by_tests=False,
    ),
    Mutant(
        name="a channel of the client counts sent pushes as buffered",
        module="channels.client.protocol",
        function="Protocol._joined",
        shape="C.buffered = 0",
        replacement="",
        promise="open_socket: max_buffered limits the pushes that wait",
        seen="After some lost connections every push raises BufferFull.",
        tests=_CLIENT,
        found_by_tests=False,
    ),
    Mutant(
        name="a client does not come back after a heartbeat without an answer",
        module="channels.client.protocol",
        function="Protocol._heartbeat_timed_out",
        shape="self._schedule_reconnect()",
        replacement="",
        promise="docs/reference/client.md: the client keeps the connection open",
        seen="A client whose network went silent never connects again.",
        tests=_CLIENT,
    ),
)
